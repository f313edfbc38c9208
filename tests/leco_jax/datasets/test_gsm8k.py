import json
import os
import subprocess
import sys
import urllib.error
from fractions import Fraction

import pytest

from leco_jax.datasets import gsm8k, problem_rows
from leco_jax.datasets.registry import load_problems

ROWS = {
    "train": [
        {
            "question": "A cat has 4 legs. How many have 3?",
            "answer": "3 * 4 = <<3*4=12>>12\n#### 12",
        }
    ],
    "test": [
        {"question": f"One café has {n} tables\u2028of 250. How many seats?", "answer": answer}
        for n, answer in [
            (4, "It is 4 * 250 = <<4*250=1000>>1,000.\n#### 1,000"),
            (1, "#### -250"),
            (2, "#### 0.5"),
        ]
    ],
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LECO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def data_dir(tmp_path):
    return write(tmp_path / "data", ROWS)


def write(directory, rows):
    directory.mkdir(exist_ok=True)
    for split, split_rows in rows.items():
        lines = [r if isinstance(r, str) else json.dumps(r, ensure_ascii=False) for r in split_rows]
        (directory / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return directory


def test_problems_in_the_order_of_the_file(data_dir):
    problems = load_problems("gsm8k", data_dir=data_dir)
    assert [p.question for p in problems] == [r["question"] for r in ROWS["test"]]
    assert [p.answer for p in problems] == [1000, -250, Fraction(1, 2)]
    assert [p.gold for p in problems] == ["1,000", "-250", "0.5"]
    assert [p.id for p in problems] == ["gsm8k/test/0", "gsm8k/test/1", "gsm8k/test/2"]
    assert problems[0].solution == ROWS["test"][0]["answer"]
    assert load_problems("gsm8k", split="train", data_dir=data_dir)[0].answer == 12
    assert load_problems("gsm8k", data_dir=data_dir, limit=1) == problems[:1]


def test_order_holds_beyond_one_shuffled_page(tmp_path):
    rows = [{"question": f"What is {i}?", "answer": f"#### {i}"} for i in range(300)]
    problems = load_problems("gsm8k", data_dir=write(tmp_path / "data", {"test": rows}))
    assert [p.answer for p in problems] == list(range(300))


def test_prepared_once_as_array_record_and_again_when_a_file_changes(data_dir, cache, monkeypatch):
    load_problems("gsm8k", data_dir=data_dir)
    prepared = list((cache / "tfds").iterdir())
    assert len(prepared) == 1
    assert list(prepared[0].rglob("*.array_record*"))
    with monkeypatch.context() as patch:
        patch.setattr(problem_rows, "make_each", None)  # the files' rows are not read again
        assert len(load_problems("gsm8k", data_dir=data_dir)) == 3
    write(data_dir, {"test": [{"question": "Now?", "answer": "#### 7"}]})
    assert [p.answer for p in load_problems("gsm8k", data_dir=data_dir)] == [7]
    assert len(list((cache / "tfds").iterdir())) == 2


def test_one_split_is_enough_and_the_missing_one_is_named(tmp_path):
    directory = write(tmp_path / "data", {"test": ROWS["test"]})
    assert len(load_problems("gsm8k", data_dir=directory)) == 3
    with pytest.raises(FileNotFoundError, match=r"'train' needs .*train\.jsonl.*data_dir is a"):
        load_problems("gsm8k", split="train", data_dir=directory)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not valid JSON"),
        ("[1]", "must be a JSON object"),
        ('{"question": "Why?"}', r"needs the text fields answer"),
        ('{"question": "Why?", "answer": 7}', r"needs the text fields answer"),
        ('{"question": "Why?", "answer": "7"}', "the gold answer '' is empty"),
        (
            '{"question": "Why?", "answer": "#### seven"}',
            "the gold answer 'seven' is not one",
        ),
        ('{"question": "Why?", "answer": "#### 1:45"}', "the gold answer '1:45' is not one"),
    ],
)
def test_a_malformed_row_is_named_by_its_line(tmp_path, cache, line, reason):
    rows = {"test": [ROWS["test"][0], "", line]}
    directory = write(tmp_path / "data", rows)
    with pytest.raises(ValueError, match=rf"(?s)test\.jsonl.*line 3: .*{reason}"):
        load_problems("gsm8k", data_dir=directory)
    assert not list((cache / "tfds").iterdir())  # nothing half-made stays behind


def test_no_network_and_no_data_dir(monkeypatch):
    def refuse(url, timeout):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(gsm8k.urllib.request, "urlopen", refuse)
    with pytest.raises(FileNotFoundError, match=r"openai/grade-school-math.*no route.*data_dir"):
        load_problems("gsm8k")


def test_download_is_checked_and_kept(data_dir, monkeypatch):
    calls = []

    def serve(url, timeout):
        calls.append(url)
        return open(data_dir / "test.jsonl", "rb")

    monkeypatch.setattr(gsm8k.urllib.request, "urlopen", serve)
    with pytest.raises(ValueError, match="gave 3 rows, not the 1319"):
        load_problems("gsm8k")
    monkeypatch.setitem(gsm8k.OFFICIAL_ROWS, "test", 3)
    assert len(load_problems("gsm8k")) == len(load_problems("gsm8k")) == 3
    assert len(calls) == 2  # the refused one and one more
    assert calls[0].endswith("/grade_school_math/data/test.jsonl")


def test_preparing_prints_nothing(data_dir, capfd):
    load_problems("gsm8k", data_dir=data_dir)
    assert capfd.readouterr() == ("", "")


def test_tensorflow_is_not_imported(data_dir):
    script = (
        "import sys\n"
        "from leco_jax.datasets.registry import load_problems\n"
        f"assert len(load_problems('gsm8k', data_dir={str(data_dir)!r})) == 3\n"
        "sys.exit(', '.join(sorted({'tensorflow', 'jax'} & set(sys.modules))) or None)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, env=dict(os.environ))
