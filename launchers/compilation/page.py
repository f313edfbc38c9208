r"""Makes docs/pods_figures.md: every row is a command of launchers/compile.py.

    python -m launchers.compilation.page --output=docs/pods_figures.md \
        --results=docs/pods_figures.jsonl

Rows are compiled one after the other, each by a process of its own, and kept in --results as they
come: the same command goes on with those that are missing. --rows=REGEX compiles some of them,
--seconds bounds each. The page is written anew at the end of every call, missing rows included.
"""

import dataclasses
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from absl import flags

from launchers import runtime
from launchers.compilation.tables import BOUNDS
from leco_jax.storage.files import read_json, write_text
from leco_jax.storage.jsonl import read_rows, write_rows

_OUTPUT = flags.DEFINE_string("output", None, "The page.", required=True)
_RESULTS = flags.DEFINE_string(
    "results", None, "JSONL of the rows that were compiled.", required=True
)
_ROWS = flags.DEFINE_string("rows", "", "Compile the rows whose names hold this; ^$: none.")
_SECONDS = flags.DEFINE_integer("seconds", 1800, "At most for a row.", lower_bound=1)

_FIXED = "--config.model.dtype=bfloat16"
_SFT = ("--config=configs/sft_llama2_7b_pod.py", "--program=sft", _FIXED)
_DPO = ("--config=configs/dpo_llama3_8b_pod.py", "--program=dpo", _FIXED)
_DECODE = ("--config=configs/leco_smollm2.py", "--program=decode", _FIXED)
_LORA = ("--config.lora.rank=8", "--config.model.param_dtype=bfloat16")


@dataclasses.dataclass(frozen=True)
class Row:
    """One compiled program: its section, what it is, and the arguments of launchers/compile.py."""

    section: str
    what: str
    arguments: tuple[str, ...]

    @property
    def name(self) -> str:
        """What --rows is matched with, and the key of its result."""
        return f"{self.section}, {self.what}: {' '.join(self.arguments)}"


def _row(section: str, model: str, kind: str, topology: str, *more: str, slices: int = 1) -> Row:
    program = {"SFT": _SFT, "DPO": _DPO, "decode": _DECODE}[kind.split()[0]]
    lora = _LORA if "LoRA" in kind else ()
    several = (f"--num_slices={slices}", f"--config.mesh.data={slices}") if slices > 1 else ()
    arguments = (*program, *lora, f"--architecture={model}", f"--topology={topology}", *several)
    return Row(section, kind, (*arguments, *more))


def _batch(size: int) -> str:
    return f"--config.data.batch={size}"


def _tensor(chips: int) -> str:
    return f"--config.mesh.tensor={chips}"


def _rows() -> list[Row]:
    large, growth, small, decode = (
        "70B training",
        "Growth",
        "7B to 13B training",
        "Generation",
    )
    rows = [
        _row(large, "llama2_70b", "DPO LoRA", "v5p:4x4x4", _batch(64)),
        _row(large, "llama2_70b", "DPO LoRA", "v5e:16x16", _batch(256)),
        _row(large, "llama2_70b", "SFT full", "v5p:4x4x4", _batch(64)),
        _row(large, "llama2_70b", "SFT full", "v5e:16x16", _batch(256)),
        _row(decode, "llama2_70b", "decode", "v5e:4x4", _tensor(16)),
        _row(decode, "llama2_70b", "decode", "v5e:4x4", _tensor(16), "--config.engine.slots=4"),
        _row(decode, "llama2_70b", "decode", "v5p:2x2x1", _tensor(4)),
        _row(decode, "llama2_7b", "decode", "v5e:2x2", _tensor(4)),
        _row(decode, "llama2_13b", "decode", "v5e:2x2", _tensor(4)),
        _row(decode, "llama3_8b", "decode", "v5e:2x2", _tensor(4)),
        _row(decode, "llama3_70b", "decode", "v5e:4x4", _tensor(16)),
    ]
    for topology, chips in (("v5e:2x2", 4), ("v5e:4x4", 16), ("v5e:8x8", 64), ("v5e:16x16", 256)):
        rows.append(_row(growth, "llama2_7b", "SFT full", topology, _batch(2 * chips)))
    for count in (2, 4):
        rows.append(
            _row(growth, "llama2_7b", "SFT full", "v5e:4x4", _batch(32 * count), slices=count)
        )
    for model in ("llama2_7b", "llama3_8b", "llama2_13b"):
        for kind in ("SFT full", "SFT LoRA", "DPO full", "DPO LoRA"):
            rows.append(_row(small, model, kind, "v5e:4x4", _batch(16)))
    rows.append(_row(large, "llama3_70b", "DPO LoRA", "v5p:4x4x4", _batch(64)))
    rows.append(_row(large, "llama3_70b", "SFT full", "v5p:4x4x4", _batch(64)))
    return rows


def main() -> int:
    """Compiles what is missing and writes the page."""
    results = Path(_RESULTS.value)
    found: dict[str, dict[str, Any]] = {}
    if results.exists():
        found = {row["name"]: row for _, row in read_rows(results)}
    for row in _rows():
        done = "figures" in found.get(row.name, {})  # what failed is tried again
        if done or not re.search(_ROWS.value, row.name):
            continue
        runtime.log.info("%s", row.name)
        found[row.name] = {"name": row.name} | _compile(row)
        write_rows(results, found.values())
    write_text(_OUTPUT.value, page(_rows(), found))
    missing = sum(row.name not in found for row in _rows())
    runtime.log.info("%s: %d rows, %d of them missing", _OUTPUT.value, len(_rows()), missing)
    return runtime.DONE


def _compile(row: Row) -> dict[str, Any]:
    """The figures of a row, or the reason that there are none."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "figures.json"
        command = [sys.executable, "-m", "launchers.compile", *row.arguments, f"--json={path}"]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_SECONDS.value, check=False
            )
        except subprocess.TimeoutExpired:
            return {"failed": f"not compiled in {_SECONDS.value} s"}
        if not path.exists():
            return {"failed": (done.stderr.strip().splitlines() or ["no output"])[-1][:300]}
        return {"figures": read_json(path)["programs"][0]}


_INTRODUCTION = """# Compile-time figures of pods

Made by `python -m launchers.compilation.page`; every row is one command of
`launchers/compile.py`, which the list below the tables gives. **All figures are the TPU
compiler's plan and arithmetic on it; none was measured on a TPU.** Memory is a chip's, in GB
(10^9 bytes), of 16.9 (v5e), 102.8 (v5p) or 33.6 (v6e) that programs can use. "Least" is the
longest of a call's times by published peaks (compute, HBM, network), as if all of them
overlapped: a real step is slower. MFU is that of model FLOPs in this time. FLOPs, HBM bytes and
collectives count loops as often as they turn; the FLOPs of training's attention kernel, which
states none, are missing. Training is AdamW with recomputation of every
layer, SFT of 1,024 and DPO of 2 x 2,048 positions, full with float32 masters, LoRA of rank 8 on a
bfloat16 base (DPO's reference is the base, without LoRA it is stored). Generation is a chunk of 8
tokens of LeCo's decode program with every slot at its longest, prompts of 512 tokens.
"""
_COLUMNS = (
    "model", "program", "slices", "batch", "held", "temporaries", "fits", "least", "bound by",
    "MFU at most", "tokens/s at most", "compiled in",
)  # fmt: skip
_HEAD = f"| {' | '.join(_COLUMNS)} |\n{'|---' * len(_COLUMNS)}|"


def page(rows: list[Row], found: dict[str, dict[str, Any]]) -> str:
    """The page's text."""
    parts = [_INTRODUCTION]
    for section in dict.fromkeys(row.section for row in rows):
        lines = [_line(row, found.get(row.name, {})) for row in rows if row.section == section]
        parts.append("\n".join([f"## {section}\n", _HEAD, *lines]) + "\n")
    reasons = [
        f"* {_model(row)}, {row.what}, {_where(row)}: {reason}"
        for row in rows
        if (reason := _reason(found.get(row.name, {})))
    ]
    if reasons:
        parts.append("\n".join(["## What does not fit, or was not compiled\n", *reasons]) + "\n")
    commands = [f"python -m launchers.compile {' '.join(row.arguments)}" for row in rows]
    parts.append("\n".join(["## Commands\n", "```", *commands, "```"]) + "\n")
    return "\n".join(parts)


def _line(row: Row, result: dict[str, Any]) -> str:
    start = f"| {_model(row)} | {row.what} | {_where(row)} |"
    f = result.get("figures")
    if f is None:
        return f"{start} | | | {'not compiled' if result else 'not yet compiled'} | | | | | |"
    gigabytes = {name: size / 1e9 for name, size in f["memory"].items()}
    temporary = gigabytes.get("temporaries")
    held = sum(size for name, size in gigabytes.items() if name in _HELD)
    cells = [f"{f['batch']} {f['unit']}", f"{held:.2f}"]
    cells.append("" if temporary is None else f"{temporary:.2f}")
    cells.append("yes" if f["fits"] else "no")
    if f["seconds"]:
        least = max(f["seconds"].values())
        cells += [f"{1e3 * least:,.1f} ms", BOUNDS[f["bound"]]]
        cells += [f"{f['mfu_ceiling']:.0%}", f"{f['tokens'] / least:,.0f}"]
    else:
        cells += [""] * 4
    cells.append(f"{f['compile_cpu_seconds']:.0f} CPU s, {f['host_bytes'] / 1e9:.1f} GB")
    return " | ".join([start[:-2], *cells]) + " |"


_HELD = ("parameters", "optimiser state", "reference", "cache")


def _reason(result: dict[str, Any]) -> str:
    figures = result.get("figures")
    if figures is None:
        return result.get("failed", "")
    if figures["fits"]:
        return ""
    buffers = ", ".join(f"{size / 1e9:.2f} GB {what}" for size, what in figures["largest"][:4])
    return figures["reason"] + (f"; largest buffers: {buffers}" if buffers else "")


def _argument(row: Row, name: str) -> str:
    return next((a.partition("=")[2] for a in row.arguments if a.startswith(f"--{name}=")), "")


def _model(row: Row) -> str:
    return _argument(row, "architecture")


def _where(row: Row) -> str:
    slices, topology = _argument(row, "num_slices"), _argument(row, "topology")
    return f"{slices} x {topology}" if slices else topology


if __name__ == "__main__":
    runtime.run(main)
