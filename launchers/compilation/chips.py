"""TPU chips and slices: published peaks, and the devices of a topology without one."""

import dataclasses
import math
import os
import re

import jax

from w2s_jax.training.metrics import peak_flops

_ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
}


@dataclasses.dataclass(frozen=True)
class Chip:
    """Published figures of one chip; network figures are of one direction.

    Attributes:
      hbm_bytes: of HBM that programs can use, as the TPU compiler counts them.
      hbm: bytes per second to and from HBM.
      ici_link: bytes per second of one of its links to a neighbour; the published figure of a chip
        is both directions of all of its links.
      dcn: bytes per second to other slices.
      wrap: a physical axis whose length is a multiple of this is a ring, another one a line.
      axes: of the network.
    """

    hbm_bytes: float
    hbm: float
    ici_link: float
    dcn: float
    wrap: int
    axes: int


# docs.cloud.google.com/tpu/docs/v5e, /v5p and /v6e: HBM, "bidirectional ICI bandwidth per chip"
# (400, 1200 and 800 GB/s over 4, 6 and 4 links), network of a pod or a chip (v5e: 6.4 Tbit/s for
# 256 chips, v5p: 50 Gbit/s a chip, v6e: 25.6 Tbit/s for 256 chips).
CHIPS = {
    "v5e": Chip(15.75 * 2**30, 819e9, 50e9, 3.125e9, wrap=16, axes=2),
    "v5p": Chip(95.74 * 2**30, 2765e9, 100e9, 6.25e9, wrap=4, axes=3),
    "v6e": Chip(31.25 * 2**30, 1600e9, 100e9, 12.5e9, wrap=16, axes=2),
}


@dataclasses.dataclass(frozen=True)
class Slices:
    """One or more equal slices of a generation."""

    topology: str  # "v5e:16x16"
    num_slices: int
    chip: Chip
    axes: tuple[int, ...]  # chips along each physical axis of a slice
    devices: tuple[jax.Device, ...]

    @property
    def peak_flops(self) -> float:
        """Dense bfloat16 FLOP/s of one chip."""
        peak = peak_flops(self.devices[0].device_kind)
        assert peak is not None, self.devices[0].device_kind
        return peak

    def __str__(self) -> str:
        return f"{self.num_slices} x {self.topology}" if self.num_slices > 1 else self.topology


def prepare() -> None:
    """Keeps jax on the CPU and lets libtpu describe slices; before the first device is asked for.

    Raises:
      ValueError: libtpu is not installed.
    """
    os.environ.update(_ENVIRONMENT)
    jax.config.update("jax_platforms", "cpu")
    try:
        import libtpu  # noqa: F401
    except ImportError:
        raise ValueError("libtpu is missing: pip install -e '.[experiments,aot]'") from None


def find_slices(topology: str, num_slices: int = 1) -> Slices:
    """The devices of `num_slices` slices such as "v5e:4x4" or "v5p:4x4x4".

    Raises:
      ValueError: the TPU compiler knows no such slice.
    """
    from jax.experimental import topologies

    generation, _, shape = topology.partition(":")
    known = ", ".join(f"{name}:{'x'.join('4' * chip.axes)}" for name, chip in CHIPS.items())
    if generation not in CHIPS or not re.fullmatch(r"\d+(x\d+)+", shape):
        raise ValueError(f"topology {topology!r} is not like one of {known}")
    chip = CHIPS[generation]
    axes = tuple(map(int, shape.split("x")))
    if len(axes) != chip.axes:
        raise ValueError(
            f"topology {topology!r}: a {generation} slice has {chip.axes} axes, {known}"
        )
    try:
        found = topologies.get_topology_desc(
            platform="tpu", topology_name=topology, num_slices=num_slices
        )
    except Exception as error:  # jaxlib's own kind, which says nothing more
        reason = str(error).splitlines()[0]
        raise ValueError(f"topology {topology!r} with {num_slices} slices: {reason}") from None
    devices = tuple(found.devices)
    if len(devices) != num_slices * math.prod(axes):
        raise ValueError(
            f"topology {topology!r}: the TPU compiler has {len(devices)} devices of it"
        )
    return Slices(topology, num_slices, chip, axes, devices)
