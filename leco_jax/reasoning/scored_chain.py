"""From a chain's tokens and captured statistics to its steps and their scores."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from leco_jax import scoring
from leco_jax.scoring.presets import StepPreset
from leco_jax.shapes import power_of_two
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


def score_chain(
    tokens: Sequence[int],
    stats: Mapping[str, Sequence[float] | np.ndarray],
    tokenizer: Tokenizer,
    preset: StepPreset,
) -> list[ScoredStep]:
    """Splits a chain into steps and scores them.

    Args:
        tokens: ids after the prompt.
        stats: those of `preset.stats`, one number a token.
        tokenizer: whose texts hold the line breaks and labels.
        preset: which variant of the scores.
    """
    steps = split_steps(tokens, tokenizer, label=preset.label, score_eos=preset.score_eos)
    if not len(steps):
        return []
    scores = _padded_scores(stats, steps, preset)
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


def _padded_scores(
    stats: Mapping[str, Sequence[float] | np.ndarray], steps: Steps, preset: StepPreset
) -> scoring.StepScores:
    """Scores at the next power of two of tokens and steps, so that few shapes are compiled."""
    size = len(steps.step_ids)
    padding = (0, power_of_two(size, least=64) - size)
    return jax.device_get(
        _scores(
            {name: np.pad(np.asarray(stats[name], np.float32), padding) for name in preset.stats},
            np.pad(steps.step_ids, padding, constant_values=-1),
            np.pad(steps.in_label, padding),
            num_steps=power_of_two(len(steps), least=8),
            preset=preset,
        )
    )


@functools.partial(jax.jit, static_argnames=("num_steps", "preset"))
def _scores(stats, step_ids, in_label, *, num_steps: int, preset: StepPreset):
    logprob = preset.logprob(scoring.TokenStats(**stats))
    return preset.step_scores(logprob, step_ids, in_label, num_steps=num_steps)
