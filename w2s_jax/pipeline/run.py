"""Runs a pipeline for each seed, or shows what a run would do."""

import contextlib
import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from leco_jax.configuration import as_json, build
from leco_jax.evaluation.processes import ONE, Processes, from_lead, same_everywhere
from leco_jax.storage.workdir import lock
from w2s_jax.pipeline.artifacts import ArtifactStore
from w2s_jax.pipeline.graph import Cost, Graph, Interrupted, Stage
from w2s_jax.pipeline.lineage import model_hash
from w2s_jax.pipeline.pipeline_config import PipelineConfig, check
from w2s_jax.pipeline.problems import Pool, load_pool
from w2s_jax.pipeline.report import write_report
from w2s_jax.pipeline.stages import PipelineStages

_log = logging.getLogger(__name__)


class Line(NamedTuple):
    """One line of a plan."""

    seed: int
    stage: str
    state: str
    needs: tuple[str, ...]
    cost: Cost


def stores(config: Any, workdir: Path, *, devices: int | None = None) -> dict[int, ArtifactStore]:
    """The artifacts of each seed of a config; errors as `pipeline_config.check`."""
    pipeline = build(PipelineConfig, config)
    check(pipeline, devices=devices)
    return _stores(pipeline, load_pool(pipeline.data), workdir)


def _stores(config: PipelineConfig, pool: Pool, workdir: Path) -> dict[int, ArtifactStore]:
    graphs = {seed: Graph(PipelineStages(config, seed, pool).build()) for seed in config.seeds}
    return {seed: ArtifactStore(workdir / f"seed{seed}", graph) for seed, graph in graphs.items()}


def plan(
    config: Any,
    workdir: Path,
    *,
    stage: str | None = None,
    until: str | None = None,
    devices: int | None = None,
) -> list[Line]:
    """What each stage of `run_pipeline` is, whether it is done, and what it takes at most.

    `devices` are how many the run will have; None: as many as there are.
    """
    return [
        Line(seed, chosen.name, store.state(chosen.name), chosen.needs, chosen.cost())
        for seed, store in stores(config, workdir, devices=devices).items()
        for chosen in _chosen(store.graph, stage, until)
    ]


def run_pipeline(
    config: Any,
    workdir: Path,
    *,
    stage: str | None = None,
    until: str | None = None,
    stop: Callable[[], bool] = lambda: False,
    processes: Processes = ONE,
) -> Path | None:
    """Runs what is not done yet.

    Of several processes each has a call of its own: all train on one mesh, each answers its share
    of the questions on replicas, and process 0 does everything else.

    Args:
      config: a `PipelineConfig`, or a ConfigDict of its fields.
      workdir: one directory of artifacts a seed, and report.html.
      stage: run this stage alone; what it needs must be done.
      until: run this stage and what it needs.
      stop: asked now and then; while several processes train, jax's preemption service instead.
      processes: those that run it.

    Returns:
      The report's path, the same on every process; None where some seed's table is not there yet.

    Raises:
      Interrupted: `stop` said so; the same call goes on.
      BusyError: another process writes in `workdir`.
      StageError: an artifact is damaged; the message says what to remove.
      ValueError: an impossible config, data that cannot be used, or processes that do not agree; a
        message about a stage names it.
    """
    pipeline = build(PipelineConfig, config)
    with lock(workdir) if processes.lead else contextlib.nullcontext():
        check(pipeline)
        same_everywhere(processes, "config", as_json(pipeline))
        processes.meshes(pipeline.generation.tensor)  # refuses before anything is trained
        pool = load_pool(pipeline.data)
        models = {"weak": pipeline.weak.base, "strong": pipeline.strong.base}
        files = {name: model_hash(model) for name, model in models.items()}
        same_everywhere(processes, "files", files | {"problems": pool.fingerprint})
        opened = _stores(pipeline, pool, workdir)
        stop = processes.stop(stop)
        for seed, store in opened.items():
            names = [chosen.name for chosen in _chosen(store.graph, stage, until)]
            for number, name in enumerate(names, start=1):
                if from_lead(processes, functools.partial(_is_done, store, name)):
                    continue
                if any(processes.exchange(stop())):
                    raise Interrupted
                _log.info("seed %d, stage %d of %d: %s", seed, number, len(names), name)
                store.make(name, stop=stop, processes=processes)
                if processes.lead:
                    _log.info("  %s: %s", name, _short(store.summary(name)))
        path = workdir / "report.html"
        return path if from_lead(processes, lambda: _report(path, opened, pipeline)) else None


def _is_done(store: ArtifactStore, name: str) -> bool:
    store.check(name)
    return store.state(name) == "done"


def _report(path: Path, opened: dict[int, ArtifactStore], config: PipelineConfig) -> bool:
    whole = all(store.state("table") == "done" for store in opened.values())
    if whole:
        write_report(path, opened, as_json(config))
    return whole


def _chosen(graph: Graph, stage: str | None, until: str | None) -> list[Stage]:
    if stage and until:
        raise ValueError("give either a stage alone or a stage to run until, not both")
    needed = graph.until(until or stage or next(reversed(graph.stages)))
    return [graph.stages[name] for name in needed if stage in (None, name)]


def _short(summary: dict) -> str:
    shown = ((k, v) for k, v in summary.items() if isinstance(v, int | float | str))
    return ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in shown)
