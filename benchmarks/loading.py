"""Bytes and pages that a host of a pod reads of a model in files, over those of its share.

    python -m benchmarks.loading [--megabytes 600] [--json FILE]

A safetensors file of Llama-3-8B's widths (one layer, as large a vocabulary as fits) is read through
the loader's own functions, with the devices of one process after another of real topologies
(libtpu's descriptions, four chips a host; no TPU is needed). Pages are those that the kernel then
holds of the file. The share is what the host's devices hold of the weight in the model's layout.
The peer reads each device's part where it lies in the file; its pages are counted from there.
"""

import ctypes
import mmap
import os
import tempfile
from pathlib import Path

import ml_dtypes
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh
from safetensors.numpy import save_file

from benchmarks import _tpu
from benchmarks._common import Row, parser, report
from leco_jax.models.architectures import preset
from leco_jax.models.config import ModelConfig
from leco_jax.models.loading.assemble import reading, stored_shape
from leco_jax.models.loading.huggingface import SafetensorsSource
from leco_jax.models.loading.stored_rows import stored_rows
from leco_jax.models.sharding import make_mesh, named_sharding
from leco_jax.models.weights import Weight, weight_table
from leco_jax.storage import files

_TOPOLOGIES = {8: "v5e:2x4", 64: "v5e:8x8", 256: "v5e:16x16"}
_BYTES = 2  # of a bfloat16
_PAGE = mmap.PAGESIZE
_HOSTS = 4  # that are looked at, spread over the slice


def main() -> None:
    """Prints the table."""
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--megabytes", type=int, default=600)
    given = options.parse_args()
    _tpu.prepare()
    base = preset("llama3_8b", num_layers=1, dtype="bfloat16", param_dtype="bfloat16")
    layer = sum(
        int(np.prod(w.shape)) for p, w in weight_table(base).items() if p.startswith("layers/")
    )
    left = given.megabytes * 10**6 // _BYTES - layer
    config = base.replace(vocab_size=max(1024, left // (2 * base.width) // 1024 * 1024))
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "model.safetensors"
        _write(path, config)
        rows = [row for size in _TOPOLOGIES for row in _rows(path, config, size)]
        notes = (f"file of {path.stat().st_size / 1e6:.0f} MB, pages of {_PAGE} bytes",)
    report(rows, given.json, notes)


def _write(path: Path, config: ModelConfig) -> None:
    draw = np.random.default_rng(0)
    save_file(
        {
            weight.hf.format(0): draw.integers(
                0, 2**14, stored_shape(weight, config), np.uint16
            ).view(ml_dtypes.bfloat16)
            for weight in weight_table(config).values()
        },
        path,
    )
    with path.open("rb+") as file:
        os.fsync(file.fileno())  # dirty pages would stay in memory


def _rows(path: Path, config: ModelConfig, size: int) -> list[Row]:
    devices = topologies.get_topology_desc(
        platform="tpu", topology_name=_TOPOLOGIES[size], num_slices=1
    ).devices
    mesh = make_mesh(fsdp=size, devices=devices)
    count = len({device.process_index for device in devices})
    hosts = sorted({round(i * (count - 1) / (_HOSTS - 1)) for i in range(_HOSTS)})
    rows = []
    for name, weight in weight_table(config).items():
        if len(weight.stored.split(",")) == 1:
            continue  # vectors are everywhere
        found = [_host(path, config, name, weight, mesh, host) for host in hosts]
        for i, unit in enumerate(("bytes", "pages")):
            rows.append(
                Row(
                    name=f"{name.removeprefix('layers/')}, fsdp {size}: {unit} over share",
                    ours=max(figures[i] for figures in found),
                    peer=max(figures[2 + i] for figures in found),
                    peer_name="each part where it lies",
                    unit="x",
                    bound="ours <= 1.2",
                )
            )
    return rows


def _host(
    path: Path, config: ModelConfig, name: str, weight: Weight, mesh: Mesh, host: int
) -> tuple:
    """Bytes and pages of one host over its share, ours and the peer's."""
    sharding = named_sharding(name, weight.shape, weight.axes, mesh)
    mine = [device for device in mesh.devices.flat if device.process_index == host]
    where = sharding.devices_indices_map(weight.shape)
    parts = {
        tuple(s.indices(n)[:2] for s, n in zip(where[device], weight.shape, strict=True))
        for device in mine
    }
    share = _BYTES * sum(int(np.prod([stop - start for start, stop in part])) for part in parts)

    counted = _Counted(path)
    source = SafetensorsSource([path], open_ranges=lambda _: counted)
    counted.forget()
    own = reading(
        config, weight, weight.hf, source, sharding, stored_rows(weight, config, sharding), None
    )
    where = own.sharding.devices_indices_map(own.shape)
    for device in mine:
        own.read(where[device])
    ours = counted.bytes / share, counted.pages() * _PAGE / share

    # The peer's columns, of every row that a device has.
    height, width = stored_shape(weight, config)
    rows, columns = weight.stored.split(",")
    touched = np.zeros(-(-height * width * _BYTES // _PAGE) + 1, bool)
    read = 0
    for part in parts:
        bounds = dict(zip(weight.dims, part, strict=True))
        first, stop, begin, end = (
            bound * int(np.prod([config.sizes[letter] for letter in group[1:]]))
            for group in (rows, columns)
            for bound in bounds[group[0]]
        )
        starts = (np.arange(first, stop) * width + begin) * _BYTES
        ends = starts + (end - begin) * _BYTES - 1
        read += len(starts) * (end - begin) * _BYTES
        for offset in range(int((ends // _PAGE - starts // _PAGE).max()) + 1):
            touched[np.minimum(starts // _PAGE + offset, ends // _PAGE)] = True
    return *ours, read / share, touched.sum() * _PAGE / share


class _Counted(files.Ranges):
    """Counts what is read of a file."""

    def __init__(self, path: Path):
        super().__init__(path)
        self.bytes = 0

    def read(self, start: int, length: int) -> bytes | bytearray:
        self.bytes += length
        return super().read(start, length)

    def forget(self) -> None:
        """Begins anew, with none of the file in memory."""
        self.bytes = 0
        os.posix_fadvise(self._file, 0, 0, os.POSIX_FADV_DONTNEED)
        if left := self.pages():
            raise OSError(f"{left} pages of the file stay in memory: use another file system")

    def pages(self) -> int:
        """How many pages of the file are in memory."""
        libc = ctypes.CDLL(None, use_errno=True)
        mapped = mmap.mmap(self._file, self.size, prot=mmap.PROT_READ)
        pages = np.zeros(-(-self.size // _PAGE), np.uint8)
        view = np.frombuffer(mapped, np.uint8)
        address = ctypes.c_void_p(view.ctypes.data)
        if libc.mincore(address, ctypes.c_size_t(self.size), ctypes.c_void_p(pages.ctypes.data)):
            raise OSError(ctypes.get_errno(), "mincore")
        return int((pages & 1).sum())


if __name__ == "__main__":
    main()
