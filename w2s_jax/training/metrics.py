"""What a run reports: metrics as JSON lines, TensorBoard on request, a progress line, curves."""

import importlib
import json
import logging
import math
import pathlib
import statistics
import time
from collections.abc import Iterable, Mapping
from typing import Any

from leco_jax.evaluation.charts import line_chart, number
from leco_jax.evaluation.html_page import Section, Texts, page, run_table
from leco_jax.evaluation.provenance import provenance
from leco_jax.models.config import ModelConfig
from leco_jax.models.weights import weight_table
from leco_jax.storage.files import Lines, RemoteLines, added, open_lines, settle, write_text
from leco_jax.storage.paths import as_path

_log = logging.getLogger(__name__)


class MetricWriter:
    """Writes scalars to `metrics.jsonl`, one object per step, and to TensorBoard when asked.

    A context manager that closes its files.
    """

    def __init__(
        self,
        workdir: str | pathlib.Path,
        *,
        next_step: int = 0,
        tensorboard: bool = False,
        active: bool = True,
    ):
        """Opens the file to go on at `next_step`; all but one process are not `active`.

        Lines of later steps, which an interrupted run wrote after its last checkpoint, are dropped:
        the file holds every step once. Event files go below `workdir/tensorboard`.

        Raises:
          ValueError: TensorBoard is asked for and tensorboardX is not installed.
        """
        self._lines: Lines | RemoteLines | None = None
        self._events: Any = None
        if not active:
            return
        path = as_path(workdir) / "metrics.jsonl"
        if tensorboard:
            # purge_step: a viewer forgets what an interrupted run wrote beyond its checkpoint.
            self._events = tensorboard_module().SummaryWriter(
                str(path.parent / "tensorboard"), purge_step=next_step
            )
        self._path = path
        self._rewrite([row for row in read_metrics(path) if row["step"] < next_step])

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Appends one line; NaN and infinities become null, which JSON can hold."""
        if self._lines is None:
            return
        self._lines.add(_line({"step": step, **_finite(scalars)}))
        self._add_events(step, scalars)

    def flush(self) -> None:
        """Waits until what was written is on disk."""
        if self._lines is not None:
            self._lines.flush()

    def amend(self, step: int, scalars: Mapping[str, float]) -> None:
        """Adds to the line of a step that was written before."""
        if self._lines is None:
            return
        self._lines.close()
        self._rewrite(
            row | _finite(scalars) if row["step"] == step else row
            for row in read_metrics(self._path)
        )
        self._add_events(step, scalars)

    def _rewrite(self, rows: Iterable[Mapping[str, Any]]) -> None:
        data = b"".join(map(_line, rows))
        settle(self._path, data)
        self._lines = open_lines(self._path, length=len(data), durable=False)

    def _add_events(self, step: int, scalars: Mapping[str, float]) -> None:
        if self._events is not None:
            for name, value in scalars.items():
                self._events.add_scalar(name, float(value), step)

    def __enter__(self) -> "MetricWriter":
        return self

    def __exit__(self, *exception) -> None:
        if self._events is not None:
            self._events.close()
        if self._lines is not None:
            self._lines.close()
            if added(self._path):
                settle(self._path, b"".join(map(_line, read_metrics(self._path))))


def _line(row: Mapping[str, Any]) -> bytes:
    return json.dumps(row).encode() + b"\n"


def _finite(scalars: Mapping[str, float]) -> dict[str, float | None]:
    return {name: float(value) if math.isfinite(value) else None for name, value in scalars.items()}


def read_metrics(path: str | pathlib.Path) -> list[dict[str, Any]]:
    """Reads a metrics file; a last line that a kill cut short is left out."""
    path = as_path(path)
    if not path.exists():
        return []
    rows = {}
    # The file itself last: what it took over from the others may have been amended since.
    for file in [*added(path), path]:
        for line in file.read_text().splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                _log.warning("%s: dropped an incomplete line", path)
            else:
                rows[row["step"]] = row
    return [rows[step] for step in sorted(rows)]


def tensorboard_module() -> Any:
    """Gives the module that writes TensorBoard's event files, or raises ValueError."""
    try:
        return importlib.import_module("tensorboardX")
    except ImportError as error:
        raise ValueError(
            "run.tensorboard needs tensorboardX: pip install tensorboardX, or set "
            "run.tensorboard=False (metrics.jsonl is always written)"
        ) from error


class Progress:
    """Speeds and the progress line, from the wall clock of steps."""

    def __init__(
        self,
        *,
        num_steps: int,
        chips: int,
        flops_per_token: float,
        peak_flops: float | None,
    ):
        """Starts the clock; `peak_flops` is one chip's FLOP/s for MFU, None: no MFU is given."""
        self._num_steps = num_steps
        self._chips, self._flops, self._peak = chips, flops_per_token, peak_flops
        self._seconds: list[float] = []
        self.restart()

    def restart(self) -> None:
        """Starts the clock again after a pause that belongs to no step."""
        self._last = time.perf_counter()

    def measure(self, tokens: float) -> dict[str, float]:
        """Gives the speed of the step that has just ended."""
        now = time.perf_counter()
        seconds, self._last = now - self._last, now
        self._seconds.append(seconds)
        rate = tokens / seconds / self._chips
        measured = {"seconds": seconds, "tokens_per_second_per_chip": rate}
        if self._peak:
            measured["mfu"] = rate * self._flops / self._peak
        return measured

    def line(self, step: int, scalars: Mapping[str, float]) -> str:
        """Makes the line for people."""
        parts = [f"step {step + 1}/{self._num_steps}", f"loss {scalars['loss']:.4f}"]
        if "rewards/accuracies" in scalars:
            parts.append(f"reward accuracy {scalars['rewards/accuracies']:.2f}")
        parts.append(f"{scalars['tokens_per_second_per_chip']:.0f} tokens/s/chip")
        if self._peak and "mfu" in scalars:
            parts.append(f"MFU {100 * scalars['mfu']:.1f} % of {self._peak / 1e12:g} TFLOP/s")
        # The first step compiles and says nothing about the others.
        steps = self._seconds[1:][-50:]
        if steps:
            left = round(statistics.median(steps) * (self._num_steps - step - 1))
            parts.append(f"ETA {left // 3600}:{left // 60 % 60:02d}:{left % 60:02d}")
        return ", ".join(parts)


# Dense bfloat16 FLOP/s of one chip as its maker states them.
PEAK_FLOPS = {
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v5": 459e12,
    "TPU v5p": 459e12,
    "TPU v6 lite": 918e12,
    "TPU v6e": 918e12,
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA H200": 989e12,
}


def peak_flops(device_kind: str, stated: float | None = None) -> float | None:
    """Gives the peak to state MFU against: the one stated, else the table's, else None."""
    return stated if stated else PEAK_FLOPS.get(device_kind)


def train_flops_per_token(config: ModelConfig, length: int, *, adapters: int = 0) -> float:
    """Counts model FLOPs of training on one token in a row of `length` tokens.

    `6·(weights in matrix products) + 6·L·N·H·T`: two per weight forward and four backward;
    attention's two products over the T/2 tokens that a causal token sees on average. A frozen
    weight takes four, for its own gradient is not computed. Recomputed activations are not counted
    (this is MFU, not hardware utilisation), nor is the embedding's lookup.
    `adapters` counts their weights if these alone are trained; 0: all weights are.
    Source: PaLM, Chowdhery et al. 2022, appendix B, halved for causality.
    """
    matrices = ("_proj", "embed" if config.tied else "unembed")
    weights = sum(
        math.prod(weight.shape)
        for path, weight in weight_table(config).items()
        if path.endswith(matrices)
    )
    attention = config.num_layers * config.num_heads * config.head_width * length
    products = 4.0 * weights + 6.0 * adapters if adapters else 6.0 * weights
    return products + 6.0 * attention


# What is drawn, in this order, when the run has it.
CHARTS = (
    ("Loss", ("loss", "eval/loss")),
    ("Reward accuracy", ("rewards/accuracies", "eval/rewards/accuracies")),
    ("Reward margin", ("rewards/margins", "eval/rewards/margins")),
    ("Token accuracy", ("mean_token_accuracy", "eval/mean_token_accuracy")),
    ("Entropy (nats)", ("entropy", "eval/entropy")),
    ("Gradient norm", ("grad_norm",)),
    ("Learning rate", ("learning_rate",)),
    ("Tokens per second per chip", ("tokens_per_second_per_chip",)),
)


def write_report(workdir: str | pathlib.Path, config: Mapping[str, Any]) -> pathlib.Path:
    """Draws `metrics.jsonl` of a run into `report.html` beside it, with the config below.

    Raises:
      ValueError: the run has no metrics.
    """
    workdir = as_path(workdir)
    rows = read_metrics(workdir / "metrics.jsonl")
    if not rows:
        raise ValueError(f"{workdir / 'metrics.jsonl'} holds no steps: nothing to report")
    sections: list[Section] = []
    for title, names in CHARTS:
        curves = {
            name: [(row["step"], row[name]) for row in rows if row.get(name) is not None]
            for name in names
        }
        curves = {name: points for name, points in curves.items() if points}
        if curves:
            sections.append((title, [line_chart(title, curves)]))
    first, last = rows[0], rows[-1]
    summary = f"{len(rows)} steps; loss {number(first['loss'])} at step {first['step']}, "
    summary += f"{number(last['loss'])} at step {last['step']}."
    if "eval_before/loss" in first and "eval/loss" in last:
        summary += f" Held-out loss {number(first['eval_before/loss'])} before the first step, "
        summary += f"{number(last['eval/loss'])} after the last."
    path = workdir / "report.html"
    sections.append(("Run", [run_table({workdir.name: {"made": provenance()}})]))
    sections.append(("Config", [Texts([json.dumps(config, indent=2, default=str)])]))
    write_text(path, page(f"Training run {workdir.name}", summary, sections))
    return path
