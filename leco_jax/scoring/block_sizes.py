"""Block sizes of the Pallas kernels, per TPU generation; one place to tune.

Logits kernel: `rows` × `columns` of logits per step, read ahead twice. 256 × 4096 is the smallest
block at which the bundles per element stop falling (compiler schedules; benchmarks/scoring_tpu.py).

Hidden kernel: `rows` × `columns` float32 accumulators, `depth` of the contraction per step. Each
product reads rows·depth + columns·depth numbers for rows·columns·depth multiplications, so the
matrix unit is kept busy where rows·columns/(rows + columns) exceeds FLOPs over bytes of the chip:
241 (v5e), 166 (v5p), 560 (v6e).
"""

import dataclasses

from jax.experimental.pallas import tpu as pltpu

MIB = 1 << 20


@dataclasses.dataclass(frozen=True)
class Blocks:
    """A tile, and the VMEM that the kernel may take (None: the compiler's default)."""

    rows: int
    columns: int
    depth: int = 0
    vmem_limit: int | None = None


# Keys are what `pltpu.get_tpu_info()` calls the chip; "other" compiles on every generation.
LOGITS = {"other": Blocks(256, 4096)}
HIDDEN = {
    "v5e": Blocks(1024, 1024, 512, 64 * MIB),
    "v5p": Blocks(1024, 1024, 512, 48 * MIB),
    "v6e": Blocks(1024, 2048, 512, 64 * MIB),
    "other": Blocks(256, 1024, 512),
}


def chip() -> str:
    """The TPU that the surrounding mesh or the default backend has: "v5e", ..., or "other"."""
    try:
        return str(pltpu.get_tpu_info().chip_version)
    except Exception:  # no TPU here, or one that this jax does not know
        return "other"


def blocks_for(table: dict[str, Blocks]) -> Blocks:
    """The chip's row of a table."""
    return table.get(chip(), table["other"])
