"""A training job: from a `TrainingConfig` to one call of `train`."""

import contextlib
import dataclasses
import functools
import itertools
import logging
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from leco_jax.configuration import as_json
from leco_jax.datasets.registry import load_problems
from leco_jax.models.sharding import make_mesh
from leco_jax.storage.paths import as_path
from leco_jax.storage.workdir import claim, lock
from leco_jax.text.tokenizer import Tokenizer
from w2s_jax.training import data as batches
from w2s_jax.training.checkpoints import newest
from w2s_jax.training.initial_weights import Start, load_start
from w2s_jax.training.job_config import DataConfig, TrainingConfig
from w2s_jax.training.loop import DataSource, TrainResult, train
from w2s_jax.training.metrics import tensorboard_module
from w2s_jax.training.optimizer import OptimizerConfig
from w2s_jax.training.processes import Stop, Stopped, raise_if_asked, same_everywhere
from w2s_jax.training.reference import frozen_copy, store_reference

_log = logging.getLogger(__name__)


def run_job(
    config: TrainingConfig, workdir: str | Path, *, stop: Stop = lambda: False
) -> TrainResult:
    """Trains as a config says, going on where an interrupted run of the same config stopped.

    `stop` is asked now and then, also while the run is prepared (see `processes`).

    Raises:
      ValueError: a config that says something impossible, a workdir of another config, or one in
        which another process writes.
      FileNotFoundError: a model or data that is not there.
      NonFiniteError: see `train`.
    """
    path = as_path(workdir)
    with lock(path) if jax.process_index() == 0 else contextlib.nullcontext():
        try:
            return _run(config, path, stop)
        except Stopped:
            return TrainResult(state=None, metrics={}, steps=0, interrupted=True)


def _run(config: TrainingConfig, workdir: Path, stop: Stop) -> TrainResult:
    objective = config.objective
    if config.run.tensorboard:
        tensorboard_module()  # Before anything is loaded.
    config.check_devices(jax.device_count())
    same_everywhere({"config": as_json(config)})
    mesh = make_mesh(**dataclasses.asdict(config.mesh))
    reference, lead = reference_of(config), jax.process_index() == 0

    start = load_start(config, mesh)
    raise_if_asked(stop)
    data, held_out = load_data(config, start.tokenizer, mesh, pairs=objective.pairs)
    files = {"data": data.fingerprint(), "checkpoint": newest(workdir / "checkpoints")}
    same_everywhere(files | {"held_out": held_out and held_out.fingerprint()})
    raise_if_asked(stop)
    optimizer = _warmed_up(config, config.run.steps(data))
    description = as_json(config)
    description["objective"] |= {name: objective.option(name) for name in ("beta", "gamma")}
    if lead:
        _claim(workdir, description, start, data)
    if reference == "stored":
        store = functools.partial(
            store_reference,
            params=start.model.params,
            directory=workdir / "reference",
            model=start.model.config,
            mesh=mesh,
            stop=stop,
        )
        data = store(data, num_steps=config.run.steps(data))
        if held_out:
            steps = min(config.run.eval_batches, held_out.num_steps_per_epoch)
            held_out = store(held_out, num_steps=steps)
    description["start"] = {"base": start.base, "identity": start.identity}
    model, copy = start.model, None
    if config.lora.rank:
        model.add_adapters(config.lora, rngs=jax.random.key(config.seed), mesh=mesh)
    elif reference == "frozen":
        copy = frozen_copy(model.params, model.config)

    return train(
        workdir=workdir,
        run=config.run,
        model=model,
        objective=objective,
        optimizer=optimizer,
        data=data,
        eval_data=held_out,
        starts_at_reference=objective.needs_reference,
        mesh=mesh,
        reference=copy,
        step_config=dataclasses.replace(config.step, reference=reference, seed=config.seed),
        description=description,
        stop=stop,
    )


def load_data(
    config: TrainingConfig, tokenizer: Tokenizer, mesh: Mesh, *, pairs: bool
) -> tuple[DataSource, DataSource | None]:
    """Makes the batches of training and, if the config asks for it, of evaluation."""
    held_out, rows, kept = config.held_out, _texts(config.data, pairs), None
    if held_out.rows:
        if held_out.rows >= len(rows):
            raise ValueError(f"held_out.rows={held_out.rows} leaves none of {len(rows)} rows")
        order = np.random.default_rng(config.seed).permutation(len(rows))
        kept = [rows[i] for i in order[: held_out.rows]]
        rows = [rows[i] for i in sorted(order[held_out.rows :])]
    elif held_out.source:
        own = {name: getattr(held_out, name) for name in ("source", "split", "limit")}
        kept = _texts(dataclasses.replace(config.data, **own), pairs)
    source = functools.partial(_source, config, tokenizer=tokenizer, mesh=mesh, pairs=pairs)
    return source(rows), source(kept, once=True) if kept else None


def _texts(data: DataConfig, pairs: bool) -> list[Any]:
    """The examples or pairs of a source, made by its templates."""
    if not data.source:
        raise ValueError("data.source is not set: a .jsonl file or the name of a data set")
    rows: Iterable[batches.Row]
    if data.source.endswith(".jsonl"):
        if not as_path(data.source).is_file():
            raise FileNotFoundError(f"data.source: there is no file {data.source}")
        rows = batches.jsonl_rows(data.source)
    else:
        rows = batches.problem_rows(load_problems(data.source, split=data.split, data_dir=data.dir))
    make = batches.pairs if pairs else batches.examples
    return make(itertools.islice(rows, data.limit), data)


def _source(
    config: TrainingConfig,
    texts: list[Any],
    *,
    tokenizer: Tokenizer,
    mesh: Mesh,
    pairs: bool,
    once: bool = False,
) -> DataSource:
    """Tokens and batches of texts; what is cut is logged."""
    data = config.data
    encode = batches.encode_pairs if pairs else batches.encode_examples
    encoded: Any = encode(texts, tokenizer, length=data.length, chat=data.chat)
    parts = {"examples": encoded}
    if pairs:
        parts = {"chosen rows": encoded.chosen, "rejected rows": encoded.rejected}
    for name, part in parts.items():
        if part.cut_prompts or part.cut_completions:
            _log.warning(
                "data.length=%d: of %d %s %d prompts lose their oldest tokens and %d completions "
                "their end, so that the model does not learn to end them",
                data.length, len(part), name, part.cut_prompts, part.cut_completions,
            )  # fmt: skip
    common: dict[str, Any] = {
        "rows": data.batch,
        "length": data.length,
        "seed": config.seed,
        "once": once,
        "process_rows": batches.process_rows(mesh, data.batch),
    }
    if not pairs:
        return batches.ExampleSource(encoded, packed=data.packed, **common)
    if data.packed:
        raise ValueError("data.packed is for SFT: a pair's two rows are compared as wholes")
    return batches.PairSource(encoded, **common)


def _warmed_up(config: TrainingConfig, num_steps: int) -> OptimizerConfig:
    """Cuts a warm-up to half of a run that its data, not the config, made as short as that."""
    optimizer = config.optimizer
    if config.run.num_steps or optimizer.warmup_steps < num_steps:
        return optimizer
    _log.warning(
        "%d epochs are %d train steps: warm-up takes %d of them, not %d",
        config.run.epochs, num_steps, num_steps // 2, optimizer.warmup_steps,
    )  # fmt: skip
    return dataclasses.replace(optimizer, warmup_steps=num_steps // 2)


def reference_of(config: TrainingConfig) -> str:
    """Where a run finds its reference, one of `REFERENCES`; ValueError if that cannot be."""
    lora, reference = config.lora.rank > 0, config.reference
    if reference == "auto":
        if not config.objective.needs_reference:
            return "none"
        return "lora_off" if lora else "stored"
    if reference == "lora_off" and not lora:
        raise ValueError("reference='lora_off' needs lora.rank > 0")
    if reference == "frozen" and lora:
        raise ValueError("with LoRA the frozen copy is the base itself: use reference='lora_off'")
    return reference


def _claim(workdir: Path, description: dict, start: Start, data: DataSource) -> None:
    """Gives the workdir to this run, or refuses; what holds no checkpoint yet is given anew."""
    if newest(workdir / "checkpoints") is None:
        (workdir / "config.json").unlink(missing_ok=True)
    # What files hold, not where they lie: a directory may move.
    places = {"model": ("name", "tokenizer", "checkpoint"), "data": ("source", "dir")}
    decides = what_decides(description, without=places)
    decides["model"]["weights"] = start.identity
    decides["data"]["fingerprint"] = data.fingerprint()
    claim(workdir, decides)


def what_decides(described: dict, *, without: Mapping[str, Collection[str]]) -> dict:
    """The part of a config that may not change between a run and its continuation.

    Args:
      described: the config, JSON values.
      without: fields of parts that do not count, for something else stands for them.
    """
    # Accumulation and rematerialisation ("step") change rounding only; stats change nothing.
    free = ("mesh", "held_out", "step")
    decides = {name: value for name, value in described.items() if name not in free}
    decides["run"] = {name: described["run"][name] for name in ("num_steps", "epochs")}
    for part, names in without.items():
        decides[part] = {k: v for k, v in decides[part].items() if k not in names}
    return decides
