"""One training step as one compiled program: losses, gradients, update, metrics."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array
from jax.sharding import Mesh, NamedSharding

from leco_jax.configuration import at_least, check, internal
from leco_jax.models.llama import Llama
from w2s_jax.training.batch_scores import BATCH_AXES, batch_stats, compute_copy, row_logprobs
from w2s_jax.training.data.sources import process_rows
from w2s_jax.training.objectives import Objective, loss_and_metrics, totals
from w2s_jax.training.optimizer import optimizer_shardings

# Where the reference's log-probabilities come from.
REFERENCES = ("none", "frozen", "lora_off", "stored")


class TrainState(NamedTuple):
    """Everything that a step changes, and so everything that a checkpoint must hold.

    `step` is an int32 scalar, the number of steps done. The same tuple holds shardings or shapes.
    """

    step: Any
    trainable: Any
    opt_state: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepConfig:
    """How a step is computed; none of it changes what is computed, up to rounding."""

    accumulate: int = 1  # parts into which a batch is cut, to save memory
    # what the backward pass recomputes: "none", "full", "dots" or "dots_no_batch"
    remat: Literal["none", "full", "dots", "dots_no_batch"] = "full"
    # statistics to watch beside the log-probability: "entropy", "max_logprob" (gives
    # mean_token_accuracy)
    stats: tuple[str, ...] = ("entropy", "max_logprob")
    # where a preference loss finds its reference: "frozen" (a copy of the start weights),
    # "lora_off" (the base under the adapter), "stored" (in the batch) or "none"
    reference: str = internal("none")
    # positions of a row with a loss mask, at most: statistics of others are not computed. None: of
    # every position
    most_scored: int | None = internal(None)
    seed: int = internal(0)  # of dropout; a step's key is a function of it and of the step's number

    def __post_init__(self):
        check(self)
        at_least(self, accumulate=1)
        if self.reference not in REFERENCES:
            raise ValueError(f"reference {self.reference!r} is not one of {', '.join(REFERENCES)}")


def place_batch(batch: dict[str, np.ndarray], mesh: Mesh, *, pairs: bool) -> dict[str, Array]:
    """Puts this process's rows of a batch, arrays [rows, ...], on its devices of the mesh.

    The rows are as `process_rows` lists them. With `pairs` (the chosen rows first, then the
    rejected ones) the global batch is [pairs, 2, ...], so that a pair lives on one device.
    """
    sharding = NamedSharding(mesh, jax.P(BATCH_AXES))
    shards = math.prod(mesh.shape[axis] for axis in BATCH_AXES)
    mine = process_rows(mesh, shards)

    def place(x: np.ndarray) -> Array:
        if pairs:
            x = np.ascontiguousarray(np.moveaxis(x.reshape(2, -1, *x.shape[1:]), 0, 1))
        held = dict(zip(mine, np.split(x, len(mine)), strict=True))
        size = len(x) // len(mine)

        def part(index: Any) -> np.ndarray:
            return held[(index[0].start or 0) // size]

        return jax.make_array_from_callback((shards * size, *x.shape[1:]), sharding, part)

    # The one transfer to the devices that the loop wants.
    with jax.transfer_guard_host_to_device("allow"):
        return {name: place(np.asarray(x)) for name, x in batch.items()}


def split_model(model: Llama) -> tuple[nnx.GraphDef, dict, dict]:
    """Splits a model into what a compiled step takes: (graph, trainable, rest).

    The module without arrays; the state that is trained: the adapters if there are any, else all
    weights; the rest of the state. The states are nested dicts of the module's own arrays;
    `nnx.update(model, state)` puts them back.
    """
    trained = nnx.LoRAParam if model.lora is not None else nnx.Param
    graph, trainable, *(rest,) = nnx.split(model, trained, ...)
    return graph, nnx.to_pure_dict(trainable), nnx.to_pure_dict(rest)


def init_state(
    trainable: Any, tx: optax.GradientTransformation, mesh: Mesh
) -> tuple[TrainState, TrainState]:
    """Makes the state of step 0 and its shardings; moments are sharded like their weights."""
    shardings = state_shardings(trainable, tx, mesh)
    opt_state = jax.jit(tx.init, out_shardings=shardings.opt_state)(trainable)
    step = jax.device_put(np.zeros((), np.int32), shardings.step)
    return TrainState(step, trainable, opt_state), shardings


def state_shardings(trainable: Any, tx: optax.GradientTransformation, mesh: Mesh) -> TrainState:
    """Gives the shardings of the state of weights, which may be shapes with shardings."""
    whole = NamedSharding(mesh, jax.P())
    weights = jax.tree.map(lambda x: x.sharding, trainable)
    return TrainState(whole, weights, optimizer_shardings(tx, trainable, weights, mesh))


def abstract_state(
    trainable: Any, tx: optax.GradientTransformation, mesh: Mesh
) -> tuple[TrainState, TrainState]:
    """Gives what `init_state` gives, of shapes and as shapes: for compiling without weights."""
    shardings = state_shardings(trainable, tx, mesh)
    step = jax.ShapeDtypeStruct((), jnp.int32)
    state = TrainState(step, trainable, jax.eval_shape(tx.init, trainable))
    place = lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s)  # noqa: E731
    return jax.tree.map(place, state, shardings), shardings


def abstract_batch(
    rows: int, length: int, mesh: Mesh, *, pairs: bool, reference: bool = False
) -> dict[str, jax.ShapeDtypeStruct]:
    """Gives the shapes of a placed batch of `rows` rows (pairs, with `pairs`)."""
    sharding = NamedSharding(mesh, jax.P(BATCH_AXES))
    lead = (rows, 2) if pairs else (rows,)
    ints = ("tokens", "targets", "positions", "segment_ids")
    shapes = dict.fromkeys(ints, (jnp.int32, (*lead, length)))
    shapes["loss_mask"] = (jnp.float32, (*lead, length))
    if reference:
        shapes["reference_logprob"] = (jnp.float32, lead)
    return {
        name: jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)
        for name, (dtype, shape) in shapes.items()
    }


def _losses(graph: nnx.GraphDef, objective: Objective, config: StepConfig, mesh: Mesh) -> Callable:
    """Makes (trainable, frozen, batch part, totals, key) -> (loss, metrics)."""
    if objective.needs_reference != (config.reference != "none"):
        raise ValueError(
            f"objective {objective.name!r} "
            + ("needs a reference" if objective.needs_reference else "has no use for a reference")
            + f", but reference={config.reference!r}"
        )

    def reference_logprob(frozen, batch, model):
        if config.reference == "none":
            return None
        if config.reference == "stored":
            return batch["reference_logprob"]
        params = frozen["reference" if config.reference == "frozen" else "base"]
        return row_logprobs(params, batch, model, mesh, most_scored=config.most_scored)

    def loss_fn(trainable, frozen, batch, counts, key):
        policy = nnx.merge(graph, trainable, frozen.get("base", {}))
        stats = batch_stats(
            compute_copy(policy.adapted(dropout_key=key), policy.config),
            batch,
            config=policy.config,
            mesh=mesh,
            remat=config.remat,
            stats=("logprob", *config.stats),
            most_scored=None if objective.reads_prompts else config.most_scored,
        )
        reference_B2 = jax.lax.stop_gradient(reference_logprob(frozen, batch, policy.config))
        return loss_and_metrics(objective, stats, batch, counts, reference_B2)

    return loss_fn


def make_train_step(
    *,
    graph: nnx.GraphDef,
    objective: Objective,
    tx: optax.GradientTransformation,
    schedule: optax.Schedule,
    mesh: Mesh,
    shardings: TrainState,
    config: StepConfig,
) -> Any:
    """Returns the jitted train step, compiled when it is first called.

    Args:
      graph: the model without arrays, from `split_model`.
      objective: what is minimised.
      tx: the optimiser.
      schedule: its learning rate, to be reported.
      mesh: ("data", "fsdp", "tensor").
      shardings: of the state, from `init_state`.
      config: how the step is computed.

    Returns:
      step(state, frozen, batch) -> (state, metrics). The state is donated: use the returned one.
      `frozen` is a dict: "base", the rest of the model's state, where adapters are trained;
      "reference", the reference's weights, where they are a copy.
    """
    loss_fn = _losses(graph, objective, config, mesh)
    gradient_fn = jax.value_and_grad(loss_fn, has_aux=True)
    parts = config.accumulate

    def train_step(state: TrainState, frozen: Any, batch: dict[str, Array]):
        key = jax.random.fold_in(jax.random.key(config.seed), state.step)
        counts = totals(objective, batch)
        if parts == 1:
            (_, metrics), gradients = gradient_fn(state.trainable, frozen, batch, counts, key)
        else:

            def accumulate(sums, part):
                index, batch = part
                (_, metrics), gradients = gradient_fn(
                    state.trainable, frozen, batch, counts, jax.random.fold_in(key, index)
                )
                return jax.tree.map(jnp.add, sums, (metrics, gradients)), None

            split = jax.tree.map(lambda x: _split(x, parts), batch)
            part = jax.tree.map(lambda x: x[0], split)
            shapes = jax.eval_shape(gradient_fn, state.trainable, frozen, part, counts, key)
            (_, metrics), gradients = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
            gradients = jax.lax.with_sharding_constraint(gradients, shardings.trainable)
            (metrics, gradients), _ = jax.lax.scan(
                accumulate, (metrics, gradients), (jnp.arange(parts), split)
            )

        with jax.named_scope("update"):
            updates, opt_state = tx.update(gradients, state.opt_state, state.trainable)
            trainable = optax.apply_updates(state.trainable, updates)
        metrics |= {
            "grad_norm": optax.tree.norm(gradients),
            "update_norm": optax.tree.norm(updates),
            "learning_rate": jnp.asarray(schedule(state.step), jnp.float32),
            "num_tokens": jnp.sum((batch["segment_ids"] > 0).astype(jnp.float32)),
            "loss_fraction": jnp.mean(batch["loss_mask"]),
        }
        return TrainState(state.step + 1, trainable, opt_state), metrics

    whole = NamedSharding(mesh, jax.P())
    return jax.jit(train_step, donate_argnums=0, out_shardings=(shardings, whole))


def make_eval_step(
    *, graph: nnx.GraphDef, objective: Objective, mesh: Mesh, config: StepConfig
) -> Callable:
    """Gives the jitted (trainable, frozen, batch) -> metrics, without dropout.

    Its metric "rows" counts the rows (pairs) that are not padding.
    """
    loss_fn = _losses(graph, objective, config, mesh)

    def eval_step(trainable: Any, frozen: Any, batch: dict[str, Array]):
        counts = totals(objective, batch)
        _, metrics = loss_fn(trainable, frozen, batch, counts, None)
        return metrics | {"rows": counts["pairs" if objective.pairs else "sequences"]}

    return jax.jit(eval_step, out_shardings=NamedSharding(mesh, jax.P()))


def _split(x: Array, parts: int) -> Array:
    """[B, ...] to [parts, B / parts, ...] without moving a row to another device."""
    if x.shape[0] % parts:
        raise ValueError(f"a batch of {x.shape[0]} rows cannot be cut into {parts} equal parts")
    x = jnp.moveaxis(x.reshape(x.shape[0] // parts, parts, *x.shape[1:]), 1, 0)
    return jax.lax.with_sharding_constraint(x, jax.P(None, BATCH_AXES))
