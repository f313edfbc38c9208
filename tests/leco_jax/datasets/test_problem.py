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
        (
            [{"question": "One?", "gold": "blue"}],
            "line 1: the gold answer 'blue' is not one",
        ),
        ([{"question": "One?", "answer": "It is 5."}], "line 1: the gold answer 'It is 5.' is not"),
        ([{"question": "One?", "gold": "1", "kind": "colour"}], "line 1: no answer kind 'colour'"),
        ([{"question": "a", "id": "x"}, {"question": "b", "id": "x"}], "line 2: id 'x' occurs"),
        ([{"question": "a", "id": 3, "solution": []}], "line 1: id, solution must be text"),
        ([{"answer": "1"}], "needs the text fields"),
        ([], "has no problems"),
    ],
)
def test_bad_files_are_refused_by_line(tmp_path, rows, message):
    with pytest.raises(ValueError, match=message):
        load_problems(write(tmp_path / "bad.jsonl", *rows))


def test_all_bad_gold_answers_are_named_at_once_or_left_out(tmp_path, caplog):
    bad = [{"question": "?", "gold": f"({i}, 5)"} for i in range(30)]
    name = write(tmp_path / "bad.jsonl", {"question": "One?", "gold": "1"}, *bad)
    with pytest.raises(ValueError, match=r"30 of 31 rows have a gold answer") as caught:
        load_problems(name)
    lines = str(caught.value).splitlines()
    assert len(lines) == 23  # the count, 20 lines, the rest, the way out
    assert lines[1] == "  line 2: the gold answer '(0, 5)' is not one number and nothing else"
    assert lines[21] == "  and 10 more"
    assert "skip_bad_gold" in lines[22]
    assert [p.answer for p in load_problems(name, skip_bad_gold=True)] == [1]
    assert "30 of 31 rows left out" in caplog.text


def test_gsm8k_s_field_answer_is_read(tmp_path):
    name = write(
        tmp_path / "gsm8k.jsonl",
        {"question": "One?", "answer": "It is 2 * 9 = 18.\n#### 18"},
        {"question": "Two?", "answer": "1,000"},
        {"question": "Three?", "answer": "It is 5.", "gold": "6"},
    )
    one, two, three = load_problems(name)
    assert (one.answer, one.gold, one.solution) == (18, "18", "It is 2 * 9 = 18.\n#### 18")
    assert (two.answer, two.solution) == (1000, None)
    assert (three.answer, three.solution) == (6, None)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.jsonl"):
        load_problems(str(tmp_path / "none.jsonl"))
