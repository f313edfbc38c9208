"""Reads an ended chain: its text, its answer, its steps and their scores."""

import codecs
import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from leco_jax import scoring
from leco_jax.decoding.request import Chain
from leco_jax.scoring.presets import StepPreset
from leco_jax.shapes import power_of_two
from leco_jax.text.answers import extract_answer, format_answer
from leco_jax.text.steps import Steps, closes_line, split_steps
from leco_jax.text.tokenizer import Tokenizer

TRUNCATED = ("unanswered", "read")
WEAK = 0.7  # tokens below this probability are stored: forks begin at such ones
_DIGITS = 5  # of figures that are written, after the point


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoredStep:
    """One step of a chain.

    Attributes:
      text: its line with the label, without the line break.
      tokens: `[start, end)` in the chain, label and closing token included.
      label_end: the first token that is not wholly in its label.
      average, divergence, transition, score: see `scoring.step_scores`.
    """

    text: str
    tokens: tuple[int, int]
    label_end: int
    average: float
    divergence: float
    transition: float
    score: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Round:
    """One pass of a chain, the kept beginning included, or one sample of several.

    Attributes:
      text: the whole chain as it stood at the end of the round.
      answer: the answer as text, None where none could be read.
      steps: its steps and their scores.
      sum_logprob, mean_logprob, min_logprob: sum, mean and least of the log-probabilities of all
        its tokens (nats), None where that is not finite (no token, or one that the sampling had
        excluded).
      kept: tokens taken over from the round before.
      appended: tokens that the policy put after them.
      sampled: tokens sampled in this round, the stop token included.
      finish: why it ended: "eos", "stop", "length", "nan", or what a watch said: "weak_step",
        "low_confidence".
      cut: the step at which the next round cut it; None for the last round.
      token_stats: for each statistic that the reader stores one number a token, None where it is
        not finite.
      token_ends: for each token the characters of `text` up to its end; empty if none is stored.
      spans: characters of `text` up to the end of what was kept, and of what was appended.
      weak_tokens: characters `[start, end)` of the tokens of a probability below `WEAK`, and that
        probability.
    """

    text: str
    answer: str | None
    steps: list[ScoredStep]
    sum_logprob: float | None
    mean_logprob: float | None
    min_logprob: float | None
    kept: int
    appended: int
    sampled: int
    finish: str
    cut: int | None = None
    token_stats: Mapping[str, Sequence[float | None]] = dataclasses.field(default_factory=dict)
    token_ends: Sequence[int] = ()
    spans: tuple[int, int] = (0, 0)
    weak_tokens: Sequence[tuple[int, int, float]] = ()


class Reading(NamedTuple):
    """A round, and its answer as a value of the question's kind (None: none could be read)."""

    round: Round
    answer: Any


@dataclasses.dataclass(frozen=True)
class ChainReader:
    """Reads the chains of one model.

    Attributes:
      tokenizer: of the model that wrote them.
      preset: which variant of the step scores.
      truncated: "unanswered": a chain that its token limit ended has no answer, whatever stands
        in it; "read": what stands in it counts.
      stored: statistics of each token that a round keeps; the engine captures them.
    """

    tokenizer: Tokenizer
    preset: StepPreset
    truncated: str = "read"
    stored: tuple[str, ...] = ()

    def __post_init__(self):
        if self.truncated not in TRUNCATED:
            raise ValueError(f"truncated={self.truncated!r} is not one of {', '.join(TRUNCATED)}")

    def read(
        self, chain: Chain, *, kind: str, kept: int = 0, appended: int = 0, answer_from: int = 0
    ) -> Reading:
        """Reads a chain that has ended.

        Args:
          chain: the chain; the engine captured `preset.stats`.
          kind: the kind of answer to look for.
          kept: tokens that it took over from the pass before.
          appended: tokens that were put after them.
          answer_from: the token from which on an answer is looked for.
        """
        text = self.tokenizer.decode(chain.tokens, skip_special=True, continuation=True)
        text += chain.tail.decode("utf-8", errors="replace")
        unanswered = chain.finish == "length" and self.truncated == "unanswered"
        ends = [0, *self.token_ends(chain)]
        stated = text[ends[answer_from] :]
        answer = None if unanswered else extract_answer(stated, kind=kind)
        logprob = chain.stats["logprob"]
        last = len(chain.tokens)  # a stop text may have cut into what was appended
        weak = [
            (ends[t], ends[t + 1], math.exp(logprob[t]))
            for t in range(last)
            if logprob[t] < math.log(WEAK) and ends[t + 1] > ends[t]
        ]
        return Reading(
            Round(
                text=text,
                answer=format_answer(answer, kind=kind),
                steps=score_chain(chain.tokens, chain.stats, self.tokenizer, self.preset),
                sum_logprob=_finite(math.fsum(logprob)),
                mean_logprob=_finite(math.fsum(logprob) / max(len(logprob), 1)),
                min_logprob=_finite(min(logprob, default=-math.inf)),
                kept=kept,
                appended=appended,
                sampled=chain.sampled,
                finish=str(chain.finish),
                token_stats={
                    name: [_finite(value) for value in chain.stats[name]] for name in self.stored
                },
                token_ends=ends[1:] if self.stored else (),
                spans=(ends[min(kept, last)], ends[min(kept + appended, last)]),
                weak_tokens=weak,
            ),
            answer,
        )

    def token_ends(self, chain: Chain) -> list[int]:
        """For each token of a chain the characters of `read`'s text up to its end."""
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        ends, length = [], 0
        for token in chain.tokens:
            if token not in self.tokenizer.special_ids:
                length += len(decoder.decode(self.tokenizer.token_bytes(token)))
            ends.append(length)
        return ends

    def closed_steps(self, chain: Chain, fresh: int = 0) -> list[ScoredStep]:
        """The steps that a line break has closed, scored as `read` will score them.

        Args:
          chain: the chain, perhaps still running.
          fresh: none are returned if no token from here on holds a line break.
        """
        end = len(chain.tokens)
        while end > fresh and not closes_line(chain.tokens[end - 1], self.tokenizer):
            end -= 1
        if end == fresh:
            return []
        return score_chain(chain.tokens[:end], chain.stats, self.tokenizer, self.preset)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def score_chain(
    tokens: Sequence[int],
    stats: Mapping[str, Sequence[float] | np.ndarray],
    tokenizer: Tokenizer,
    preset: StepPreset,
) -> list[ScoredStep]:
    """Splits a chain into steps and scores them.

    Args:
      tokens: ids after the prompt.
      stats: those of `preset.stats`, one number for each token; more are ignored.
      tokenizer: whose texts hold the line breaks and labels.
      preset: which variant of the scores.
    """
    steps = split_steps(tokens, tokenizer, label=preset.label, score_eos=preset.score_eos)
    return _scored(steps, stats, preset)


def score_stored(chain: Mapping[str, Any], preset: StepPreset) -> list[ScoredStep]:
    """Scores the steps of a stored round anew, by a preset with other numbers.

    Args:
      chain: a `Round` as a dict, with `logprob` in its `token_stats`.
      preset: scores labels like the run's own and true probabilities.
    """
    length = len(chain["token_ends"])
    step_ids, in_label = np.full(length, -1, np.int32), np.zeros(length, bool)
    starts = [0, *chain["token_ends"]]
    for i, step in enumerate(chain["steps"]):
        start, end = step["tokens"]
        in_label[start : step["label_end"]] = True
        for t in range(start if preset.label == "include" else step["label_end"], end):
            piece = chain["text"][starts[t] : starts[t + 1]]
            if piece and not {"\n", "\r"} & set(piece):  # special tokens have no text
                step_ids[t] = i
    steps = Steps(
        step_ids=step_ids,
        in_label=in_label,
        spans=tuple(tuple(step["tokens"]) for step in chain["steps"]),
        texts=tuple(step["text"] for step in chain["steps"]),
        label_ends=tuple(step["label_end"] for step in chain["steps"]),
    )
    return _scored(steps, chain["token_stats"], preset)


def _scored(
    steps: Steps, stats: Mapping[str, Sequence[float | None] | np.ndarray], preset: StepPreset
) -> list[ScoredStep]:
    if not len(steps):
        return []
    # At the next power of two of tokens and steps, so that few shapes are compiled.
    size = len(steps.step_ids)
    padding = (0, power_of_two(size, least=64) - size)
    scores = jax.device_get(
        _step_scores(
            {
                name: np.pad(np.asarray(stats[name][:size], np.float32), padding)
                for name in preset.stats
            },
            np.pad(steps.step_ids, padding, constant_values=-1),
            np.pad(steps.in_label, padding),
            num_steps=power_of_two(len(steps), least=8),
            preset=preset,
        )
    )
    return [
        ScoredStep(
            text=steps.texts[i],
            tokens=steps.spans[i],
            label_end=steps.label_ends[i],
            average=float(scores.average[i]),
            divergence=float(scores.divergence[i]),
            transition=float(scores.transition[i]),
            score=float(scores.score[i]),
        )
        for i in range(len(steps))
    ]


@functools.partial(jax.jit, static_argnames=("num_steps", "preset"))
def _step_scores(
    stats, step_ids, in_label, *, num_steps: int, preset: StepPreset
) -> scoring.StepScores:
    logprob = preset.logprob(scoring.TokenStats(**stats))
    return preset.step_scores(logprob, step_ids, in_label, num_steps=num_steps)


def rounded(value: Any) -> Any:
    """A tree of dicts, lists and tuples with every float rounded, five digits after the point.

    For figures that are written: a chain's tokens depend on its own request alone, but the last
    digits of its statistics do not, since the cache's size follows the longest chain in it, and
    with it the order in which attention adds up.
    """
    if isinstance(value, float):
        return round(value, _DIGITS) + 0.0  # no -0.0
    if isinstance(value, dict):
        return {name: rounded(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    return value
