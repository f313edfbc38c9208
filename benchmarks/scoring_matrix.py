"""Every scoring form compiled for every TPU generation and common model sizes; nothing is timed.

    python -m benchmarks.scoring_matrix [--cells FILE] [--json FILE] [--chips ...] [--kinds ...]
        [--vocabs ...] [--widths ...]
    python -m benchmarks.scoring_matrix --blocks [--chips ...]

One table: temporary bytes in HBM, and bytes accessed over those of arguments and results (for the
kernels; XLA's figure counts the body of a loop once, so gradients have none). A form may not fail,
and a vocabulary or width next to it and up to twice as large may not cost four times as much.
`--cells` keeps finished cells in a file of JSON lines, so that a long run may be done in parts.
`--blocks` compiles candidates for the table of block sizes, and prints which to choose.
"""

import dataclasses
import itertools
import json
import time
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
from jax.experimental.pallas import tpu as pltpu

from benchmarks import _common, _tpu
from benchmarks._common import Row
from leco_jax import scoring
from leco_jax.scoring import pallas_tiles
from leco_jax.scoring.pallas_tiles import MIB, Blocks

T = 8192
VOCABS = (32000, 49152, 128256, 151936, 262144)
WIDTHS = (896, 960, 2048, 2880, 4096, 8192)
KINDS = ("logits", "hidden", "gradient", "KL", "KL gradient")
FLOOR = 20.0  # MB of temporaries below which nothing is a cliff: two tiles of logits
FULL = ("logprob", "entropy", "self_certainty")


@dataclasses.dataclass(frozen=True)
class Cell:
    """One program, and what the compiler says of it; `width` is 0 where there is none."""

    chip: str
    kind: str
    vocab: int
    width: int
    temporary_mb: float | None = None
    bytes_over_ideal: float | None = None
    kernels: int = 0
    seconds: float = 0.0
    error: str = ""

    @property
    def key(self) -> tuple:
        return self.chip, self.kind, self.vocab, self.width


def main():
    options = _common.parser(__doc__.splitlines()[0])
    for name, values in (("chips", tuple(_tpu.TOPOLOGIES)), ("kinds", KINDS),
                         ("vocabs", VOCABS), ("widths", WIDTHS)):  # fmt: skip
        options.add_argument(f"--{name}", default=",".join(map(str, values)), help="with commas")
    options.add_argument("--cells", type=Path, help="JSON lines of finished cells")
    options.add_argument("--blocks", action="store_true", help="choose block sizes instead")
    args = options.parse_args()
    _tpu.prepare()
    chips, kinds = args.chips.split(","), args.kinds.split(",")
    if args.blocks:
        for chip in chips:
            choose_blocks(chip)
        return
    sizes = [tuple(map(int, x.split(","))) for x in (args.vocabs, args.widths)]
    known = {cell.key: cell for cell in _read(args.cells)}
    cells = []
    for chip, kind, vocab in itertools.product(chips, kinds, sizes[0]):
        for width in sizes[1] if kind != "logits" else (0,):
            cell = known.get((chip, kind, vocab, width))
            if cell is None:
                cell = compiled(chip, kind, vocab, width)
                if args.cells:
                    with args.cells.open("a") as file:
                        file.write(json.dumps(dataclasses.asdict(cell)) + "\n")
            cells.append(cell)
    _common.report(rows_of(cells), args.json)


def _read(path: Path | None) -> list[Cell]:
    if path is None or not path.exists():
        return []
    return [Cell(**json.loads(line)) for line in path.read_text().splitlines()]


def compiled(chip: str, kind: str, vocab: int, width: int) -> Cell:
    """Compiles one cell."""
    on = _tpu.mesh(chip, 1)
    tokens, hidden = ((T,), jnp.int32), ((T, width), jnp.bfloat16)
    unembed = (vocab, width), jnp.bfloat16
    if kind == "logits":
        arrays = [((T, vocab), jnp.bfloat16), tokens]
        function = scoring.token_stats
    elif kind in ("hidden", "gradient"):
        arrays, function = [hidden, unembed, tokens], scoring.token_stats_from_hidden
    else:
        arrays, function = [hidden, unembed] * 2, scoring.kl_from_hidden
    call = {"stats": FULL} if "KL" not in kind else {}

    def value(*arrays):
        return function(*arrays, **call)

    def loss(*arrays):
        return sum(x.sum() for x in jax.tree.leaves(value(*arrays)))

    program = jax.grad(loss, (0, 1)) if "gradient" in kind else value
    start, cell = time.perf_counter(), Cell(chip, kind, vocab, width)
    try:
        found = _tpu.compile_for(on, program, *arrays)
    except Exception as error:
        return dataclasses.replace(cell, error=f"{type(error).__name__}: {error}"[:300])
    memory = found.memory_analysis()
    ideal = memory.argument_size_in_bytes + memory.output_size_in_bytes
    over = found.cost_analysis()["bytes accessed"] / ideal
    return dataclasses.replace(
        cell,
        temporary_mb=_common.temporary_mb(found),
        bytes_over_ideal=None if "gradient" in kind else over,
        kernels=found.as_text().count('custom_call_target="tpu_custom_call"'),
        seconds=time.perf_counter() - start,
    )


def rows_of(cells: list[Cell]) -> list[Row]:
    """The table, and whether it has a failure or a cliff."""
    rows = [
        Row(
            name=f"{x.chip}, {x.kind}, V = {x.vocab}" + (f", D = {x.width}" if x.width else ""),
            ours=x.temporary_mb,
            unit="MB",
            note=x.error,
            peer_name=_told(x),
        )
        for x in cells
    ]
    failed = [x for x in cells if x.error]
    cliffs = [text for a, b in itertools.permutations(cells, 2) if (text := cliff(a, b))]
    rows.append(Row(name="programs", ours=float(len(cells)), unit="count"))
    for name, found in (("failures", failed), ("cliffs", cliffs)):
        note = "; ".join(str(x if name == "cliffs" else x.key) for x in found)
        rows.append(
            Row(name=name, ours=float(len(found)), unit="count", bound="ours == 0", note=note)
        )
    return rows


def _told(cell: Cell) -> str:
    bytes_read = "" if cell.bytes_over_ideal is None else f"{cell.bytes_over_ideal:.2f} x ideal, "
    return f"{bytes_read}{cell.kernels} kernel(s), {cell.seconds:.0f} s to compile"


def cliff(small: Cell, large: Cell) -> str:
    """What rises fourfold between neighbours of which one is up to twice as large, or nothing."""
    if small.key[:2] != large.key[:2] or small.error or large.error:
        return ""
    growth = [b / a if a else 1.0 for a, b in zip(small.key[2:], large.key[2:], strict=True)]
    if sorted(growth)[0] != 1.0 or not 1.0 < sorted(growth)[1] <= 2.2:
        return ""
    pair = f"{small.key} -> {large.key}"
    memory = [max(FLOOR, x.temporary_mb or 0.0) for x in (small, large)]
    if memory[1] >= 4 * memory[0]:
        return f"{pair}: {memory[0]:.0f} -> {memory[1]:.0f} MB"
    over = [x.bytes_over_ideal for x in (small, large)]
    if None not in over and over[1] * max(growth) >= 4 * over[0]:
        return f"{pair}: {over[0]:.2f} -> {over[1]:.2f} of the ideal bytes"
    return ""


def choose_blocks(chip: str) -> None:
    """Prints what fits of the candidates for a chip's row of the table, and what they read.

    The smallest is chosen that leaves twice the multiplications for each number read that keep the
    matrix unit busy, else the largest that compiles.
    """
    on = _tpu.mesh(chip, 1)
    with jax.set_mesh(on):
        info = pltpu.get_tpu_info()
    name, memory = str(info.chip_version), info.vmem_capacity_bytes // MIB
    need = info.bf16_ops_per_second / info.mem_bw_bytes_per_second
    limit = None if memory <= 16 else min(64, memory * 3 // 4) * MIB
    print(f"{name}: {memory} MiB of VMEM a core, {need:.0f} multiplications for each number read")
    vocab, width, chosen, best = 128256, 4096, None, 0.0
    sizes = ((256, 1024), (512, 1024), (1024, 1024), (1024, 2048))
    for (rows, columns), depth in itertools.product(sizes, (512, 256)):
        blocks = Blocks(rows, columns, depth, limit)
        with mock.patch.dict(pallas_tiles.HIDDEN, {name: blocks}), jax.set_mesh(on):
            fitted = pallas_tiles.fit(vocab, [width], 2)
            cell = compiled(chip, "hidden", 4 * columns + 128, width)  # as any V with a ragged tile
        fits = fitted == [blocks] and cell.kernels == 1
        read = 2 * width * (T * -(-vocab // columns) + vocab * T // rows)
        busy = rows * columns / (rows + columns)
        print(
            f"  {rows} x {columns} x {depth}: {busy:.0f}, {read / 1e9:.1f} GB for {T} x {width} x "
            f"{vocab}; {f'compiles in {cell.seconds:.0f} s' if fits else cell.error or 'too large'}"
        )
        if fits and best < min(busy, 2 * need):
            chosen, best = blocks, busy
    same = chosen == pallas_tiles.HIDDEN.get(name)
    print(f"  chosen: {chosen}, {'as' if same else 'NOT as'} in the table")


if __name__ == "__main__":
    main()
