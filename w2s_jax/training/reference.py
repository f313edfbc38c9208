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
from jax.sharding import Mesh, NamedSharding

from leco_jax.models.config import ModelConfig
from leco_jax.storage.files import local_copy, replacing
from leco_jax.storage.paths import as_path
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


class StoredReference:
    """A data source whose batches carry the reference's "reference_logprob", [rows] float32."""

    def __init__(self, data: Any, table: np.ndarray):
        """Adds to each pair its line of `table`, float32 [items, 2], `inf` where unknown."""
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
          KeyError: a pair that the table lacks.
        """
        items = self._data.items(step)[self._data.process_rows]
        found = np.where(items[:, None] < 0, 0, self._table[items])
        if np.isposinf(found).any():
            raise KeyError(
                f"step {step} holds an example without a stored reference log-probability: compute "
                "the reference for the data and the number of steps of this run"
            )
        return self._data.batch(step) | {"reference_logprob": found.T.reshape(-1)}


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

    The file's name is a hash of the data, the weights and the model: a stale file is never used.

    Args:
      data: a `w2s_jax.training.data.PairSource`, or what has its methods.
      params: the reference's weights, on the mesh.
      num_steps: steps of the run; pairs that come again in a later epoch are computed once.
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
    # The first epoch holds every pair.
    num_steps = min(num_steps, data.num_steps_per_epoch)
    identity = (data.fingerprint(), weights_fingerprint(params), repr(model), num_steps)
    key = hashlib.blake2b(repr(identity).encode(), digest_size=_HASH_BYTES).hexdigest()
    path = as_path(directory) / f"reference_{key}.npz"
    # All processes go the same way, or the collectives below would wait for each other forever.
    if everywhere(path.exists()):
        _log.info("reference log-probabilities from %s", path)
        with local_copy(path) as local:
            return StoredReference(data, np.load(local)["logprob"])

    @jax.jit
    def sums(params, batch):
        total = row_logprobs(params, batch, model, mesh, remat=remat, most_scored=data.most_scored)
        return jax.lax.with_sharding_constraint(total, NamedSharding(mesh, jax.P()))

    table = np.full((len(data), 2), np.inf, np.float32)
    with jax.set_mesh(mesh):
        for step in range(num_steps):
            raise_if_asked(stop)
            batch = place_batch(data.batch(step), mesh, pairs=True)
            # Whole on every process, in the order of the global batch.
            total_B2 = np.asarray(jax.device_get(sums(params, batch)))
            items = data.items(step)
            table[items[items >= 0]] = total_B2[items >= 0]
    if jax.process_index() == 0:
        with replacing(path) as draft:
            np.savez(draft, logprob=table)
    _log.info("reference log-probabilities of %d pairs written to %s", len(table), path)
    return StoredReference(data, table)
