"""Gold answers of GSM8K and MATH: is each graded right, and are two different ones ever equal?

    python -m benchmarks.gold_answers --gsm8k=DIRECTORY --math=DIRECTORY

Needs the extra `latex`. A solution is graded as a response, and so is its answer in a sentence. Of
all pairs of different golds of MATH those are compared whose figures (the numbers in them, in any
order) are the same, and so many others drawn at random; those that are equal are listed, to judge.
"""

from __future__ import annotations

import collections
import itertools
import random
from pathlib import Path

import sympy

from benchmarks._common import Row, parser, report
from leco_jax.datasets.problem import Problem
from leco_jax.datasets.registry import load_problems
from leco_jax.text import latex_worker
from leco_jax.text.answers import answers_equal, read_answer
from leco_jax.text.number_answers import parse_number

_OTHERS = 2000  # pairs drawn at random


def main() -> None:
    """Prints the table, and the pairs."""
    options = parser(str(__doc__).splitlines()[0])
    options.add_argument("--gsm8k", type=Path, required=True, help="with train and test.jsonl")
    options.add_argument("--math", type=Path, required=True, help="with test.jsonl")
    arguments = options.parse_args()
    rows, notes = [], []
    for name, split, directory in (
        ("gsm8k", "train", arguments.gsm8k),
        ("gsm8k", "test", arguments.gsm8k),
        ("math", "test", arguments.math),
    ):
        problems = load_problems(name, split=split, data_dir=directory)
        for way, response in (
            ("solutions", lambda p: p.solution),
            ("answers in a sentence", lambda p: f"The answer is ${p.gold}$."),
        ):
            wrong = [p for p in problems if not _right(p, response(p))]
            share = 100 * (1 - len(wrong) / len(problems))
            rows.append(
                Row(
                    name=f"{name} {split}: {way} graded right",
                    ours=share,
                    peer_name="none",
                    unit="%",
                    bound="ours >= 99.9",
                    note=f"{len(problems) - len(wrong)} of {len(problems)}",
                )
            )
            notes += [f"{p.id}, {way}: {p.gold!r}" for p in wrong]
    values = sorted({problem.answer for problem in problems})
    same, others = _pairs(values)
    notes += [f"equal: {a!r} and {b!r}" for a, b in same if _equal(a, b)]
    rows += [
        Row(
            name=f"MATH's golds: pairs of {what} that are equal",
            ours=sum(_equal(a, b) for a, b in pairs),
            peer_name="none",
            unit="pairs",
            note=f"{len(pairs)} pairs of {len(values)} golds",
        )
        for what, pairs in (("the same figures", same), ("other figures", others))
    ]
    report(rows, arguments.json, tuple(notes))


def _right(problem: Problem, response: str | None) -> bool:
    answer = read_answer(response or "", kind=problem.kind)
    return answers_equal(answer.value, problem.answer, kind=problem.kind)


def _equal(a: str, b: str) -> bool:
    return answers_equal(a, b, kind="latex")


def _pairs(values: list[str]) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Pairs of the same figures, and others."""
    groups = collections.defaultdict(list)
    for value in values:
        groups[_figures(value)].append(value)
    same = [pair for group in groups.values() for pair in itertools.combinations(group, 2)]
    generator = random.Random(0)
    drawn = (tuple(generator.sample(values, 2)) for _ in range(_OTHERS))
    return same, [pair for pair in drawn if pair not in same and pair[::-1] not in same]


def _figures(value: str) -> tuple[str, ...]:
    number = parse_number(value)
    if number is not None:
        return (f"{float(number):.4g}",)
    try:
        leaves = itertools.chain(*(_leaves(found) for found in latex_worker.parsed(value)))
        return tuple(sorted(leaves)) or (value.casefold(),)
    except Exception:  # of strange texts; they are compared by letter
        return (value.casefold(),)


def _leaves(found: sympy.Basic) -> list[str]:
    """The numbers of a tuple, set, matrix, interval or equation; an expression is one."""
    if isinstance(found, sympy.Expr) or not found.args:
        figure = latex_worker.figure(found) if isinstance(found, sympy.Expr) else None
        return [str(found) if figure is None else f"{figure:.4g}"]
    return [leaf for part in found.args for leaf in _leaves(part)]


if __name__ == "__main__":
    main()
