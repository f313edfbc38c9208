import json

import pytest

from leco_jax.datasets.registry import load_problems
from leco_jax.text import latex_answers

ROWS = [
    {
        "subject": "algebra",
        "index": 1,
        "problem": "What is $x$?",
        "solution": r"So $\boxed{\frac12}$.",
    },
    {
        "subject": "algebra",
        "index": 10,
        "problem": "And $y$?",
        "solution": r"Not \boxed{1} but \boxed{2}.",
    },
    {
        "subject": "precalculus",
        "index": 807,
        "problem": "Convert.",
        "solution": r"$\boxed{(3, \pi)}$",
    },
]


@pytest.fixture(autouse=True)
def prepared(tmp_path, monkeypatch):
    monkeypatch.setenv("LECO_CACHE", str(tmp_path / "cache"))
    # Nothing is compared here.
    monkeypatch.setattr(latex_answers, "has_math_verify", lambda: True)


@pytest.fixture(params=["rows", "tree"])
def data_dir(tmp_path, request):
    if request.param == "rows":
        (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    else:
        for row in ROWS:
            file = tmp_path / "test" / row["subject"] / f"{row['index']}.json"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps({name: row[name] for name in ("problem", "solution")}))
    return tmp_path


def test_problems_as_published_and_as_rows(data_dir):
    problems = load_problems("math", data_dir=data_dir)
    assert [p.id for p in problems] == [
        "math/test/algebra/1",
        "math/test/algebra/10",
        "math/test/precalculus/807",
    ]
    assert [p.gold for p in problems] == [r"\frac12", "2", r"(3, \pi)"]
    assert [p.answer for p in problems] == [r"\frac{1}{2}", "2", r"(3,\pi)"]
    assert {p.kind for p in problems} == {"latex"}
    assert problems[0].solution == ROWS[0]["solution"]
    assert load_problems("math", split="test/algebra", data_dir=data_dir) == problems[:2]
    official = load_problems("math", data_dir=data_dir, grader="official_w2s")
    assert (official[0].kind, official[0].answer) == ("official_w2s_latex", r"\frac{1}{2}")


def test_math500_is_named_by_its_ids(data_dir):
    with pytest.raises(FileNotFoundError, match=r"math500 needs math500\.jsonl"):
        load_problems("math", split="math500", data_dir=data_dir)
    ids = ["test/precalculus/807.json", "test/algebra/1.json"]
    (data_dir / "math500.jsonl").write_text("\n".join(json.dumps({"unique_id": i}) for i in ids))
    chosen = load_problems("math", split="math500", data_dir=data_dir)
    assert [p.id for p in chosen] == ["math/test/precalculus/807", "math/test/algebra/1"]
    (data_dir / "math500.jsonl").write_text('{"unique_id": "test/algebra/2.json"}')
    with pytest.raises(ValueError, match=r"line 1: 'test/algebra/2.json' is no problem"):
        load_problems("math", split="math500", data_dir=data_dir)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"subject": "logic"}, "subject 'logic', index 1 name no problem"),
        ({"index": "1"}, "index '1' name no problem"),
        ({"solution": "No box."}, "the gold answer '' is empty"),
        ({"solution": None}, "needs the text fields solution"),
    ],
)
def test_a_malformed_row_is_named(tmp_path, change, reason):
    (tmp_path / "test.jsonl").write_text(json.dumps(ROWS[0] | change))
    with pytest.raises(ValueError, match=rf"(?s)line 1: .*{reason}"):
        load_problems("math", data_dir=tmp_path)


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"math is not downloaded: give data_dir.*test\.jsonl"
    ):
        load_problems("math")
    with pytest.raises(FileNotFoundError, match=r"math needs train\.jsonl in"):
        load_problems("math", split="train", data_dir=tmp_path)
