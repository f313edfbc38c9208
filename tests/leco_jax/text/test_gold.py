"""Gold answers are read whole or not at all, and a gold answer in a box reads back as itself."""

import json
from fractions import Fraction

import pytest

from leco_jax.datasets.problem import gsm8k_gold
from leco_jax.text.answers import answers_equal, extract_answer
from leco_jax.text.gold import BadGoldError, make_all, read_gold
from tests.real_data import data_file

DIFFICULT = {
    "18": 18, "-7": -7, "−7": -7, "+3": 3, "- 5": -5, "0": 0, "007": 7, ".5": Fraction(1, 2),
    "1,000": 1000, "1{,}000": 1000, r"12,\!345": 12345, "12 345": 12345, r"111,\! 111": 111111,
    r"\frac{1}{2}": Fraction(1, 2), r"\dfrac{3}{4}": Fraction(3, 4), r"\tfrac34": Fraction(3, 4),
    r"\frac 1{72}": Fraction(1, 72), r"-\frac{3}{2}": Fraction(-3, 2),
    r"2\frac{1}{2}": Fraction(5, 2),
    "1 1/2": Fraction(3, 2), "½": Fraction(1, 2), "1½": Fraction(3, 2), "3/4": Fraction(3, 4),
    r"50\%": 50, "50%": 50, r"\$5.50": Fraction(11, 2), r"-\$0.50": Fraction(-1, 2), "£3": 3,
    r"90^\circ": 90, r"90^{\circ}": 90, "90°": 90, r"5\text{ cm}^2": 5, r"144 \mbox{ m}^3": 144,
    r"45 \text{ units}^2": 45, "18 dollars per hour": 18, r"\text{13}": 13, "(7)": 7, "$7$": 7,
    "x = 4": 4, r"x=\frac{3}{2}": Fraction(3, 2), "1e3": 1000, r"1.5 \times 10^{3}": 1500,
    "5 million": 5_000_000, "7.00": 7, "18.": 18, r"20\text{ degrees}": 20,
}  # fmt: skip
REFUSED = [
    "", " ", "x", "yes", "(B)", "(1, 5)", "1, 2", "1,2", r"(-\infty, 5)", r"\sqrt{2}", r"2\pi",
    r"\frac{3\sqrt{5}}{4}", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", "y = 2x + 3", "x^2 + y^2 = 13",
    "4x-5y=-50", "2516_8", "2^{2005}", "1:2", r"\text{4:30 p.m.}", "9 a.m.", r"\text{June 20}",
    "12 and 13", "3 5", "about 18", "It is 18.", "2 + 3 = 5", "18\n19", "5}{6", "5 boxed{6}",
    r"\boxed{5} and 6", "#### 5", "9" * 400, "5!", "5²", "∞", "٣",
]  # fmt: skip


@pytest.mark.parametrize("text", DIFFICULT)
def test_a_gold_answer_in_a_box_reads_back_as_itself(text):
    assert read_gold(text) == DIFFICULT[text]
    assert answers_equal(extract_answer(f"So it is \\boxed{{{text}}}."), read_gold(text))


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_not_wholly_a_number_is_refused(text):
    with pytest.raises(BadGoldError, match="the gold answer"):
        read_gold(text)


def rows(name):
    return [json.loads(line) for line in data_file(name).read_text().splitlines()]


@pytest.mark.parametrize(("split", "count"), [("train", 7473), ("test", 1319)])
def test_every_gold_answer_of_gsm8k(split, count):
    solutions = [row["answer"] for row in rows(f"gsm8k/{split}.jsonl")]
    assert len(solutions) == count
    for solution in solutions:
        gold = gsm8k_gold(solution)
        assert extract_answer(f"\\boxed{{{gold}}}") == read_gold(gold) == extract_answer(solution)


def boxed(solution):
    """The content of a solution's last box, found by counting braces only."""
    rest = solution[solution.rindex("\\boxed") + len("\\boxed") :]
    if not rest.startswith("{"):
        return rest.split("$")[0]
    depth = 0
    for i, character in enumerate(rest):
        depth += {"{": 1, "}": -1}.get(character, 0) * (rest[i - 1 : i] != "\\")
        if depth == 0:
            return rest[1:i]
    raise AssertionError(solution)


def test_every_accepted_gold_answer_of_math_grades_its_own_solution_right():
    accepted = 0
    solutions = [row["solution"] for row in rows("math/test.jsonl")]
    for solution in solutions:
        gold = boxed(solution)
        try:
            value = read_gold(gold)
        except BadGoldError:
            continue
        accepted += 1
        assert extract_answer(f"\\boxed{{{gold}}}") == value == extract_answer(solution), gold
    assert (accepted, len(solutions)) == (4068, 5000)


def test_every_other_data_set():
    golds = [str(row["Answer"]) for row in json.loads(data_file("svamp/SVAMP.json").read_text())]
    golds += [str(row["answer"]) for row in rows("big_bench_mistake/multistep_arithmetic.jsonl")]
    assert len(golds) == 1300
    for gold in golds:
        assert extract_answer(f"\\boxed{{{gold}}}") == read_gold(gold) == Fraction(gold)
    others = [row["answerKey"] for row in rows("csqa/dev.jsonl")]
    dates = json.loads(data_file("date_understanding/task.json").read_text())
    others += [row["target"] for row in dates["examples"]]
    for gold in others:
        with pytest.raises(BadGoldError):
            read_gold(gold)


def test_another_error_gets_its_place_and_no_error_says_nothing(tmp_path):
    path = tmp_path / "f.jsonl"
    path.write_text('{"gold": "18"}\n{"gold": "19"}\n')
    assert make_all(path, lambda _, row: read_gold(row["gold"]), fields=["gold"]) == [18, 19]
    with pytest.raises(ValueError, match=r"f\.jsonl, line 1: no answer kind"):
        make_all(path, lambda _, row: read_gold(row["gold"], kind="colour"), fields=["gold"])
