import json

import pytest

from leco_jax.datasets.problem import Problem
from w2s_jax.training import data


def _write(path, *rows):
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    return path


def test_examples_from_a_file(tmp_path):
    path = _write(
        tmp_path / "x.jsonl",
        {"prompt": "1 + 1 =", "completion": " 2"},
        {"prompt": "{3}", "completion": "{x}", "other": None},
    )
    found = data.examples(data.jsonl_rows(path))
    # Braces in the data are text, not fields.
    assert [(e.prompt, e.completion) for e in found] == [("1 + 1 =", " 2"), ("{3}", "{x}")]
    assert found[1].where == f"{path}, line 2"


def test_a_template_names_other_fields_and_takes_marks_out(tmp_path):
    path = _write(
        tmp_path / "gsm8k.jsonl", {"question": "How?", "answer": "2*3=<<2*3=6>>6\n#### 6"}
    )
    template = data.Template(
        prompt="Question: {question}\nAnswer:", completion=" {answer}", remove=r"<<.*?>>"
    )
    (found,) = data.examples(data.jsonl_rows(path), template)
    assert found.prompt == "Question: How?\nAnswer:"
    assert found.completion == " 2*3=6\n#### 6"


def test_a_template_s_own_braces_are_doubled_and_those_of_fields_stay():
    found = data.fill_template(r"Q: {q} in $\boxed{{}}$", {"q": "{x} or {{y}}"})
    assert found == r"Q: {x} or {{y}} in $\boxed{}$"
    assert data.template_parts("Q: {q}\nA:{{") == [("Q: ", "q"), ("\nA:{", None)]


@pytest.mark.parametrize("pattern", ["{", "a}b", "{}", "{0}", "{q.x}", "{q!r}", "{q:>9}"])
def test_braces_that_name_no_field_are_refused(pattern):
    with pytest.raises(ValueError, match=r"template .*a field is \{name\}"):
        data.fill_template(pattern, {"q": "x"})


def test_rows_of_problems():
    problem = Problem(id="p/0", question="Q", answer=1, gold="1", solution="S")
    template = data.Template(prompt="{question}", completion="{solution} {gold}")
    (found,) = data.examples(data.problem_rows([problem]), template)
    assert found == ("p/0", "Q", "S 1")
    without = Problem(id="p/1", question="Q", answer=1, gold="1")
    with pytest.raises(data.DataError, match=r"no field 'solution'; there are: gold, id, question"):
        data.examples(data.problem_rows([without]), template)


def test_every_bad_row_is_named_with_its_line_and_reason(tmp_path):
    good = {"prompt": "p", "chosen": "a", "rejected": "b"}
    path = _write(
        tmp_path / "pairs.jsonl",
        good,
        {"prompt": "p", "chosen": "a"},
        good | {"rejected": "a"},
        good | {"chosen": " \n"},
        good | {"prompt": ["p"]},
    )
    with pytest.raises(data.DataError) as error:
        data.pairs(data.jsonl_rows(path))
    lines = str(error.value).splitlines()
    assert lines[0] == "4 bad rows:"
    assert lines[1].startswith(f"  {path}, line 2: no field 'rejected'; there are: chosen, prompt")
    assert lines[2] == f"  {path}, line 3: chosen and rejected are the same text"
    assert lines[3] == f"  {path}, line 4: the chosen completion is empty"
    assert lines[4] == f"  {path}, line 5: field 'prompt' is a list, not a text"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"prompt": "a"\n', "line 1: not valid JSON"),
        (b'\n{"prompt": "\xff"}\n', "line 2: not valid JSON"),
        (b"[1]\n", "line 1: a row must be a JSON object, not a list"),
        (b"\n\n", "the data has no rows"),
    ],
)
def test_files_that_are_no_jsonl_are_refused(tmp_path, content, reason):
    path = tmp_path / "x.jsonl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=reason):
        data.examples(data.jsonl_rows(path))
