"""Runs a pipeline for each seed, or shows what a run would do."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax

from leco_jax.configuration import as_json, build
from leco_jax.storage.workdir import lock
from w2s_jax.pipeline.artifacts import ArtifactStore
from w2s_jax.pipeline.graph import Cost, Graph, Interrupted, Stage
from w2s_jax.pipeline.pipeline_config import PipelineConfig, check
from w2s_jax.pipeline.problems import load_pool
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
    pool = load_pool(pipeline.data)
    graphs = {seed: Graph(PipelineStages(pipeline, seed, pool).build()) for seed in pipeline.seeds}
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
) -> Path | None:
    """Runs what is not done yet.

    Args:
      config: a `PipelineConfig`, or a ConfigDict of its fields.
      workdir: one directory of artifacts a seed, and report.html.
      stage: run this stage alone; what it needs must be done.
      until: run this stage and what it needs.
      stop: asked now and then.

    Returns:
      The report's path; None where some seed's table is not there yet.

    Raises:
      Interrupted: `stop` said so; the same call goes on.
      BusyError: another process writes in `workdir`.
      StageError: an artifact is damaged; the message says what to remove.
      ValueError: an impossible config, data that cannot be used, or several processes; a message
        about a stage names it.
    """
    if jax.process_count() > 1:
        # Every process would write every artifact.
        raise ValueError(
            f"a pipeline runs in one process, on the devices of one host; this is one of "
            f"{jax.process_count()} processes. Use one host, or train and answer by hand"
        )
    with lock(workdir):
        opened = stores(config, workdir)
        for seed, store in opened.items():
            names = [chosen.name for chosen in _chosen(store.graph, stage, until)]
            for number, name in enumerate(names, start=1):
                store.check(name)
                if store.state(name) == "done":
                    continue
                if stop():
                    raise Interrupted
                _log.info("seed %d, stage %d of %d: %s", seed, number, len(names), name)
                store.make(name, stop=stop)
                _log.info("  %s: %s", name, _short(store.summary(name)))
        if any(store.state("table") != "done" for store in opened.values()):
            return None
        described = as_json(build(PipelineConfig, config))
        return write_report(workdir / "report.html", opened, described)


def _chosen(graph: Graph, stage: str | None, until: str | None) -> list[Stage]:
    if stage and until:
        raise ValueError("give either a stage alone or a stage to run until, not both")
    needed = graph.until(until or stage or next(reversed(graph.stages)))
    return [graph.stages[name] for name in needed if stage in (None, name)]


def _short(summary: dict) -> str:
    shown = ((k, v) for k, v in summary.items() if isinstance(v, int | float | str))
    return ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in shown)
