"""Which rows a process holds, on every slice that TPUs are lent in, each process emulated."""

import jax
import numpy as np
import pytest
from jax.experimental import topologies

from leco_jax.models.sharding import make_mesh
from w2s_jax.training.data import process_rows
from w2s_jax.training.reference import StoredReference
from w2s_jax.training.train_step import place_batch

SLICES = {
    "v5e": ("2x4", "4x4", "4x8", "8x8", "8x16", "16x16"),
    "v5p": ("2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8"),
    "v6e": ("2x4", "4x4", "4x8", "8x8", "8x16", "16x16"),
}


class Numbered:
    """Pairs that hold nothing but their own number, in an order unlike that of the rows."""

    def __init__(self, rows, mine):
        self.rows, self.process_rows = rows, mine

    def items(self, step):
        return np.random.default_rng(step).permutation(self.rows)

    def batch(self, step):
        mine = self.items(step)[self.process_rows]
        return {"tokens": np.concatenate([mine, mine + 0.5])}


def devices_of(chips, slices=1):
    return topologies.get_topology_desc(
        platform="tpu", topology_name=chips, num_slices=slices
    ).devices


def check_every_process(mesh, monkeypatch):
    """Places a batch with stored references as each process would, and looks at every device."""
    rows = 2 * mesh.shape["data"] * mesh.shape["fsdp"]
    table = -1 - np.stack([np.arange(rows), np.arange(rows) + 0.5], axis=1)
    pairs = Numbered(rows, None).items(3)
    whole = np.stack([pairs, pairs + 0.5], axis=1)
    placed = []

    def make_array(shape, sharding, part):
        for device, index in sharding.devices_indices_map(shape).items():
            if device.process_index == jax.process_index():
                placed.append(device)
                found = part(index)
                numbers = -1 - found if (found < 0).any() else found  # references, or tokens
                np.testing.assert_array_equal(numbers, whole[index[0]])

    monkeypatch.setattr(jax, "make_array_from_callback", make_array)
    for process in {device.process_index for device in mesh.devices.flat}:
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        batch = StoredReference(Numbered(rows, process_rows(mesh, rows)), table).batch(3)
        place_batch(batch, mesh, pairs=True)
    assert len(placed) == 2 * mesh.size


@pytest.mark.parametrize("kind", SLICES)
def test_every_slice_and_tensor_size_gets_its_rows(kind, monkeypatch):
    fit = 0
    for chips in SLICES[kind]:
        devices = devices_of(f"{kind}:{chips}")
        for tensor in (1, 2, 4, 8, 16):
            if tensor > len(devices):
                with pytest.raises(ValueError, match=f"tensor={tensor} does not fit 8 devices"):
                    make_mesh(fsdp=-1, tensor=tensor, devices=devices)
                continue
            with monkeypatch.context() as patch:
                check_every_process(make_mesh(fsdp=-1, tensor=tensor, devices=devices), patch)
            fit += 1
    assert fit == 5 * len(SLICES[kind]) - 1


def test_several_slices_meet_along_data_alone(monkeypatch):
    devices = devices_of("v5e:4x4", slices=2)
    mesh = make_mesh(data=4, fsdp=-1, tensor=2, devices=devices)
    numbers = np.array([device.slice_index for device in mesh.devices.flat])
    np.testing.assert_array_equal(numbers, np.repeat([0, 1], 16))
    with pytest.raises(ValueError, match="data=1 is not a multiple of the 2 slices"):
        make_mesh(fsdp=-1, devices=devices)
    check_every_process(mesh, monkeypatch)


def test_rows_that_cannot_be_spread_are_refused():
    mesh = make_mesh(data=4, fsdp=2)
    assert process_rows(mesh, 16).tolist() == list(range(16))
    with pytest.raises(ValueError, match="12 rows cannot be spread over data x fsdp = 8"):
        process_rows(mesh, 12)
    with pytest.raises(ValueError, match="process 1 has no device"):
        process_rows(mesh, 16, 1)
