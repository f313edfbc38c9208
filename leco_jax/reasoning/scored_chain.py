"""From a chain's tokens and captured statistics to its steps and their scores."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from leco_jax import scoring
from leco_jax.scoring.presets import StepPreset
from leco_jax.text.steps import Steps, split_steps
from leco_jax.text.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoredStep:
    """One step of a chain.

    Attributes:
        text: its line, label included, line break not.
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


def needed_stats(preset: StepPreset) -> tuple[str, ...]:
    """The statistics that have to be captured so that a preset's scores can be computed."""
    return ("logprob",) if preset.renormalise_topk is None else ("logprob", "topk_logmass")


def score_chain(
    tokens: Sequence[int],
    stats: Mapping[str, Sequence[float]],
    tokenizer: Tokenizer,
    preset: StepPreset,
) -> list[ScoredStep]:
    """Splits a chain into steps and scores them.

    Args:
        tokens: ids after the prompt.
        stats: `logprob` of each token, and `topk_logmass` if the preset renormalises.
        tokenizer: whose texts hold the line breaks and labels.
        preset: which variant of the scores.
    """
    steps = split_steps(tokens, tokenizer, label=preset.label, score_eos=preset.score_eos)
    if not len(steps):
        return []
    logprob = np.asarray(stats["logprob"], np.float32)
    if preset.renormalise_topk is not None:
        # A token outside the top k would get more than its due: 1 at most.
        logprob = np.minimum(logprob - np.asarray(stats["topk_logmass"], np.float32), 0.0)
    scores = _padded_scores(logprob, steps, preset)
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


def _padded_scores(logprob: np.ndarray, steps: Steps, preset: StepPreset) -> scoring.StepScores:
    """Scores at the next power of two of tokens and steps, so that few shapes are compiled."""
    size, count = len(logprob), len(steps)
    num_tokens, num_steps = _power_of_two(size, 64), _power_of_two(count, 8)
    padding = (0, num_tokens - size)
    return jax.device_get(
        _scores(
            np.pad(logprob, padding),
            np.pad(steps.step_ids, padding, constant_values=-1),
            np.pad(steps.in_label, padding),
            num_steps=num_steps,
            preset=preset,
        )
    )


@functools.partial(jax.jit, static_argnames=("num_steps", "preset"))
def _scores(logprob, step_ids, in_label, *, num_steps: int, preset: StepPreset):
    return preset.step_scores(logprob, step_ids, in_label, num_steps=num_steps)


def _power_of_two(count: int, least: int) -> int:
    return max(least, 1 << (count - 1).bit_length())
