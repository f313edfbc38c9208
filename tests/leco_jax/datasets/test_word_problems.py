import re
from fractions import Fraction

import pytest

from leco_jax.datasets.registry import load_problems
from leco_jax.text.answers import extract_answer
from leco_jax.text.prompts import DEMONSTRATIONS


def test_answers_follow_from_the_solutions():
    problems = load_problems("word_problems")
    assert len(problems) >= 24
    for problem in problems:
        steps = problem.solution.splitlines()[:-1]
        assert 1 <= len(steps) <= 3
        for step in steps:
            left, operator, right, result = re.fullmatch(
                r"Step [0-9]: ([0-9]+) ([-+*/]) ([0-9]+) = ([0-9]+)\.", step
            ).groups()
            values = {
                "+": Fraction(left) + Fraction(right),
                "-": Fraction(left) - Fraction(right),
                "*": Fraction(left) * Fraction(right),
                "/": Fraction(left) / Fraction(right),
            }
            assert values[operator] == Fraction(result), problem
        assert result == problem.gold
        assert problem.answer == Fraction(problem.gold)
        assert extract_answer(problem.solution) == problem.answer
        assert problem.kind == "number"


def test_problems_are_distinct_and_in_no_prompt():
    problems = load_problems("word_problems")
    questions = [problem.question for problem in problems]
    assert len(set(questions)) == len({problem.id for problem in problems}) == len(problems)
    assert not set(questions) & {d.question for d in DEMONSTRATIONS}
    assert load_problems("word_problems", limit=3) == problems[:3]


def test_takes_no_data_dir(tmp_path):
    with pytest.raises(ValueError, match="takes no data_dir"):
        load_problems("word_problems", data_dir=tmp_path)
