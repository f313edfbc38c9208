import dataclasses

import pytest

from leco_jax.datasets.problem import Problem
from w2s_jax.curation import DuplicateReport, split_questions


def _problems(*questions, start=0):
    return [
        Problem(id=f"d/{i}", question=q, answer=i, gold=str(i))
        for i, q in enumerate(questions, start)
    ]


POOL = _problems(*[f"How many are {i}?" for i in range(20)])
AGAIN = _problems("HOW many\n are 3?", "How many are 4? ", "how many are 4?", start=20)
TEST = _problems("How  many are 5?", "Something else?")


def test_halves_share_no_question_and_keep_the_order():
    split = split_questions(POOL, sizes=(8, 7), seed=0)
    assert (len(split.first), len(split.second)) == (8, 7)
    ids = [p.id for half in (split.first, split.second) for p in half]
    assert len(set(ids)) == 15
    for half in (split.first, split.second):
        numbers = [p.answer for p in half]
        assert numbers == sorted(numbers)
    assert split.duplicates == DuplicateReport(
        problems=20, repeated=0, in_test=0, dropped=0, within_first=0, within_second=0, between=0,
        test_in_halves=0,
    )  # fmt: skip


def test_the_seed_decides():
    def first(seed):
        return [p.id for p in split_questions(POOL, sizes=(10, 10), seed=seed).first]

    assert first(0) == first(0) != first(1)


def test_duplicates_are_dropped_before_the_draw():
    split = split_questions(POOL + AGAIN, sizes=(10, 9), seed=3, test=TEST)
    report = split.duplicates
    assert (report.problems, report.repeated, report.in_test, report.dropped) == (23, 3, 1, 4)
    assert (report.within_first, report.within_second, report.between) == (0, 0, 0)
    assert report.test_in_halves == 0
    # All that is left: the first of each kind, without number 5, which is in the test set.
    assert sorted(p.answer for p in split.first + split.second) == [*range(5), *range(6, 20)]


def test_duplicates_that_are_kept_are_counted():
    def plain(problem):
        return " ".join(problem.question.split()).lower()

    # All 23 are drawn, so number 5 and its like are there; 4 occurs three times.
    reports = set()
    for seed in range(8):
        split = split_questions(
            POOL + AGAIN, sizes=(12, 11), seed=seed, test=TEST, drop_duplicates=False
        )
        report = split.duplicates
        assert (report.repeated, report.in_test, report.dropped) == (3, 1, 0)
        assert report.test_in_halves == 1
        halves = [
            {" ".join(p.question.split()).lower() for p in h} for h in (split.first, split.second)
        ]
        assert report.within_first == 12 - len(halves[0])
        assert report.within_second == 11 - len(halves[1])
        shared = halves[0] & halves[1]
        assert (report.between > 0) == bool(shared)
        assert report.between >= len(shared)
        reports.add(dataclasses.astuple(report))
    assert len(reports) > 1


def test_too_few_questions_are_told_with_the_reason():
    with pytest.raises(ValueError, match=r"want 23 questions; there are 19 of 23 after 3 repeated"):
        split_questions(POOL + AGAIN, sizes=(12, 11), seed=0, test=TEST)
    with pytest.raises(ValueError, match=r"want 21 questions; there are 20 of 20; ask for fewer"):
        split_questions(POOL, sizes=(20, 1), seed=0)
    with pytest.raises(ValueError, match=r"sizes=\(3, 0\)"):
        split_questions(POOL, sizes=(3, 0), seed=0)
    with pytest.raises(ValueError, match="1 ids belong to several problems: 'd/2'"):
        split_questions([*POOL, POOL[2]], sizes=(3, 3), seed=0)


def test_the_first_half_can_be_drawn_from_solved_problems_alone():
    some = [dataclasses.replace(p, solution="So.") if p.answer % 4 == 0 else p for p in POOL]
    split = split_questions(some, sizes=(4, 16), seed=0, first_solved=True)
    assert all(p.solution for p in split.first)
    assert len({p.id for p in split.first + split.second}) == 20
    with pytest.raises(ValueError, match=r"wants 6 problems with a solution .*; 5 of 20 have one"):
        split_questions(some, sizes=(6, 4), seed=0, first_solved=True)
    # Where all are solved the draw is the one without the wish.
    every = [dataclasses.replace(p, solution="So.") for p in POOL]
    wished = split_questions(every, sizes=(8, 7), seed=0, first_solved=True)
    assert wished == split_questions(every, sizes=(8, 7), seed=0)
