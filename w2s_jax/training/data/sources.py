"""Batches as pure functions of the step number."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import Mesh

from w2s_jax.training.data.encode import Encoded, EncodedPairs

Batch = dict[str, np.ndarray]


def pack(lengths: Sequence[int] | np.ndarray, length: int, *, seed: int = 0) -> list[np.ndarray]:
    """Groups sequences into rows: best fit, longest first, once for the whole data set.

    Each sequence, longest first, goes into the row in which it leaves the least room. The rows are
    made once and shuffled whole later, so that the batch of a step follows from its number alone.

    Args:
      lengths: positions that each sequence takes, at most `length`.
      length: positions of a row (T).
      seed: orders sequences of the same length.

    Returns:
      For each row the indices of its sequences, int64.
    """
    lengths = np.asarray(lengths)
    if lengths.size and lengths.max() > length:
        raise ValueError(f"a sequence takes {lengths.max()} positions, a row has {length}")
    shuffled = np.random.default_rng([seed, 0x9ACC]).permutation(lengths.size)
    order = shuffled[np.argsort(-lengths[shuffled], kind="stable")]
    rows: list[list[int]] = []
    by_room: list[list[int]] = [[] for _ in range(length + 1)]  # room left -> rows
    # Bit r is set if some row has r positions left: the best fit is its lowest bit from n on.
    open_rooms = 0
    for i in order:
        n = int(lengths[i])
        fitting = open_rooms >> n
        if fitting:
            room = n + (fitting & -fitting).bit_length() - 1
            row = by_room[room].pop()
            if not by_room[room]:
                open_rooms &= ~(1 << room)
        else:
            room, row = length, len(rows)
            rows.append([])
        rows[row].append(int(i))
        by_room[room - n].append(row)
        open_rooms |= 1 << (room - n)
    return [np.array(row, np.int64) for row in rows]


class Order:
    """A seeded permutation for each epoch; epochs follow each other without a gap."""

    def __init__(self, size: int, seed: int, *, epochs: int | None = None):
        """Orders `size` items; places after the last of `epochs` hold -1, no item."""
        self._size, self._last = size, epochs
        self._epoch = functools.lru_cache(maxsize=2)(
            lambda epoch: np.random.default_rng([seed, epoch]).permutation(size)
        )

    def items(self, start: int, stop: int) -> np.ndarray:
        """Items at the places start..stop-1 of the endless sequence."""
        places = np.arange(start, stop)
        epochs = places // self._size
        out = np.empty(len(places), np.int64)
        for epoch in np.unique(epochs):
            chosen = epochs == epoch
            over = self._last is not None and epoch >= self._last
            out[chosen] = -1 if over else self._epoch(int(epoch))[places[chosen] % self._size]
        return out


def fill_rows(encoded: Encoded, rows: Sequence[np.ndarray | Sequence[int]], length: int) -> Batch:
    """Arrays of some rows, each of one or several sequences.

    Args:
      encoded: the sequences.
      rows: for each row the indices of its sequences; together they fit.
      length: positions of a row (T).

    Returns:
      int32 [rows, T] "tokens", "targets" (the next token), "positions" (within the sequence) and
      "segment_ids" (1, 2, ...; 0 is padding), float32 "loss_mask" (1 where the target belongs to
      a completion).
    """
    shape = (len(rows), length)
    batch = {
        "tokens": np.full(shape, encoded.pad_id, np.int32),
        "targets": np.full(shape, encoded.pad_id, np.int32),
        "loss_mask": np.zeros(shape, np.float32),
        "positions": np.zeros(shape, np.int32),
        "segment_ids": np.zeros(shape, np.int32),
    }
    for r, indices in enumerate(rows):
        start = 0
        for segment, i in enumerate(indices, start=1):
            tokens = encoded.sequence(int(i))
            stop = start + len(tokens) - 1
            batch["tokens"][r, start:stop] = tokens[:-1]
            batch["targets"][r, start:stop] = tokens[1:]
            batch["loss_mask"][r, start + encoded.prompts[i] - 1 : stop] = 1.0
            batch["positions"][r, start:stop] = np.arange(stop - start)
            batch["segment_ids"][r, start:stop] = segment
            start = stop
    return batch


class _Source:
    """What both sources share: the examples of each step, and which of its rows are held here."""

    def __init__(
        self, count: int, *, rows: int, seed: int, once: bool, process_rows: np.ndarray | None
    ):
        self._count, self._rows = count, rows
        self._order = Order(count, seed, epochs=1 if once else None)
        self.process_rows = np.arange(rows) if process_rows is None else process_rows

    def __len__(self) -> int:
        return self._count

    @property
    def num_steps_per_epoch(self) -> int:
        """Steps after which every example was seen; the last may reach beyond the epoch."""
        return -(-self._count // self._rows)

    def items(self, step: int) -> np.ndarray:
        """Which of `len(self)` items each row of the global batch holds; -1 is padding."""
        return self._order.items(step * self._rows, (step + 1) * self._rows)


class ExampleSource(_Source):
    """Batches [rows, T] of prompts and completions, one or (packed) several to a row.

    With `once`, rows of a batch beyond the epoch's last are padding: no row comes twice.
    """

    def __init__(
        self,
        encoded: Encoded,
        *,
        rows: int,
        length: int,
        packed: bool = False,
        seed: int = 0,
        once: bool = False,
        process_rows: np.ndarray | None = None,
    ):
        """Decides rows; the same arguments give the same batches anywhere.

        Args:
          encoded: made with the same `length`.
          rows: rows of a global batch (B).
          length: positions of a row (T).
          packed: put several examples in a row, each with its own segment id.
          seed: of the shuffling, a new order each epoch.
          once: there is one epoch, as evaluation wants it.
          process_rows: the rows of every batch that this process holds (see `process_rows`); None:
            all.
        """
        positions = encoded.lengths - 1
        if positions.max() > length:
            raise ValueError(f"the data was encoded for more than length={length} positions")
        self._packed = (
            pack(positions, length, seed=seed) if packed else np.arange(len(encoded))[:, None]
        )
        super().__init__(
            len(self._packed), rows=rows, seed=seed, once=once, process_rows=process_rows
        )
        self._encoded, self._length = encoded, length
        # A packed row may be completions from end to end.
        self.most_scored = length if packed else encoded.most_targets
        self._identity = f"examples,{rows},{length},{packed},{seed}" + ",once" * once

    def fingerprint(self) -> str:
        """A hash of all that decides what `batch` returns, but for the process."""
        return _hash(self._identity, self._encoded.fingerprint())

    def batch(self, step: int) -> Batch:
        """The rows of a step that this process holds; see `fill_rows`."""
        mine = self.items(step)[self.process_rows]
        rows = [self._packed[i] if i >= 0 else () for i in mine]
        return fill_rows(self._encoded, rows, self._length)


class PairSource(_Source):
    """Batches [2 * rows, T] of pairs: the chosen sequences first, then the rejected ones.

    The prompt stands in both rows. Computing it once for both would save 21 % of the positions
    (GSM8K in SmolLM2's tokens: 65 of prompt, 93 of answer; 23 % on arithmetic_chains) and need a
    mask in which the rejected answer sees the prompt but not the chosen one; flash attention
    kernels know segment ids and no such mask.
    """

    def __init__(
        self,
        encoded: EncodedPairs,
        *,
        rows: int,
        length: int,
        seed: int = 0,
        once: bool = False,
        process_rows: np.ndarray | None = None,
    ):
        """Decides the order; `rows` and `process_rows` count pairs (see `ExampleSource`)."""
        if max(encoded.chosen.lengths.max(), encoded.rejected.lengths.max()) - 1 > length:
            raise ValueError(f"the data was encoded for more than length={length} positions")
        super().__init__(len(encoded), rows=rows, seed=seed, once=once, process_rows=process_rows)
        self._encoded, self._length = encoded, length
        self.most_scored = max(encoded.chosen.most_targets, encoded.rejected.most_targets)
        self._identity = f"pairs,{rows},{length},{seed}" + ",once" * once

    def fingerprint(self) -> str:
        """A hash of all that decides what `batch` returns, but for the process."""
        return _hash(self._identity, self._encoded.fingerprint())

    def batch(self, step: int) -> Batch:
        """The pairs of a step that this process holds; row i pairs with row i + half."""
        rows = [(i,) if i >= 0 else () for i in self.items(step)[self.process_rows]]
        sides = [
            fill_rows(side, rows, self._length)
            for side in (self._encoded.chosen, self._encoded.rejected)
        ]
        return {name: np.concatenate([side[name] for side in sides]) for name in sides[0]}


def process_rows(mesh: Mesh, rows: int, process_index: int | None = None) -> np.ndarray:
    """The rows of a global batch that a process's devices hold.

    On a real slice they are seldom next to each other, and processes share rows where a "tensor"
    axis crosses hosts.

    Args:
      mesh: ("data", "fsdp", "tensor"); rows are sharded over the first two.
      rows: rows of the global batch (pairs, for pairs).
      process_index: the process; None: this one.

    Returns:
      Row indices, int64, rising.

    Raises:
      ValueError: the rows do not divide, or the process has no device in the mesh.
    """
    shards = mesh.shape["data"] * mesh.shape["fsdp"]
    if rows % shards:
        raise ValueError(
            f"a batch of {rows} rows cannot be spread over data x fsdp = {shards} devices"
        )
    process = jax.process_index() if process_index is None else process_index
    owners = np.array([device.process_index for device in mesh.devices.flat]).reshape(shards, -1)
    held = np.any(owners == process, axis=1)
    if not held.any():
        raise ValueError(f"process {process} has no device in the mesh")
    return np.flatnonzero(np.repeat(held, rows // shards))


def _hash(*parts: str) -> str:
    return hashlib.blake2b("|".join(parts).encode(), digest_size=16).hexdigest()
