"""The synthetic data set `arithmetic_chains` (see `chain_generator`) as array_record files."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from leco_jax.configuration import at_least
from leco_jax.datasets import chain_generator as chains
from leco_jax.datasets.prepared import prepared_builder, records
from leco_jax.datasets.problem import Problem

# "unseen" has arithmetic of "train" in problems that no bundled model was trained on.
SPLITS = (*chains.SPLITS, "unseen")
_UNSEEN_SEED = 1_000  # added to the configuration's own
# Raise it with every change of the generator that changes problems.
VERSION = "1.0.0"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChainsConfig:
    """What is drawn."""

    seed: int = 0  # names the stream of problems
    train: int = 100_000  # problems of the split "train"
    validation: int = 1_000  # problems of the split "validation"
    test: int = 1_000  # problems of the split "test"
    unseen: int = 16_000  # problems of the split "unseen"
    levels: tuple[int, ...] = chains.LEVELS  # difficulty levels, in equal shares
    distractors: tuple[str, ...] = chains.DISTRACTORS  # distractor styles, in equal shares

    def __post_init__(self):
        at_least(self, **dict.fromkeys(SPLITS, 1))
        for name, known in (("levels", chains.LEVELS), ("distractors", chains.DISTRACTORS)):
            object.__setattr__(self, name, tuple(getattr(self, name)))
            unknown = [x for x in getattr(self, name) if x not in known]
            if unknown or not getattr(self, name):
                raise ValueError(f"{name} {unknown or '()'}: known are {known}")

    def problems(self, split: str) -> Iterator[chains.ChainProblem]:
        """The problems of a split, straight from the generator."""
        unseen = split == "unseen"
        stream = chains.problems(
            "train" if unseen else split,
            seed=self.seed + (_UNSEEN_SEED if unseen else 0),
            levels=self.levels,
            distractors=self.distractors,
        )
        return itertools.islice(stream, getattr(self, split))


def load_arithmetic_chains(split: str) -> list[Problem]:
    """Returns the problems of one of `SPLITS` in the default configuration."""
    return [
        Problem(
            id=f"arithmetic_chains/{split}/{row['row']}",
            question=row["question"],
            answer=Fraction(row["answer"]),
            gold=str(row["answer"]),
            solution=row["chain"],
        )
        for row in records(arithmetic_chains(split), split)
    ]


def arithmetic_chains(split: str, config: ChainsConfig | None = None) -> Any:
    """Returns the tfds builder of one of `SPLITS`: `.as_data_source(split)` gives random access.

    A record has "row" (its number), "question", "chain", "answer", "level" and "distractor". The
    files are written once for each split and configuration, into the cache.
    """
    config = config or ChainsConfig()
    if split not in SPLITS:
        raise ValueError(f"arithmetic_chains has no split {split!r}; it has {list(SPLITS)}")
    return prepared_builder(
        "arithmetic_chains",
        split,
        lambda: (
            {
                "question": problem.question,
                "chain": problem.chain(),
                "answer": problem.answer,
                "level": problem.level,
                "distractor": problem.distractor,
            }
            for problem in config.problems(split)
        ),
        fields={"question": str, "chain": str, "answer": int, "level": int, "distractor": str},
        source=f"{VERSION} {config}",
        description="Synthetic word problems with exact step-by-step solutions.",
    )
