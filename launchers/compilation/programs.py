"""The launchers' programs as they would be compiled on slices: shapes in the place of arrays.

Each is the function that the launcher itself runs, lowered for the devices of a topology.
"""

import collections
import dataclasses
import math
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh

from launchers.compilation.chips import Slices
from leco_jax.decoding import programs as decoding
from leco_jax.decoding.cache import abstract_cache
from leco_jax.decoding.cache_attention import keys_layout
from leco_jax.decoding.row_cache import slots_for
from leco_jax.decoding.rows import to_rows
from leco_jax.evaluation.chain_scoring import response_stats
from leco_jax.evaluation.experiment import engine_options
from leco_jax.evaluation.experiment_config import ExperimentConfig
from leco_jax.models.architectures import preset
from leco_jax.models.config import ModelConfig
from leco_jax.models.llama import Llama
from leco_jax.models.loading.load import load_config
from leco_jax.models.lora import abstract_adapters
from leco_jax.models.sharding import MESH_AXES, make_mesh
from leco_jax.models.weights import abstract_params
from leco_jax.scoring.presets import PRESETS
from leco_jax.shapes import power_of_two
from w2s_jax.training.job import reference_of
from w2s_jax.training.job_config import TrainingConfig
from w2s_jax.training.metrics import train_flops_per_token
from w2s_jax.training.objectives import PREFERENCE
from w2s_jax.training.optimizer import make_optimizer, make_schedule
from w2s_jax.training.train_step import (
    abstract_batch,
    abstract_state,
    make_train_step,
    split_model,
)

TRAINING = ("sft", "dpo")
GENERATION = ("score", "prefill", "decode")
PROGRAMS = (*GENERATION, *TRAINING)
_STEPS = 1000  # of a training run whose data are not known
_LEAST_PROMPT = 32


@dataclasses.dataclass(frozen=True)
class Options:
    """What a config does not say.

    Attributes:
      architecture: a preset whose sizes stand for the config's model; "": the config's own.
      prompt_length: tokens of a prompt (score, prefill, decode), without a shared prefix.
      batch_tokens: of `score`.
    """

    architecture: str = ""
    prompt_length: int = 512
    batch_tokens: int = 4096


@dataclasses.dataclass(frozen=True)
class Program:
    """A program, its mesh, and what it holds.

    Attributes:
      mesh: what one copy of it runs on.
      copies: independent ones on all chips.
      batch: its size, in units of `unit`.
      multiple: batches are multiples of this; 0: powers of two.
      held: trees of shapes that lie in HBM between two calls, by what they are.
      beside: bytes a chip holds while it runs that are none of its arguments.
      tokens: that a call works on or makes, over one copy.
      model_flops: of a call over one copy, as MFU counts them.
      lower: makes the program for the compiler.
    """

    name: str
    mesh: Mesh
    copies: int
    batch: int
    multiple: int
    unit: str
    held: dict[str, Any]
    beside: float
    tokens: int
    model_flops: float
    lower: Callable[[], jax.stages.Lowered]


def training_program(
    name: str, config: TrainingConfig, slices: Slices, options: Options, batch: int | None = None
) -> Program:
    """The train step of `launchers.sft` or `launchers.dpo`, with `batch` rows (pairs) a step.

    Every position is scored: the most that the data can ask for.

    Raises:
      ValueError: a config of the other program, or a mesh or batch that does not fit the slices.
    """
    objective = config.objective
    if (objective.name in PREFERENCE) != (name == "dpo"):
        raise ValueError(f"config.objective.name={objective.name!r} is not one of --program={name}")
    if slices.num_slices > 1 and config.mesh.data == 1:
        raise ValueError(
            f"config.mesh.data=1 on {slices.num_slices} slices: give a multiple of their number"
        )
    if batch is not None:
        config = dataclasses.replace(config, data=dataclasses.replace(config.data, batch=batch))
    config.check_devices(len(slices.devices))
    sizes = dataclasses.asdict(config.mesh)
    mesh = make_mesh(**sizes, devices=slices.devices)
    model = _sizes(config.model, options, param_dtype=config.model.param_dtype)
    reference = reference_of(config)

    llama = Llama(model, params=abstract_params(model, mesh))
    if config.lora.rank:
        llama.add_adapters(config.lora, adapters=abstract_adapters(model, config.lora, mesh))
    graph, trainable, rest = split_model(llama)
    num_steps = config.run.num_steps or _STEPS + config.optimizer.warmup_steps
    tx = make_optimizer(config.optimizer, num_steps)
    state, shardings = abstract_state(trainable, tx, mesh)
    copy = None
    if reference == "frozen":
        copy = jax.tree.map(_in_dtype(model.dtype), llama.params)
    frozen = {"base": rest, "reference": copy}
    rows = abstract_batch(
        config.data.batch, config.data.length, mesh,
        pairs=objective.pairs, reference=reference == "stored",
    )  # fmt: skip
    step = make_train_step(
        graph=graph,
        objective=objective,
        tx=tx,
        schedule=make_schedule(config.optimizer, num_steps),
        mesh=mesh,
        shardings=shardings,
        config=dataclasses.replace(config.step, reference=reference, seed=config.seed),
    )

    def lower() -> jax.stages.Lowered:
        with jax.set_mesh(mesh):
            return step.lower(state, frozen, rows)

    tokens = config.data.batch * config.data.length * (2 if objective.pairs else 1)
    adapters = sum(math.prod(x.shape) for x in jax.tree.leaves(trainable)) if llama.lora else 0
    held: dict[str, Any] = {"parameters": (trainable, rest)}
    held["optimiser state"] = state.opt_state
    if copy is not None:
        held["reference"] = copy
    return Program(
        name=name,
        mesh=mesh,
        copies=1,
        batch=config.data.batch,
        multiple=mesh.shape["data"] * mesh.shape["fsdp"] * config.step.accumulate,
        unit="pairs" if objective.pairs else "rows",
        held=held,
        beside=0.0,
        tokens=tokens,
        model_flops=tokens * train_flops_per_token(model, config.data.length, adapters=adapters),
        lower=lower,
    )


def generation_program(
    name: str,
    config: ExperimentConfig,
    slices: Slices,
    options: Options,
    batch: int | None = None,
) -> Program:
    """A program of `launchers.leco` (prefill, decode) or `launchers.score`, on one replica.

    `batch` is the slots of decode, the prompt's tokens of prefill and the tokens of a batch of
    score.

    Raises:
      ValueError: replicas of `config.mesh.tensor` chips do not fit the slices.
    """
    model = _sizes(config.model, options, param_dtype=config.model.dtype)
    mesh = replica_mesh(config.mesh.tensor, slices)
    make = {"score": _score, "prefill": _prefill, "decode": _decode}[name]
    parts = make(model, config, mesh, options, batch)
    return Program(name=name, mesh=mesh, copies=len(slices.devices) // mesh.size, **parts)


def replica_mesh(tensor: int, slices: Slices) -> Mesh:
    """The first of the replicas of `tensor` chips that processes or whole slices would make."""
    by_process: dict[int, list[jax.Device]] = {}
    for device in slices.devices:
        by_process.setdefault(device.process_index, []).append(device)
    per_process = len(next(iter(by_process.values())))
    total = len(slices.devices)
    if tensor == total and slices.num_slices == 1:
        return make_mesh(tensor=tensor, devices=slices.devices)
    if tensor > per_process or per_process % tensor:
        raise ValueError(
            f"config.mesh.tensor={tensor}: a replica takes a divisor of the {per_process} chips of "
            f"a host of {slices}, or all {total} chips of one slice"
        )
    group = np.array(by_process[min(by_process)][:tensor]).reshape(1, 1, tensor)
    return Mesh(group, MESH_AXES, axis_types=(AxisType.Auto,) * 3)


def _sizes(section: Any, options: Options, *, param_dtype: str) -> ModelConfig:
    """The model of a config, without its weights."""
    named = options.architecture or getattr(section, "preset", None)
    if named:
        return preset(named, dtype=section.dtype, param_dtype=param_dtype)
    try:
        return load_config(section.name, dtype=section.dtype, param_dtype=param_dtype)[0]
    except FileNotFoundError as error:
        raise ValueError(
            f"config.model.name: {error}. --architecture=llama2_7b and so on give a model's sizes "
            "without its files"
        ) from None


def _in_dtype(dtype: str) -> Callable:
    return lambda x: jax.ShapeDtypeStruct(x.shape, jnp.dtype(dtype), sharding=x.sharding)


def _score(model, config, mesh, options: Options, batch: int | None) -> dict[str, Any]:
    length = power_of_two(options.prompt_length + config.generation.max_new_tokens, least=16)
    rows = max((batch or options.batch_tokens) // length, 1)
    rows = 1 << (rows.bit_length() - 1)  # as batches are padded
    longest = power_of_two(config.generation.max_new_tokens, least=16)
    params = abstract_params(model, mesh)
    step_preset = PRESETS["paper"]

    def lower() -> jax.stages.Lowered:
        with jax.set_mesh(mesh):
            return response_stats.lower(
                params, np.zeros((rows, length), np.int32), np.zeros(rows, np.int32),
                np.zeros((rows, longest), np.int32), config=model, stats=step_preset.stats,
                topk=step_preset.topk,
            )  # fmt: skip

    tokens = rows * length
    return {
        "batch": tokens, "multiple": 0, "unit": "tokens", "held": {"parameters": params},
        "beside": 0.0, "tokens": tokens, "lower": lower,
        "model_flops": tokens * train_flops_per_token(model, length) / 3,
    }  # fmt: skip


def _rows_of_cache(model, config, mesh, options: Options, rows: int) -> tuple[dict, dict, int]:
    """The engine's options, its cache at its largest, and the slots of a row."""
    engine = engine_options(
        config, config.leco.step_preset, longest=options.prompt_length, room=model.max_positions
    )
    with jax.set_mesh(mesh):
        keys = keys_layout()
    slots = slots_for(engine["max_length"] + engine["chunk"], keys)
    return engine, abstract_cache(model, rows=rows, slots=slots, keys=keys, mesh=mesh), slots


def _prefill(model, config, mesh, options: Options, batch: int | None) -> dict[str, Any]:
    length = power_of_two(batch or options.prompt_length, least=_LEAST_PROMPT)
    params = abstract_params(model, mesh, unstacked=True)
    _, cache, _ = _rows_of_cache(model, config, mesh, options, config.engine.slots)

    def lower() -> jax.stages.Lowered:
        with jax.set_mesh(mesh):
            return decoding.prefill.lower(
                params, None, np.zeros((1, length), np.int32), config=model, prefix_length=0
            )

    return {
        "batch": length, "multiple": 0, "unit": "prompt tokens", "held": {"parameters": params},
        "beside": chip_bytes(cache), "tokens": length, "lower": lower,
        "model_flops": length * train_flops_per_token(model, length) / 3,
    }  # fmt: skip


def _decode(model, config, mesh, options: Options, batch: int | None) -> dict[str, Any]:
    rows = batch or config.engine.slots
    params = abstract_params(model, mesh, unstacked=True)
    engine, cache, slots = _rows_of_cache(model, config, mesh, options, rows)
    chunk = engine["chunk"]

    def lower() -> jax.stages.Lowered:
        with jax.set_mesh(mesh):
            return decoding.decode.lower(
                params, cache, None, to_rows([None] * rows, chunk=chunk), np.zeros(2, np.int32),
                config=model, prefix_length=0, steps=chunk, stats=engine["stats"],
                topk=engine["topk"], capture=engine["capture"],
            )  # fmt: skip

    tokens = rows * chunk
    return {
        "batch": rows, "multiple": 1, "unit": "slots", "lower": lower, "tokens": tokens,
        "held": {"parameters": params, "cache": cache}, "beside": 0.0,
        # The last token of a full row sees all slots; `train_flops_per_token` halves the length.
        "model_flops": tokens * train_flops_per_token(model, 2 * slots) / 3,
    }  # fmt: skip


def chip_bytes(tree: Any) -> int:
    """Bytes of a tree of shapes on one chip, by their shardings."""
    return sum(map(_bytes, jax.tree.leaves(tree)))


def held_buffers(program: Program) -> list[tuple[float, str]]:
    """(bytes, what) of the arrays that a chip holds between two calls, the largest first.

    Those of a list, one for each layer, are added up.
    """
    found: collections.Counter[str] = collections.Counter()
    for kind, tree in program.held.items():
        for path, x in jax.tree_util.tree_leaves_with_path(tree):
            name = re.sub(r"\[\d+\]", "[*]", jax.tree_util.keystr(path))
            found[f"{kind}{name} {x.dtype}{list(x.shape)}"] += _bytes(x)
    return [(float(size), what) for what, size in found.most_common()]


def _bytes(x: jax.ShapeDtypeStruct) -> int:
    assert x.sharding is not None
    return math.prod(x.sharding.shard_shape(x.shape)) * jnp.dtype(x.dtype).itemsize
