import json
import subprocess
import sys
from fractions import Fraction

import pytest

from tests.w2s_jax.curation.written import answer, draws
from w2s_jax.curation import answer_from_row, check_same_model, match_ids, read_answers
from w2s_jax.curation.answer_rows import one_each

ROW = {"id": "q1", "question": "What is 3 + 4?", "response": "3 + 4 = 7\n#### 7", "model": "m"}


@pytest.fixture
def write(tmp_path):
    def make(*rows):
        path = tmp_path / "answers.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return make


def test_the_answer_is_read_from_the_response_unless_it_is_given(write):
    read, given, empty = read_answers(
        write(
            ROW | {"gold": "7.0", "confidence": -3},
            ROW | {"sample": 1, "answer": "1/2"},
            ROW | {"sample": 2, "answer": ""},
        )
    )
    assert (read.value, read.gold, read.confidence, read.sample) == (7, "7.0", -3.0, 0)
    assert (given.value, given.sample) == (Fraction(1, 2), 1)
    assert (given.gold, given.confidence) == (None, None)
    assert empty.value is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"response": None}, r"needs the text fields response"),
        ({"model": " "}, "'model' is empty"),
        ({"sample": -1}, "'sample' must be a whole number"),
        ({"sample": True}, "'sample' must be a whole number"),
        ({"sample": "0"}, "'sample' must be a whole number"),
        ({"confidence": float("nan")}, "NaN is not a JSON number"),
        ({"confidence": 10**400}, "'confidence' must be a finite number"),
        ({"confidence": "0.5"}, "'confidence' must be a finite number"),
        ({"gold": 7}, "'gold' must be a text, not 7"),
        ({"answer": 7}, "'answer' must be a text, not 7"),
        ({"question": "What is 3 + 5?", "sample": 1}, "id 'q1' has another question at .*line 1"),
        ({}, "id 'q1', sample 0, stands there already .*line 1"),
    ],
)
def test_a_bad_line_is_named(write, change, reason):
    path = write(ROW, ROW | change)
    with pytest.raises(ValueError, match=rf"answers.jsonl, line 2: .*{reason}"):
        read_answers(path)


def test_all_bad_gold_answers_are_named_at_once_or_left_out(write, caplog):
    bad = [
        ROW | {"sample": i, "gold": gold} for i, gold in enumerate(("x + y", "(1, 5)", "1:45"), 1)
    ]
    path = write(ROW, *bad)
    with pytest.raises(ValueError, match=r"(?s)3 of 4 rows.*line 2: .*'x \+ y'.*line 4: .*'1:45'"):
        read_answers(path)
    assert [answer.id for answer in read_answers(path, skip_bad_gold=True)] == ["q1"]
    assert "3 of 4 rows left out" in caplog.text


def test_a_file_without_answers_and_an_unknown_kind_are_refused(write):
    with pytest.raises(ValueError, match="has no answers"):
        read_answers(write())
    with pytest.raises(ValueError, match=r"^no answer kind 'colour'"):
        read_answers(write(ROW), kind="colour")


def test_a_row_in_memory_is_held_to_the_same_rules():
    assert answer_from_row(ROW).value == 7
    for bad in (float("nan"), float("-inf")):
        with pytest.raises(ValueError, match=f"'confidence' must be a finite number, not {bad}"):
            answer_from_row(ROW | {"confidence": bad})
    with pytest.raises(ValueError, match=r"needs the text fields model"):
        answer_from_row({name: ROW[name] for name in ("id", "question", "response")})


def test_mixed_models_are_refused_with_their_counts():
    answers = [answer("a", 1, model="Gemma"), answer("b", 2, model="Mistral"), answer("c", 3)]
    answers.append(answer("d", 4, model="Mistral"))
    with pytest.raises(ValueError, match=r"3 models: 'Mistral' \(2\), 'Gemma' \(1\), 'weak' \(1\)"):
        check_same_model(answers)
    assert check_same_model(answers[1::2]) == "Mistral"
    with pytest.raises(ValueError, match="no samples"):
        check_same_model([], name="samples")


def test_sets_of_different_questions_are_refused():
    weak = [answer(f"q{i}", i) for i in range(6)]
    match_ids(weak, list(reversed(weak)))
    with pytest.raises(ValueError, match=r"6 ids and 2, 1 of them in both") as error:
        match_ids(weak, [answer("q5", 1), answer("other", 1)])
    assert "first (5): 'q0', 'q1', 'q2', ..." in str(error.value)
    assert "second (1): 'other'." in str(error.value)


def test_one_id_for_two_questions_is_refused():
    first = [answer("a", 1), answer("b", 1, question="How  MANY?\n")]
    match_ids(first, [answer("a", 1), answer("b", 2, question="how many?")])
    with pytest.raises(ValueError, match=r"1 ids stand for different questions.*'b'.*How few"):
        match_ids(first, [answer("a", 1), answer("b", 2, question="How few?")])


def test_several_answers_to_a_question_are_refused_where_one_is_wanted():
    with pytest.raises(ValueError, match=r"among the weak answers; 1 of 2 have more: 'b'"):
        one_each([answer("a", 1), *draws("b", 1, 2)], name="weak answers")


def test_curation_and_its_launcher_load_no_jax():
    code = "import sys, launchers.select, w2s_jax.measures; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
