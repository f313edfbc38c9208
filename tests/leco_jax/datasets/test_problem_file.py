import json
from fractions import Fraction

import pytest

from leco_jax.datasets.registry import load_problems


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_a_file_gives_problems_with_what_is_known(tmp_path):
    name = write(
        tmp_path / "mine.jsonl",
        {"question": "One?", "gold": "1/2", "solution": "A half.", "id": "first"},
        {"question": "Two?"},
    )
    first, second = load_problems(name)
    assert (first.id, first.answer, first.solution) == ("first", Fraction(1, 2), "A half.")
    assert (second.id, second.answer, second.kind) == ("mine/1", None, "number")
    assert load_problems(name, limit=1) == [first]


def test_a_pattern_names_a_file_for_each_split(tmp_path):
    write(tmp_path / "q_train.jsonl", {"question": "One?"})
    write(tmp_path / "q_test.jsonl", {"question": "Two?"})
    found = {
        split: load_problems("q_{split}.jsonl", split=split, data_dir=tmp_path)[0].question
        for split in ("train", "test")
    }
    assert found == {"train": "One?", "test": "Two?"}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"question": "One?", "gold": "blue"}], "line 1: the gold answer 'blue' is none of kind"),
        ([{"question": "a", "id": "x"}, {"question": "b", "id": "x"}], "line 2: id 'x' stands"),
        ([{"question": "a", "id": 3}], "'id'"),
        ([{"answer": "1"}], "needs the text fields"),
        ([], "has no problems"),
    ],
)
def test_bad_files_are_refused_by_line(tmp_path, rows, message):
    with pytest.raises(ValueError, match=message):
        load_problems(write(tmp_path / "bad.jsonl", *rows))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.jsonl"):
        load_problems(str(tmp_path / "none.jsonl"))
