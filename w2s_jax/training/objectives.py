"""Which loss is trained: from per-token statistics of a batch to the loss and what to watch.

Everything is a sum over rows divided by a total of the whole batch (`totals`), so that the parts of
an accumulated batch add up to exactly the loss of the batch, however unevenly tokens are spread.
"""

import dataclasses
import inspect
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array

from leco_jax.configuration import check
from leco_jax.scoring import TokenStats
from w2s_jax.training import losses

WITH_REFERENCE = ("dpo", "cdpo", "robust", "ipo", "hinge", "sigmoid_norm")
WITHOUT_REFERENCE = ("simpo", "orpo")
PREFERENCE = WITH_REFERENCE + WITHOUT_REFERENCE

Batch = dict[str, Array]
Metrics = dict[str, Array]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Objective:
    """What is minimised."""

    name: str = "sft"  # "sft", or a preference loss: one of `PREFERENCE`
    # "sft": mean over "token"s of the batch or over "sequence"s
    reduction: Literal["token", "sequence"] = "token"
    # strength of the preference; for "orpo" the weight of the odds (the paper's lambda). None: the
    # loss's own default (0.1 to 5.0)
    beta: float | None = None
    flip: float = 0.1  # "cdpo", "robust": share of pairs whose label is wrong
    gamma: float | None = None  # "simpo": target margin. None: the loss's own default
    # "orpo": likelihood of the chosen "completion" (mean per row), or of "all" its tokens, prompt
    # included (mean over the batch, as in TRL)
    nll: Literal["completion", "all"] = "completion"
    # weight of the chosen completions' token-mean likelihood, added to any preference loss
    sft_weight: float = 0.0

    def __post_init__(self):
        check(self)
        if self.name != "sft" and self.name not in PREFERENCE:
            raise ValueError(f"objective {self.name!r} is not one of sft, {', '.join(PREFERENCE)}")
        if self.beta is not None and self.beta <= 0:
            raise ValueError(f"beta={self.beta} must be positive")
        losses.check_flip(self.flip)

    def option(self, name: str) -> float | None:
        """Gives "beta" or "gamma": as set, else the loss's own; None if the loss has no such."""
        given, loss = getattr(self, name), getattr(losses, self.name, None)
        if given is not None or loss is None:
            return given
        parameters = inspect.signature(loss).parameters
        return parameters[name].default if name in parameters else None

    @property
    def pairs(self) -> bool:
        """Whether batches hold preference pairs."""
        return self.name != "sft"

    @property
    def reads_prompts(self) -> bool:
        """Whether log-probabilities of prompt tokens are part of the loss."""
        return self.name == "orpo" and self.nll == "all"

    @property
    def needs_reference(self) -> bool:
        """Whether the loss compares with a reference model."""
        return self.name in WITH_REFERENCE


def totals(objective: Objective, batch: Batch) -> Metrics:
    """Counts what the loss of the whole batch (see `loss_and_metrics`) is divided by; never 0."""
    mask = batch["loss_mask"]
    counts = {"tokens": jnp.sum(mask)}
    if objective.pairs:
        real_B2 = jnp.any(mask > 0, axis=-1)
        counts["pairs"] = jnp.sum(jnp.all(real_B2, axis=-1).astype(jnp.float32))
        counts["chosen_tokens"] = jnp.sum(mask[:, 0])
        counts["chosen_all"] = jnp.sum((batch["segment_ids"][:, 0] > 0).astype(jnp.float32))
    else:
        counts["sequences"] = jnp.sum(jnp.any(mask > 0, axis=-1).astype(jnp.float32))
    return {name: jnp.maximum(count, 1.0) for name, count in counts.items()}


def loss_and_metrics(
    objective: Objective,
    stats: TokenStats,
    batch: Batch,
    counts: Metrics,
    reference_B2: Array | None = None,
) -> tuple[Array, Metrics]:
    """Computes the loss of a batch, or of one part of it, and what to watch.

    Args:
      objective: what is minimised.
      stats: log-probabilities and entropies, shaped as the batch.
      batch: arrays [B, T], or [B, 2, T] if the objective has pairs.
      counts: `totals` of the whole batch.
      reference_B2: the reference's log-probabilities of the chosen and rejected completions, sums.

    Returns:
      The loss, and a dict of scalars under TRL's names; over the parts of a batch both add up.
    """
    if stats.logprob is None:
        raise ValueError("the loss needs the statistic 'logprob'")
    mask = batch["loss_mask"]
    metrics: Metrics = {}
    with jax.named_scope("loss"):
        if objective.pairs:
            loss, metrics = _preference(objective, stats.logprob, batch, counts, reference_B2)
        elif objective.reduction == "token":
            loss = losses.sft_token_mean(stats.logprob, mask, tokens=counts["tokens"])
        else:
            loss = losses.sft_sequence_mean(stats.logprob, mask, rows=counts["sequences"])
    if stats.entropy is not None:
        entropy = jax.lax.stop_gradient(stats.entropy)
        metrics["entropy"] = jnp.sum(losses.sequence_sum(entropy, mask)) / counts["tokens"]
    if stats.max_logprob is not None:
        top = jax.lax.stop_gradient(stats.logprob >= stats.max_logprob).astype(jnp.float32)
        metrics["mean_token_accuracy"] = jnp.sum(top * mask) / counts["tokens"]
    return loss, metrics | {"loss": loss}


def zero_margin_loss(objective: Objective) -> float:
    """The loss of a policy that is its own reference, but for the part of `sft_weight`."""
    return float(_against_reference(objective, jnp.zeros((1, 2)), jnp.ones((1, 2)))[0])


def _against_reference(objective: Objective, ratio_B2: Array, length_B2: Array) -> Array:
    args: tuple[Any, ...] = (ratio_B2[:, 0], ratio_B2[:, 1])
    if objective.name in ("ipo", "sigmoid_norm"):
        args += (length_B2[:, 0], length_B2[:, 1])
    options = {"flip": objective.flip} if objective.name in ("cdpo", "robust") else {}
    return getattr(losses, objective.name)(*args, beta=objective.option("beta"), **options)


def _preference(objective, logprob, batch, counts, reference_B2):
    mask = batch["loss_mask"]
    sum_B2 = losses.sequence_sum(logprob, mask)
    mean_B2 = losses.sequence_mean(logprob, mask)
    length_B2 = jnp.sum(mask, axis=-1)
    # A pair of which one side has no completion (padding of the batch) takes no part.
    real_B = jnp.all(length_B2 > 0, axis=-1)

    def mean(value_B: Array) -> Array:
        return jnp.sum(jnp.where(real_B, value_B, 0.0)) / counts["pairs"]

    metrics: Metrics = {}
    beta, name = objective.option("beta"), objective.name
    if objective.needs_reference:
        if reference_B2 is None:
            raise ValueError(f"objective {name!r} needs the reference's log-probabilities")
        ratio_B2 = sum_B2 - jax.lax.stop_gradient(reference_B2)
        reward_B2, logps_B2 = beta * ratio_B2, sum_B2
        loss = mean(_against_reference(objective, ratio_B2, length_B2))
    else:
        reward_B2, logps_B2 = beta * mean_B2, mean_B2
        chosen_B, rejected_B = mean_B2[:, 0], mean_B2[:, 1]
        if name == "simpo":
            gamma = objective.option("gamma")
            loss = mean(losses.simpo(chosen_B, rejected_B, beta=beta, gamma=gamma))
        else:
            if objective.nll == "completion":
                nll = mean(-chosen_B)
            else:
                all_BT = (batch["segment_ids"][:, 0] > 0).astype(jnp.float32)
                nll = losses.sft_token_mean(logprob[:, 0], all_BT, tokens=counts["chosen_all"])
            log_odds_B = losses.log_odds_ratio(chosen_B, rejected_B)
            odds_B = losses.orpo(jnp.zeros_like(chosen_B), chosen_B, rejected_B, beta=beta)
            loss = nll + mean(odds_B)
            metrics |= {"nll_loss": nll, "log_odds_chosen": mean(log_odds_B)}
            metrics["log_odds_ratio"] = mean(jax.nn.log_sigmoid(log_odds_B))
    if objective.sft_weight:
        chosen_tokens = counts["chosen_tokens"]
        sft = losses.sft_token_mean(logprob[:, 0], mask[:, 0], tokens=chosen_tokens)
        loss += objective.sft_weight * sft
        metrics["sft_loss"] = sft

    watched = losses.reward_metrics(reward_B2[:, 0], reward_B2[:, 1])
    watched |= {"logps/chosen": logps_B2[:, 0], "logps/rejected": logps_B2[:, 1]}
    metrics |= {key: mean(value_B) for key, value_B in watched.items()}
    return loss, metrics
