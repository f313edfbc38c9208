"""What a model's confidence says of each step of a given chain; small is suspect, always."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from leco_jax.evaluation.chain_scoring import GivenChain, token_figures
from leco_jax.models.loading import LoadedModel
from leco_jax.reasoning.chain_reader import score_chain
from leco_jax.scoring.presets import StepPreset
from leco_jax.text.steps import split_steps

# LeCo's score and its parts, the weakest token's probability, the means of two token statistics,
# two of them against their usual value at this place of a chain, AdaptiveStep (arXiv 2502.13943).
FIGURES = (
    "score", "average", "divergence", "transition", "weakest_token", "entropy", "self_certainty",
    "score, position", "weakest_token, position", "adaptive_step",
)  # fmt: skip
_BOUNDARIES = 0.02  # share of all tokens that AdaptiveStep makes boundaries: the least probable
_LEAST_CHAINS = 10  # that a place must have; later ones count with the last that has them


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepFigures:
    """The steps of one chain.

    Attributes:
      texts: the steps' lines.
      figures: `[S]` each, by the names of `FIGURES`.
    """

    texts: tuple[str, ...]
    figures: dict[str, np.ndarray]


def step_figures(
    model: LoadedModel, chains: Sequence[GivenChain], preset: StepPreset, *, batch_tokens: int
) -> list[StepFigures]:
    """Scores chains with a model and computes all figures.

    Args:
      model: whose confidence is asked for.
      chains: a step a line; those for which a place's usual value and AdaptiveStep's threshold are
        taken, without any label.
      preset: which variant of the step scores.
      batch_tokens: most tokens of a batch, padding included.
    """
    stats = tuple(dict.fromkeys((*preset.stats, "entropy", "self_certainty")))
    by_chain = token_figures(
        model, chains, stats=stats, topk=preset.topk, batch_tokens=batch_tokens
    )
    made, tokens = [], []
    for chain, own in zip(chains, by_chain, strict=True):
        scored = score_chain(chain.response, own, model.tokenizer, preset)
        step_ids = split_steps(chain.response, model.tokenizer, label=preset.label).step_ids
        probability = np.exp(own["logprob"].astype(np.float64))
        tokens.append((step_ids[step_ids >= 0], probability[step_ids >= 0]))
        inside = [step_ids == i for i in range(len(scored))]
        figures = {
            "score": [step.score for step in scored],
            "average": [step.average for step in scored],
            "divergence": [-step.divergence for step in scored],
            "transition": [step.transition for step in scored],
            "weakest_token": [probability[own_tokens].min() for own_tokens in inside],
            "entropy": [-own["entropy"][own_tokens].mean() for own_tokens in inside],
            "self_certainty": [own["self_certainty"][own_tokens].mean() for own_tokens in inside],
        }
        made.append(
            StepFigures(
                texts=tuple(step.text for step in scored),
                figures={name: np.asarray(values) for name, values in figures.items()},
            )
        )
    for name in ("score", "weakest_token"):
        against = against_place([chain.figures[name] for chain in made])
        for made_of, values in zip(made, against, strict=True):
            made_of.figures[f"{name}, position"] = values
    for made_of, values in zip(made, boundaries(tokens), strict=True):
        made_of.figures["adaptive_step"] = -1.0 * np.bincount(values, minlength=len(made_of.texts))
    return made


def against_place(figures: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Each step's figure less the mean of its place over all chains, in standard deviations."""
    longest = max(map(len, figures))
    counts = [sum(len(own) > place for own in figures) for place in range(longest)]
    last = max((p for p, count in enumerate(counts) if count >= _LEAST_CHAINS), default=0)
    at: list[list[float]] = [[] for _ in range(last + 1)]
    for own in figures:
        for place, value in enumerate(own):
            at[min(place, last)].append(value)
    mean = np.array([np.mean(values) for values in at])
    spread = np.array([max(np.std(values), 1e-6) for values in at])
    places = [np.minimum(np.arange(len(own)), last) for own in figures]
    return [(own - mean[p]) / spread[p] for own, p in zip(figures, places, strict=True)]


def boundaries(tokens: Sequence[tuple[np.ndarray, np.ndarray]]) -> Iterator[np.ndarray]:
    """Yields for each chain the steps in which its boundary tokens lie, one entry a token.

    Args:
      tokens: of each chain the step and the probability of each scored token.
    """
    everything = np.concatenate([probability for _, probability in tokens])
    threshold = np.quantile(everything, _BOUNDARIES)
    for steps, probability in tokens:
        yield steps[probability <= threshold]
