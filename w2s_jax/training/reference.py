"""The reference of preference losses: a frozen copy, or log-probabilities computed once and stored.

(The third kind, the policy with its adapter switched off, needs no code: it is the frozen base.)
"""

import hashlib
import logging
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding

from leco_jax.models.config import ModelConfig
from leco_jax.storage.files import replacing
from w2s_jax.training.batch_scores import compute_copy, row_logprobs
from w2s_jax.training.processes import Stop, everywhere, raise_if_asked
from w2s_jax.training.train_step import place_batch

_log = logging.getLogger(__name__)

_HASH_BYTES = 16


def frozen_copy(params: Any, model: ModelConfig) -> Any:
    """Copies the start weights, in the dtype in which the forward pass would use them anyway.

    The copy shares no memory with `params`, which training will overwrite.
    """
    return jax.jit(lambda params: jax.tree.map(jnp.copy, compute_copy(params, model)))(params)


def weights_fingerprint(params: Any, *, dtype: str | None = None) -> str:
    """Hashes weights where they lie; the same bits give the same hash on any mesh.

    Args:
      params: the weights.
      dtype: hash what they are in this dtype, so that one model kept in several has one hash.
    """

    def checksum(x: jax.Array) -> jax.Array:
        x = x.astype(dtype or x.dtype)
        bits = jax.lax.bitcast_convert_type(x, jnp.uint16 if x.dtype.itemsize == 2 else jnp.uint32)
        bits = bits.astype(jnp.uint32)
        # Integer sums are exact in any order; the odd factors make them depend on every position.
        for axis, size in enumerate(bits.shape):
            factor = jax.lax.broadcasted_iota(jnp.uint32, bits.shape, axis) * 2 + 1
            bits = bits * (factor * jnp.uint32(2654435761) | 1) + jnp.uint32(size)
        return jnp.sum(bits, dtype=jnp.uint32)

    sums = jax.device_get(jax.jit(lambda params: jax.tree.map(checksum, params))(params))
    digest = hashlib.blake2b(digest_size=_HASH_BYTES)
    for path, value in jax.tree_util.tree_leaves_with_path(sums):
        digest.update(f"{jax.tree_util.keystr(path)}={int(value)};".encode())
    return digest.hexdigest()


def row_hashes(batch: dict[str, np.ndarray]) -> list[bytes]:
    """Hashes what decides each row's log-probability: its tokens and which of them count."""
    hashes = []
    names = ("tokens", "targets", "positions", "segment_ids", "loss_mask")
    for row in zip(*(batch[name] for name in names), strict=True):
        real = row[names.index("segment_ids")] > 0
        digest = hashlib.blake2b(digest_size=_HASH_BYTES)
        for array in row:
            # Padding is left out: the same example padded further is the same row.
            digest.update(np.ascontiguousarray(array[real], np.int32).tobytes())
        hashes.append(digest.digest())
    return hashes


class StoredReference:
    """A data source whose batches carry the reference's "reference_logprob", [rows] float32."""

    def __init__(self, data: Any, table: dict[bytes, float]):
        """Looks the rows of `data` up in `table` (see `store_reference`)."""
        self._data, self._table = data, table

    @property
    def num_steps_per_epoch(self) -> int:
        """As of the data."""
        return self._data.num_steps_per_epoch

    @property
    def most_scored(self) -> int:
        """As of the data."""
        return self._data.most_scored

    def fingerprint(self) -> str:
        """As of the data."""
        return self._data.fingerprint()

    def batch(self, step: int) -> dict[str, np.ndarray]:
        """The batch of a step.

        Raises:
          KeyError: a row that the table lacks.
        """
        batch = self._data.batch(step)
        try:
            found = [self._table[row] for row in row_hashes(batch)]
        except KeyError:
            raise KeyError(
                f"step {step} holds an example without a stored reference log-probability: compute "
                "the reference for the data and the number of steps of this run"
            ) from None
        return batch | {"reference_logprob": np.asarray(found, np.float32)}


def store_reference(
    data: Any,
    params: Any,
    *,
    num_steps: int,
    directory: str | pathlib.Path,
    model: ModelConfig,
    mesh: Mesh,
    remat: str = "none",
    stop: Stop = lambda: False,
) -> StoredReference:
    """Computes every row's summed log-probability under `params` once, or reads it from disk.

    The file's name is a hash of the data, the weights, the model and the rows' length: a stale
    file is never used.

    Args:
      data: batches of pairs; see `w2s_jax.training.loop.DataSource`.
      params: the reference's weights, on the mesh.
      num_steps: steps of the run; rows that come again are computed once.
      directory: where files are kept; should be one for all processes.
      model: the model.
      mesh: the mesh.
      remat: as in `leco_jax.models.transformer.forward`.
      stop: asked before every batch (see `processes`).

    Returns:
      The data with "reference_logprob" in its batches.

    Raises:
      Stopped: `stop` said so.
    """
    first = data.batch(0)
    identity = (data.fingerprint(), weights_fingerprint(params), repr(model))
    key = hashlib.blake2b(
        repr((*identity, first["tokens"].shape[-1], num_steps)).encode(), digest_size=_HASH_BYTES
    ).hexdigest()
    path = pathlib.Path(directory) / f"reference_{key}.npz"
    table = _read(path)
    # All processes go the same way, or the collectives below would wait for each other forever.
    if everywhere(table is not None):
        _log.info("reference log-probabilities from %s", path)
        return StoredReference(data, table or {})

    @jax.jit
    def sums(params, batch):
        total = row_logprobs(params, batch, model, mesh, remat=remat, most_scored=data.most_scored)
        return jax.lax.with_sharding_constraint(total, NamedSharding(mesh, jax.P()))

    table = {}
    with jax.set_mesh(mesh):
        for step in range(num_steps):
            raise_if_asked(stop)
            batch = data.batch(step)
            rows = row_hashes(batch)
            if everywhere(all(row in table for row in rows)):
                continue
            # [pairs, 2] on every process; each needs only its own rows, but may later hold others.
            total = np.asarray(jax.device_get(sums(params, place_batch(batch, mesh, pairs=True))))
            hashes = np.frombuffer(b"".join(rows), np.uint8).reshape(2, -1, _HASH_BYTES)
            hashes = _from_all(np.moveaxis(hashes, 0, 1))
            table |= {
                row.tobytes(): float(value)
                for row, value in zip(
                    hashes.reshape(-1, _HASH_BYTES), total.reshape(-1), strict=True
                )
            }
    if jax.process_index() == 0:
        _write(path, table)
    _log.info("reference log-probabilities of %d rows written to %s", len(table), path)
    return StoredReference(data, table)


def _read(path: pathlib.Path) -> dict[bytes, float] | None:
    if not path.exists():
        return None
    with np.load(path) as file:
        return {
            row.tobytes(): float(value)
            for row, value in zip(file["rows"], file["logprob"], strict=True)
        }


def _write(path: pathlib.Path, table: dict[bytes, float]) -> None:
    rows = np.frombuffer(b"".join(table), np.uint8).reshape(-1, _HASH_BYTES)
    with replacing(path) as draft:
        np.savez(draft, rows=rows, logprob=np.asarray(list(table.values()), np.float32))


def _from_all(rows: np.ndarray) -> np.ndarray:
    """Rows of all processes in the order of the global batch."""
    if jax.process_count() == 1:
        return rows
    return np.asarray(multihost_utils.process_allgather(rows)).reshape(-1, *rows.shape[1:])
