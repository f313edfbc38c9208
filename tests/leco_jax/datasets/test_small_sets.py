"""SVAMP, CommonsenseQA, StrategyQA, Date Understanding, BIG-Bench-Mistake."""

import json
from fractions import Fraction

import pytest

from leco_jax.datasets.big_bench_mistake import big_bench_mistake
from leco_jax.datasets.prepared import records
from leco_jax.datasets.registry import load_problems
from leco_jax.text.answers import answers_equal, extract_answer
from tests.real_data import data_file

SVAMP = {"ID": "chal-1", "Body": "Mia has 3 pens. ", "Question": "How many?", "Answer": 1.5}
CSQA = {
    "answerKey": "B",
    "question": {
        "stem": "Where?",
        "choices": [{"label": "A", "text": "bank"}, {"label": "B", "text": "mall"}],
    },
}
STRATEGY = [
    {"input": f"Is it {i}?", "target_scores": {"Yes": i % 2, "No": 1 - i % 2}, "target": "No. So."}
    for i in range(4)
]
DATE = {"input": "Which day?\nOptions:\n(A) 01/02/2020\n(B) 01/03/2020", "target": "(B)"}
MISTAKE = {
    "input": "1 + 2 =",
    "steps": ["A is 1.", "So 4."],
    "target": "3",
    "answer": "4",
    "mistake_index": 1,
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LECO_CACHE", str(tmp_path / "cache"))


def write(directory, name, content):
    lines = isinstance(content, list) and name.endswith("jsonl")
    text = "\n".join(map(json.dumps, content)) if lines else json.dumps(content)
    (directory / name).write_text(text)


def test_svamp(tmp_path):
    write(tmp_path, "SVAMP.json", [SVAMP, SVAMP | {"Answer": 51.0}])
    first, second = load_problems("svamp", data_dir=tmp_path)
    assert (first.question, first.answer, first.gold) == ("Mia has 3 pens. How many?", 1.5, "1.5")
    assert (second.id, second.gold, second.kind) == ("svamp/test/1", "51", "number")
    # The published program compares a float with a text, and finds none of them right.
    assert answers_equal(extract_answer(r"So \boxed{51}."), second.answer)
    write(tmp_path, "SVAMP.json", [SVAMP | {"Answer": "many"}])
    with pytest.raises(ValueError, match=r"SVAMP.json, example 0: Answer must be a number"):
        load_problems("svamp", data_dir=tmp_path)


def test_commonsense_qa(tmp_path):
    write(tmp_path, "dev_rand_split.jsonl", [CSQA])
    (problem,) = load_problems("commonsense_qa", split="dev", data_dir=tmp_path)
    assert problem.question == "Where?\nOptions:\n(A) bank\n(B) mall"
    assert (problem.answer, problem.kind) == ("B", "choice")
    write(tmp_path, "dev_rand_split.jsonl", [CSQA | {"answerKey": "C"}])
    with pytest.raises(ValueError, match=r"line 1: answerKey 'C' is none of the options"):
        load_problems("commonsense_qa", split="dev", data_dir=tmp_path)
    write(tmp_path, "dev_rand_split.jsonl", [CSQA | {"question": "Where?"}])
    with pytest.raises(ValueError, match=r"line 1: is not a row of commonsense_qa"):
        load_problems("commonsense_qa", split="dev", data_dir=tmp_path)


def test_strategy_qa_and_the_questions_that_leco_used(tmp_path):
    write(tmp_path, "task.json", {"examples": STRATEGY})
    problems = load_problems("strategy_qa", data_dir=tmp_path)
    assert [p.answer for p in problems] == [False, True, False, True]
    assert (problems[1].gold, problems[1].kind, problems[1].solution) == ("yes", "yes_no", "So.")
    with pytest.raises(FileNotFoundError, match=r"leco needs leco_subset_indices.txt"):
        load_problems("strategy_qa", split="leco", data_dir=tmp_path)
    (tmp_path / "leco_subset_indices.txt").write_text("3\n0\n")
    assert load_problems("strategy_qa", split="leco", data_dir=tmp_path) == [
        problems[3],
        problems[0],
    ]
    (tmp_path / "leco_subset_indices.txt").write_text("4\n")
    with pytest.raises(ValueError, match="'4' is no index of 4 examples"):
        load_problems("strategy_qa", split="leco", data_dir=tmp_path)


def test_date_understanding(tmp_path):
    write(tmp_path, "date_understanding.json", {"examples": [DATE]})
    (problem,) = load_problems("date_understanding", data_dir=tmp_path)
    assert (problem.question, problem.answer, problem.kind) == (DATE["input"], "B", "choice")
    write(tmp_path, "date_understanding.json", {"rows": []})
    with pytest.raises(ValueError, match='does not hold a list of JSON objects in "examples"'):
        load_problems("date_understanding", data_dir=tmp_path)


def test_big_bench_mistake(tmp_path):
    write(tmp_path, "multistep_arithmetic.jsonl", [MISTAKE, MISTAKE | {"mistake_index": None}])
    problems = load_problems("big_bench_mistake", split="multistep_arithmetic", data_dir=tmp_path)
    assert [p.answer for p in problems] == [Fraction(3)] * 2
    made = records(big_bench_mistake("multistep_arithmetic", tmp_path), "multistep_arithmetic")
    assert [(row["chain"], row["mistake"]) for row in made] == [
        ("A is 1.\nSo 4.", 1),
        ("A is 1.\nSo 4.", -1),
    ]
    write(tmp_path, "word_sorting.jsonl", [MISTAKE | {"target": "a b"}])
    (words,) = load_problems("big_bench_mistake", split="word_sorting", data_dir=tmp_path)
    assert (words.answer, words.gold) == (None, "a b")
    write(tmp_path, "word_sorting.jsonl", [MISTAKE | {"mistake_index": 2}])
    with pytest.raises(ValueError, match=r"line 1: the first wrong step 2 is none of 2"):
        load_problems("big_bench_mistake", split="word_sorting", data_dir=tmp_path)


@pytest.mark.parametrize(
    ("name", "split", "file", "count"),
    [
        ("svamp", "test", "svamp/SVAMP.json", 1000),
        ("commonsense_qa", "dev", "csqa/dev.jsonl", 1221),
        ("strategy_qa", "test", "strategyqa/task.json", 2290),
        ("strategy_qa", "leco", "strategyqa/leco_subset_indices.txt", 800),
        ("date_understanding", "test", "date_understanding/task.json", 250),
        ("big_bench_mistake", "word_sorting", "big_bench_mistake/word_sorting.jsonl", 300),
    ],
)
def test_the_public_files(name, split, file, count):
    problems = load_problems(name, split=split, data_dir=data_file(file).parent)
    assert len(problems) == len({p.id for p in problems}) == count
    if split == "leco":
        assert sum(p.answer for p in problems) == 375
