"""Runs a pipeline for each seed, or shows what a run would do."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from w2s_jax.pipeline.artifacts import ArtifactStore
from w2s_jax.pipeline.graph import Cost, Graph, Interrupted
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


def stores(config: Any, workdir: Path) -> dict[int, tuple[Graph, ArtifactStore]]:
    """The graph and the artifacts of each seed of a config."""
    if not config.seeds or len(set(config.seeds)) < len(config.seeds):
        raise ValueError(f"seeds={tuple(config.seeds)}: give at least one, each once")
    found, pool = {}, load_pool(config.data)
    for seed in config.seeds:
        graph = Graph(PipelineStages(config, seed, pool).build())
        found[seed] = (graph, ArtifactStore(workdir / f"seed{seed}", graph))
    return found


def plan(config: Any, workdir: Path) -> list[Line]:
    """What each stage is, whether it is done, and what it takes at most."""
    return [
        Line(seed, name, store.state(name), stage.needs, stage.cost())
        for seed, (graph, store) in stores(config, workdir).items()
        for name, stage in graph.stages.items()
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
      config: see `w2s_jax.pipeline.config.w2s_config`.
      workdir: one directory of artifacts a seed, and report.html.
      stage: run this stage alone; what it needs must be done.
      until: run this stage and what it needs.
      stop: asked now and then.

    Returns:
      The report's path; None where some seed's table is not there yet.

    Raises:
      Interrupted: `stop` said so; the same call goes on.
      ValueError: a config that says something impossible, or data that can't be used; a message
        about a stage names it.
    """
    if stage and until:
        raise ValueError("give either a stage alone or a stage to run until, not both")
    opened = stores(config, workdir)
    for seed, (graph, store) in opened.items():
        wanted = graph.until(until or stage or next(reversed(graph.stages)))
        for number, name in enumerate(wanted, start=1):
            if (stage and name != stage) or store.state(name) == "done":
                continue
            if stop():
                raise Interrupted
            _log.info("seed %d, stage %d of %d: %s", seed, number, len(wanted), name)
            store.make(name, stop=stop)
            _log.info("  %s: %s", name, _short(store.summary(name)))
    if any(store.state("table") != "done" for _, store in opened.values()):
        return None
    return write_report(
        workdir / "report.html",
        {seed: store for seed, (_, store) in opened.items()},
        json.loads(config.to_json()),
    )


def _short(summary: dict) -> str:
    shown = ((k, v) for k, v in summary.items() if isinstance(v, int | float | str))
    return ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in shown)
