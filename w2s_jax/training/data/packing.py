"""Which sequences share a row: best fit, longest first, decided once for the whole data set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def pack(lengths: Sequence[int] | np.ndarray, length: int, *, seed: int = 0) -> list[np.ndarray]:
    """Groups sequences into rows.

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
