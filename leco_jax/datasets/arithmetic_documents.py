"""Documents of several worked examples in a row, from which a base learns in-context learning.

Every document has one to six problems of `arithmetic_chains` in one style, in the few-shot layout
of `leco_jax.text.prompts`. A base trained on them answers in a style of its own choice where it
sees no example, most often without any working, and in the style of the examples where it sees
some. Only arithmetic of the split "train" occurs, in problems that no other data set has.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from fractions import Fraction

from leco_jax.datasets import chain_generator
from leco_jax.datasets.chain_generator import ChainProblem
from leco_jax.datasets.problem import Problem

SPLITS = ("train", "validation")
_SEED = {"train": 1, "validation": 2}  # arithmetic_chains itself has seed 0
_SIZE = {"train": 12_000, "validation": 200}
MOST_EXAMPLES = 6


def _direct(problem: ChainProblem) -> str:
    return str(problem.answer)


def _equations(problem: ChainProblem) -> str:
    return "\n".join((*map(str, problem.equations), f"= {problem.answer}"))


def _prose(problem: ChainProblem) -> str:
    return " ".join((*problem.steps, f"So it is {problem.answer}."))


# Style -> (how an answer is written, how often): the most frequent one shows no working.
STYLES: dict[str, tuple[Callable[[ChainProblem], str], float]] = {
    "direct": (_direct, 4.0),
    "equations": (_equations, 2.0),
    "prose": (_prose, 2.0),
    "steps": (ChainProblem.chain, 4.0),
}


def documents(split: str) -> Iterator[tuple[str, list[ChainProblem]]]:
    """An endless stream of documents: the name of a style, and its problems.

    Args:
      split: "train" or "validation"; of documents, not of arithmetic.
    """
    rng = random.Random(f"arithmetic_documents:{split}")
    stream = chain_generator.problems("train", seed=_SEED[split])
    weights = [often for _, often in STYLES.values()]
    while True:
        style = rng.choices(list(STYLES), weights=weights)[0]
        count = rng.randint(1, MOST_EXAMPLES)
        yield style, [next(stream) for _ in range(count)]


def load_arithmetic_documents(split: str) -> list[Problem]:
    """Returns documents as problems: the first question, and all that follows as the solution."""
    rows = []
    for number, (style, problems) in zip(range(_SIZE[split]), documents(split), strict=False):
        write = STYLES[style][0]
        blocks = [f"Question: {p.question}\nAnswer:\n{write(p)}" for p in problems]
        first = problems[0]
        rows.append(
            Problem(
                id=f"arithmetic_documents/{split}/{number}",
                question=first.question,
                answer=Fraction(first.answer),
                gold=str(first.answer),
                solution="\n\n".join((write(first), *blocks[1:])),
            )
        )
    return rows
