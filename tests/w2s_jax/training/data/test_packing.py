import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2s_jax.training.data.sources import pack


@given(st.lists(st.integers(1, 30), max_size=60), st.integers(30, 50), st.integers(0, 3))
def test_every_sequence_is_in_one_row_and_every_row_holds_its_own(lengths, length, seed):
    rows = pack(lengths, length, seed=seed)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in row) <= length for row in rows)
    # At most one row is half empty, or two would have been one.
    assert sum(sum(lengths[i] for i in row) * 2 <= length for row in rows) <= 1
    assert [r.tolist() for r in rows] == [r.tolist() for r in pack(lengths, length, seed=seed)]


def test_the_best_fitting_row_is_taken():
    # 5 and 6 open rows with 5 and 4 left; 4 fills the second exactly.
    assert sorted(sorted(row.tolist()) for row in pack([5, 6, 4], 10)) == [[0], [1, 2]]


def test_real_lengths_leave_little_room():
    lengths = np.random.default_rng(0).integers(60, 215, 5000)
    rows = pack(lengths, 512)
    assert lengths.sum() / (len(rows) * 512) > 0.97


def test_the_seed_decides_between_equals():
    rows = [pack([10] * 20, 40, seed=seed) for seed in (0, 1)]
    assert [r.tolist() for r in rows[0]] != [r.tolist() for r in rows[1]]


def test_a_sequence_longer_than_a_row_is_refused():
    with pytest.raises(ValueError, match="takes 11 positions, a row has 10"):
        pack([3, 11], 10)
