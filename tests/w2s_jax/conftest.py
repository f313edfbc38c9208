"""A tiny model and random data for the tests of training."""

import numpy as np
import pytest

from leco_jax.models.config import ModelConfig

TINY = ModelConfig(
    vocab_size=48,
    width=16,
    mlp_width=32,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_width=4,
    max_positions=64,
    tied=True,
)


class RandomData:
    """Batches of random tokens as a function of the step; rows have padding and a prompt."""

    def __init__(
        self, *, rows=8, length=12, pairs=False, seed=0, steps_per_epoch=4, process_rows=None
    ):
        self.rows, self.length, self.pairs, self.seed = rows, length, pairs, seed
        self.process_rows = np.arange(rows) if process_rows is None else process_rows
        self.num_steps_per_epoch = steps_per_epoch
        self.most_scored = length
        self.asked: list[int] = []

    def fingerprint(self):
        return f"random {self.rows} {self.length} {self.pairs} {self.seed}"

    def __len__(self):
        return self.rows * self.num_steps_per_epoch

    def items(self, step):
        return step % self.num_steps_per_epoch * self.rows + np.arange(self.rows)

    def batch(self, step):
        self.asked.append(step)
        random = np.random.default_rng((self.seed, step % self.num_steps_per_epoch))
        rows, length = self.rows * (2 if self.pairs else 1), self.length
        ids = random.integers(0, TINY.vocab_size, (rows, length + 1)).astype(np.int32)
        used = random.integers(length - 4, length + 1, (rows, 1))
        prompt = random.integers(2, 5, (rows, 1))
        at = np.arange(length)[None]
        real = at < used
        batch = {
            "tokens": np.where(real, ids[:, :-1], 0).astype(np.int32),
            "targets": np.where(real, ids[:, 1:], 0).astype(np.int32),
            "loss_mask": (real & (at >= prompt)).astype(np.float32),
            "positions": np.where(real, at, 0).astype(np.int32),
            "segment_ids": real.astype(np.int32),
        }
        mine = self.process_rows
        mine = [*mine, *(mine + self.rows)] if self.pairs else mine
        return {name: x[mine] for name, x in batch.items()}


@pytest.fixture(scope="session")
def tiny():
    """A model of two layers."""
    return TINY


@pytest.fixture(scope="session")
def random_data():
    """The class of random data sources."""
    return RandomData
