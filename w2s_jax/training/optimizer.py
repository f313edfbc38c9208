"""The optimiser: optax transformations chosen by a small config, state sharded as weights."""

import dataclasses
import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding

from leco_jax.configuration import at_least, check


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """How weights are updated."""

    # "adamw", or "adafactor" (second moments factored: about half of AdamW's state)
    name: Literal["adamw", "adafactor"] = "adamw"
    learning_rate: float = 1e-5  # the peak, reached after warm-up
    # "constant", or "linear" or "cosine" decay to `final_ratio` of the peak
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    warmup_steps: int = 0  # steps of linear rise from 0
    final_ratio: float = 0.0  # the last step's learning rate over the peak
    b1: float = 0.9  # decay of the first moment (AdamW; Adafactor keeps none)
    b2: float = 0.999  # decay of the second moment (AdamW)
    eps: float = 1e-8  # added to the root of the second moment (AdamW)
    weight_decay: float = 0.0  # decoupled, multiplied by the learning rate
    # weights whose path contains one of these are not decayed
    no_decay: tuple[str, ...] = ("norm", "bias")
    clip_norm: float = 1.0  # gradients are scaled down to this global norm; 0: never
    moment_dtype: str | None = None  # dtype of AdamW's first moment; None: the weights' own

    def __post_init__(self):
        check(self)
        at_least(self, learning_rate=0, warmup_steps=0, clip_norm=0)


def make_schedule(config: OptimizerConfig, num_steps: int) -> optax.Schedule:
    """Makes the learning rate as a function of the step; warm-up must be shorter than the run."""
    if config.warmup_steps and config.warmup_steps >= num_steps:
        raise ValueError(
            f"warmup_steps={config.warmup_steps} leaves nothing of a run of {num_steps} steps"
        )
    peak, rest = config.learning_rate, max(num_steps - config.warmup_steps, 1)
    if config.schedule == "constant":
        after = optax.constant_schedule(peak)
    elif config.schedule == "linear":
        after = optax.linear_schedule(peak, peak * config.final_ratio, rest)
    else:
        after = optax.cosine_decay_schedule(peak, rest, alpha=config.final_ratio)
    if not config.warmup_steps:
        return after
    # Step 0 already learns: the first of n warm-up steps has 1/n of the peak.
    rise = optax.linear_schedule(peak / config.warmup_steps, peak, max(config.warmup_steps - 1, 1))
    return optax.join_schedules([rise, after], [config.warmup_steps])


def decay_mask(params: Any, no_decay: tuple[str, ...] = ("norm", "bias")) -> Any:
    """Says for each weight whether it is decayed; by name, since stacked norms are matrices too."""

    def decayed(path, _):
        return not any(word in jax.tree_util.keystr(path) for word in no_decay)

    return jax.tree_util.tree_map_with_path(decayed, params)


def clip_by_global_norm(most: float) -> optax.GradientTransformation:
    """Scales gradients down to a global norm of `most`, as `optax.clip_by_global_norm`.

    By one factor for all, which the update multiplies in as it goes: optax divides every gradient,
    and XLA stores what it divides, a second copy of all gradients.
    """

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del params
        factor = most / jnp.maximum(optax.tree.norm(updates), most)
        return jax.tree.map(lambda g: g * factor.astype(g.dtype), updates), state

    return optax.GradientTransformation(optax.init_empty_state, update)


def make_optimizer(config: OptimizerConfig, num_steps: int) -> optax.GradientTransformation:
    """Makes the whole update: clipping, moments, decay, learning rate."""
    if config.name == "adamw":
        moments = optax.scale_by_adam(
            b1=config.b1, b2=config.b2, eps=config.eps, mu_dtype=config.moment_dtype
        )
    else:
        # Without the weights' own scale: a learning rate means the same as with AdamW.
        moments = optax.chain(optax.scale_by_factored_rms(), optax.clip_by_block_rms(1.0))
    clip = decay = optax.identity()
    if config.clip_norm:
        clip = clip_by_global_norm(config.clip_norm)
    if config.weight_decay:
        mask = functools.partial(decay_mask, no_decay=config.no_decay)
        decay = optax.add_decayed_weights(config.weight_decay, mask)
    rate = optax.scale_by_learning_rate(make_schedule(config, num_steps))
    return optax.chain(clip, moments, decay, rate)


def optimizer_shardings(
    tx: optax.GradientTransformation, params: Any, shardings: Any, mesh: Mesh
) -> Any:
    """Gives each array of the optimiser's state the sharding of its weight.

    What has another shape than its weight (counters, Adafactor's factors) is small: replicated.
    `params` may be shapes.
    """
    whole = NamedSharding(mesh, jax.P())
    state = jax.eval_shape(tx.init, params)
    return optax.tree_map_params(
        tx,
        lambda leaf, weight, sharding: sharding if leaf.shape == weight.shape else whole,
        state,
        params,
        shardings,
        transform_non_params=lambda _: whole,
    )
