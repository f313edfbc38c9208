"""A training job: from a config (`job_config.training_config`) to one call of `train`."""

import contextlib
import dataclasses
import json
import logging
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from leco_jax.datasets.registry import load_problems
from leco_jax.models.lora import adapt, init_adapters
from leco_jax.models.sharding import make_mesh
from leco_jax.storage.paths import local_path
from leco_jax.storage.workdir import claim, lock
from leco_jax.text.tokenizer import Tokenizer
from w2s_jax.training import data as batches
from w2s_jax.training.batch_scores import Weights, full_weights
from w2s_jax.training.checkpoints import has_checkpoint
from w2s_jax.training.initial_weights import Start, description, load_start, lora_config
from w2s_jax.training.loop import DataSource, RunConfig, TrainResult, train
from w2s_jax.training.metrics import tensorboard_module
from w2s_jax.training.objectives import Objective
from w2s_jax.training.optimizer import OptimizerConfig
from w2s_jax.training.reference import frozen_copy, store_reference
from w2s_jax.training.stopping import Stop, Stopped, raise_if_asked
from w2s_jax.training.train_step import StepConfig

_log = logging.getLogger(__name__)


def run_job(config: Any, workdir: str | Path, *, stop: Stop = lambda: False) -> TrainResult:
    """Trains as a config says, going on where an interrupted run of the same config stopped.

    Args:
      config: see `job_config.training_config`.
      workdir: where everything goes.
      stop: asked now and then, also while the run is prepared (see `stopping`).

    Raises:
      ValueError: a config that says something impossible, a workdir of another config, or one in
        which another process writes.
      FileNotFoundError: a model or data that is not there.
      NonFiniteError: see `train`.
    """
    path = local_path(workdir)
    with lock(path) if jax.process_index() == 0 else contextlib.nullcontext():
        try:
            return _run(config, path, stop)
        except Stopped:
            return TrainResult(state=None, metrics={}, steps=0, interrupted=True, compilations=0)


def _run(config: Any, workdir: Path, stop: Stop) -> TrainResult:
    described = json.loads(config.to_json())
    objective = Objective(**config.objective)
    described["objective"] |= {name: objective.option(name) for name in ("beta", "gamma")}
    optimizer = OptimizerConfig(
        **{
            **config.optimizer,
            "no_decay": tuple(config.optimizer.no_decay),
            "clip_norm": config.optimizer.clip_norm or None,
            "moment_dtype": config.optimizer.moment_dtype or None,
        }
    )
    if config.run.tensorboard:
        tensorboard_module()  # Before anything is loaded.
    mesh = make_mesh(**config.mesh)
    reference = _reference(config, objective)

    start = load_start(config, mesh)
    raise_if_asked(stop)
    data, held_out = load_data(config, start.tokenizer, mesh, pairs=objective.pairs)
    raise_if_asked(stop)
    run = _run_config(config, data)
    optimizer = _warmed_up(optimizer, config, run)
    if jax.process_index() == 0:
        _claim(workdir, described, start, data)
    if reference == "stored":
        stored = [
            store_reference(
                source,
                start.params,
                num_steps=steps,
                directory=workdir / "reference",
                model=start.config,
                mesh=mesh,
                stop=stop,
            )
            for source, steps in _sources(data, held_out, run)
        ]
        data, held_out = stored[0], stored[1] if held_out else None
    described["start"] = description(start, config.model.checkpoint, workdir)
    trainable, frozen, weights = _policy(config, start, mesh, reference)
    model = start.config
    del start  # What is not trained or frozen need not stay in memory.

    return train(
        workdir=workdir,
        run=run,
        model=model,
        objective=objective,
        optimizer=optimizer,
        data=data,
        eval_data=held_out,
        mesh=mesh,
        init=trainable.pop,
        frozen=frozen,
        weights=weights,
        step_config=StepConfig(
            accumulate=config.step.accumulate,
            remat=config.step.remat,
            stats=tuple(config.step.stats),
            reference=reference,
            seed=config.seed,
        ),
        description=described,
        stop=stop,
    )


def load_data(
    config: Any, tokenizer: Tokenizer, mesh: Mesh, *, pairs: bool
) -> tuple[DataSource, DataSource | None]:
    """Makes the batches of training and, if the config asks for it, of evaluation."""
    wanted, held_out = config.data, config.held_out
    found = _texts(config, wanted.source, wanted.split, wanted.limit, pairs)
    kept = None
    if held_out.rows and held_out.source:
        raise ValueError("give either held_out.rows or held_out.source, not both")
    if held_out.rows:
        if held_out.rows >= len(found):
            raise ValueError(f"held_out.rows={held_out.rows} leaves none of {len(found)} rows")
        order = np.random.default_rng(config.seed).permutation(len(found))
        kept = [found[i] for i in order[: held_out.rows]]
        found = [found[i] for i in sorted(order[held_out.rows :])]
    elif held_out.source:
        kept = _texts(config, held_out.source, held_out.split, held_out.limit, pairs)
    return (
        _source(config, found, tokenizer, mesh, pairs),
        _source(config, kept, tokenizer, mesh, pairs, once=True) if kept else None,
    )


def _texts(config: Any, source: str, split: str, limit: int, pairs: bool) -> list[Any]:
    wanted = config.data
    if not source:
        raise ValueError("data.source is empty: a .jsonl file or the name of a data set")
    if source.endswith(".jsonl"):
        if not Path(source).is_file():
            raise FileNotFoundError(f"data.source: there is no file {source}")
        rows = list(batches.jsonl_rows(source))
    else:
        rows = list(
            batches.problem_rows(load_problems(source, split=split, data_dir=wanted.dir or None))
        )
    template = batches.Template(
        prompt=wanted.prompt,
        completion=wanted.completion,
        chosen=wanted.chosen,
        rejected=wanted.rejected,
        remove=wanted.remove or None,
    )
    return (batches.pairs if pairs else batches.examples)(rows[: limit or None], template)


def _source(
    config: Any, texts: list[Any], tokenizer: Tokenizer, mesh: Mesh, pairs: bool, once: bool = False
) -> DataSource:
    wanted = config.data
    common = {
        "rows": wanted.batch,
        "length": wanted.length,
        "seed": config.seed,
        "once": once,
        "process_slice": batches.process_slice(mesh, wanted.batch),
    }
    if not pairs:
        encoded = batches.encode_examples(texts, tokenizer, length=wanted.length, chat=wanted.chat)
        _report_cuts("examples", encoded, wanted.length)
        return batches.ExampleSource(encoded, packed=wanted.packed, **common)
    if wanted.packed:
        raise ValueError("data.packed is for SFT: a pair's two rows are compared as wholes")
    encoded_pairs = batches.encode_pairs(texts, tokenizer, length=wanted.length, chat=wanted.chat)
    _report_cuts("chosen rows", encoded_pairs.chosen, wanted.length)
    _report_cuts("rejected rows", encoded_pairs.rejected, wanted.length)
    return batches.PairSource(encoded_pairs, **common)


def _report_cuts(name: str, encoded: batches.Encoded, length: int) -> None:
    if encoded.cut_prompts or encoded.cut_completions:
        _log.warning(
            "data.length=%d: of %d %s %d prompts lose their oldest tokens and %d completions their "
            "end, so that the model does not learn to end them",
            length, len(encoded), name, encoded.cut_prompts, encoded.cut_completions,
        )  # fmt: skip


def _run_config(config: Any, data: DataSource) -> RunConfig:
    fields = dict(config.run)
    epochs = fields.pop("epochs")
    return RunConfig(
        **{
            **fields,
            "num_steps": fields["num_steps"] or epochs * data.num_steps_per_epoch,
            "keep_every": fields["keep_every"] or None,
            "profile_start": None if fields["profile_start"] < 0 else fields["profile_start"],
            "peak_tflops": fields["peak_tflops"] or None,
        }
    )


def _warmed_up(optimizer: OptimizerConfig, config: Any, run: RunConfig) -> OptimizerConfig:
    """Cuts a warm-up to half of a run that its data, not the config, made as short as that."""
    if config.run.num_steps or optimizer.warmup_steps < run.num_steps:
        return optimizer
    shorter = run.num_steps // 2
    _log.warning(
        "%d epochs are %d steps: warm-up takes %d of them, not %d",
        config.run.epochs, run.num_steps, shorter, optimizer.warmup_steps,
    )  # fmt: skip
    return dataclasses.replace(optimizer, warmup_steps=shorter)


def _sources(data: DataSource, held_out: DataSource | None, run: RunConfig):
    yield data, run.num_steps
    if held_out is not None:
        yield held_out, min(run.eval_batches, held_out.num_steps_per_epoch)


def _reference(config: Any, objective: Objective) -> str:
    lora, wanted = config.lora.rank > 0, config.reference
    if wanted == "auto":
        if not objective.needs_reference:
            return "none"
        return "lora_off" if lora else "stored"
    if wanted == "lora_off" and not lora:
        raise ValueError("reference='lora_off' needs lora.rank > 0")
    if wanted == "frozen" and lora:
        raise ValueError("with LoRA the frozen copy is the base itself: use reference='lora_off'")
    return wanted


def _policy(
    config: Any, start: Start, mesh: Mesh, reference: str
) -> tuple[list[Any], dict[str, Any], Weights]:
    """Gives what is trained (in a list, to be taken out), what stays, and how they make weights."""
    if config.lora.rank:
        lora = lora_config(config.lora)
        adapters = init_adapters(start.config, lora, jax.random.key(config.seed), mesh)

        def weights(adapters: Any, frozen: Any, key: jax.Array | None) -> dict:
            return adapt(frozen["base"], adapters, lora, dropout_key=key)

        return [adapters], {"base": start.params}, weights
    frozen = {}
    if reference == "frozen":
        frozen["reference"] = frozen_copy(start.params, start.config)
    return [start.params], frozen, full_weights


def _claim(workdir: Path, described: dict, start: Start, data: DataSource) -> None:
    """Gives the workdir to this run, or refuses; what holds no checkpoint yet is given anew."""
    if not has_checkpoint(workdir / "checkpoints"):
        (workdir / "config.json").unlink(missing_ok=True)
    decides = what_decides(described)
    # What files hold, not where they lie: a directory may move.
    paths = {"model": ("name", "tokenizer", "checkpoint"), "data": ("source", "dir")}
    for part, names in paths.items():
        decides[part] = {k: v for k, v in decides[part].items() if k not in names}
    decides["model"]["weights"] = start.identity
    decides["data"]["fingerprint"] = data.fingerprint()
    claim(workdir, decides)


def what_decides(described: dict) -> dict:
    """The part of a config that may not change between a run and its continuation."""
    free = {"mesh", "held_out"}
    decides = {name: value for name, value in described.items() if name not in free}
    steps = {name: described["run"][name] for name in ("num_steps", "epochs")}
    # Accumulation and rematerialisation change rounding only; stats change nothing.
    return {**{k: v for k, v in decides.items() if k != "step"}, "run": steps}
