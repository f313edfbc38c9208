"""launchers/select.py: what it writes, prints and refuses; once as a program."""

import json
import random
import subprocess
import sys

import pytest

FILES = ("weak", "strong", "samples")


@pytest.fixture
def select(call, tmp_path):
    """Writes the given files, calls the launcher, and returns what it said and wrote."""

    def run(*flags, launcher=call, **files):
        for name, rows in files.items():
            lines = "".join(json.dumps(row) + "\n" for row in rows)
            (tmp_path / f"{name}.jsonl").write_text(lines)
        target = tmp_path / "out" / "selected.jsonl"
        given = [f"--{name}={tmp_path / name}.jsonl" for name in FILES if name in files]
        done = launcher("select", f"--output={target}", *given, *flags)
        rows = target.read_text().splitlines() if target.exists() else None
        return done, None if rows is None else [json.loads(row) for row in rows]

    return run


def _row(id_, value, *, model="Gemma", **fields):
    return {
        "id": id_, "question": f"How many are {id_}?", "model": model,
        "response": f"So it is {value}.\n#### {value}",
    } | fields  # fmt: skip


def _draws(id_, *values, **fields):
    return [_row(id_, v, model="Llama", sample=i, **fields) for i, v in enumerate(values)]


WEAK = [_row("a", 1, gold="1"), _row("b", "1/2", gold="3"), _row("c", 5), _row("d", "?")]
STRONG = [_row(i, v, model="Llama") for i, v in [("a", 1), ("b", "0.5"), ("c", 6), ("d", 7)]]
SAMPLES = [
    *_draws("a", 1, 1, 1, 2, 3, gold="1"),
    *_draws("b", 4, 4, 4, 4, 0, gold="3"),
    *_draws("c", 6, 6, 6, 1, 1),
    *_draws("d", 1, 2, 3, 4, 5),
]


def _printed(done):
    """The table: a label, at least two spaces, a value."""
    return dict(line.rsplit("  ", 1) for line in done.stdout.splitlines())


def _value(done, label):
    (found,) = [v for k, v in _printed(done).items() if k.strip() == label]
    return found.strip()


def program(launcher, *flags):
    command = [sys.executable, "-m", f"launchers.{launcher}", *flags]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_consistency(select):
    done, rows = select("--task=consistency", launcher=program, weak=WEAK, strong=STRONG)
    assert done.returncode == 0, done.stderr
    assert [(r["id"], r["source"], r["model"]) for r in rows] == [
        ("a", "weak", "Gemma"), ("a", "icl", "Llama"), ("b", "weak", "Gemma"),
        ("b", "icl", "Llama"),
    ]  # fmt: skip
    assert rows[3]["solution"] == "So it is 0.5.\n#### 0.5"
    expected = {
        "weak model": "Gemma", "strong model": "Llama", "questions": "4",
        "- weak answer unreadable": "1", "- strong answer unreadable": "0",
        "- answers differ": "1", "kept": "2", "added at random": "0",
        "precision of the kept": "50.00% of 2", "right weak answers of all": "50.00% of 2",
        "right strong answers of all": "50.00% of 2", "rows": "4",
    }  # fmt: skip
    assert {k.strip(): v.strip() for k, v in _printed(done).items()} == expected
    done, rows = select("--task=consistency", "--set=icl", "--pad_to=3", weak=WEAK, strong=STRONG)
    assert [(r["id"], r["consistent"]) for r in rows] == [("a", True), ("b", True), ("c", False)]
    assert {r["source"] for r in rows} == {"icl"}
    assert "in place of an older file" in done.stderr


def test_pairs_by_both_rules(select):
    done, rows = select("--task=pairs", weak=WEAK, samples=SAMPLES)
    assert done.returncode == 0, done.stderr
    assert [(r["id"], r["weak_side"], r["confidence"]) for r in rows] == [
        ("a", "chosen", 0.6), ("b", "rejected", 0.8), ("c", "rejected", 0.6),
    ]  # fmt: skip
    assert _value(done, "- confidence below 0.6") == "1"
    assert _value(done, "weak response is the chosen one") == "33.33%"
    assert _value(done, "right chosen answers") == "50.00% of 2"
    assert _value(done, "mean words, chosen") == "6.0"
    done, rows = select("--task=pairs", "--rule=official_code", weak=WEAK, samples=SAMPLES)
    assert [r["id"] for r in rows] == ["a", "b"]
    assert _value(done, "- weak answer differs, confidence below 0.8") == "1"
    own = ("--threshold=0.1", "--weak_rejected_threshold=0.7", "--pairs_per_question=2")
    done, rows = select("--task=pairs", *own, weak=WEAK, samples=SAMPLES)
    assert [r["id"] for r in rows] == ["a", "a", "b"]  # the samples of "b" are one text
    again, same = select("--task=pairs", *own, weak=WEAK, samples=SAMPLES)
    assert (again.stdout, same) == (done.stdout, rows)


def test_confidence_with_and_without_a_threshold(select):
    done, rows = select("--task=confidence", samples=SAMPLES)
    assert done.returncode == 0, done.stderr
    assert [(r["id"], r["answer"], r["confidence"], r["correct"]) for r in rows] == [
        ("a", "1", 0.6, True), ("b", "4", 0.8, False), ("c", "6", 0.6, None), ("d", "1", 0.2, None),
    ]  # fmt: skip
    assert _value(done, "samples of a question") == "5"
    assert _value(done, "count: confidence from 0.6 on") == "3"
    assert _value(done, "count: precision of those") == "50.00% of 2"
    assert "cisc" not in done.stdout
    scored = [row | {"confidence": float(row["sample"])} for row in SAMPLES]
    flags = ("--vote=cisc", "--temperature=0.5")
    done, rows = select("--task=confidence", *flags, samples=scored)
    # exp(2 i) of sample i: the last sample has 0.865 of it, the last two have 0.982.
    assert [r["answer"] for r in rows] == ["3", "0", "1", "5"]
    assert rows[0]["confidence"] == pytest.approx(0.8650, abs=1e-3)
    assert rows[2]["confidence"] == pytest.approx(0.9820, abs=1e-3)
    done, rows = select("--task=confidence", "--threshold=0.9", *flags, samples=scored)
    assert [r["id"] for r in rows] == ["c"]
    assert _value(done, "cisc: confidence from 0.9 on") == "1"
    assert _value(done, "count: confidence from 0.9 on") == "0"  # beside the one that was used


def test_nothing_selected_is_an_error_with_the_counts(select, tmp_path):
    apart = [row | {"response": "#### 99"} for row in STRONG]
    done, rows = select("--task=consistency", weak=WEAK, strong=apart)
    assert (done.returncode, rows) == (1, None)
    assert _value(done, "- answers differ") == "3"
    assert "nothing was selected" in done.stderr
    done, rows = select("--task=pairs", "--threshold=1", weak=WEAK, samples=SAMPLES)
    assert (done.returncode, rows) == (1, None)
    assert _value(done, "- confidence below 1") == "4"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "files", "reason"),
    [
        (("--task=pairs",), {"weak": WEAK}, "needs --samples"),
        (("--task=consistency",), {}, "needs --weak and --strong"),
        (
            ("--task=confidence", "--pad_to=3", "--rule=paper"),
            {"samples": SAMPLES},
            "does not use --pad_to and --rule",
        ),
        (("--task=confidence",), {"samples": SAMPLES, "weak": WEAK}, "does not use --weak"),
        (
            ("--task=pairs", "--rule=paper", "--threshold=0.5"),
            {"weak": WEAK, "samples": SAMPLES},
            "either --rule or thresholds",
        ),
        (
            ("--task=pairs", "--weak_rejected_threshold=0.5"),
            {"weak": WEAK, "samples": SAMPLES},
            "needs --threshold",
        ),
        (
            ("--task=pairs", "--temperature=2"),
            {"weak": WEAK, "samples": SAMPLES},
            "--temperature belongs to --vote=cisc",
        ),
        (
            ("--task=pairs", "--vote=cisc"),
            {"weak": WEAK, "samples": SAMPLES},
            "id 'a', sample 0, has no 'confidence'",
        ),
        (
            ("--task=consistency",),
            {"weak": WEAK, "strong": STRONG[:3]},
            "Only in the first (1): 'd'",
        ),
        (
            ("--task=consistency",),
            {"weak": [*WEAK[:3], WEAK[3] | {"model": "Mistral"}], "strong": STRONG},
            "The weak answers come from 2 models: 'Gemma' (3), 'Mistral' (1)",
        ),
        (
            ("--task=consistency",),
            {"weak": WEAK, "strong": [*STRONG[:3], {"id": "d"}]},
            "strong.jsonl, line 4: needs the text fields",
        ),
        (("--task=confidence",), {"samples": []}, "samples.jsonl has no answers"),
        (
            ("--task=confidence", "--output=s3://bucket/votes.jsonl"),
            {"samples": SAMPLES},
            "s3://bucket/votes.jsonl: paths are local or begin with gs://",
        ),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_written(select, flags, files, reason):
    done, rows = select(*flags, **files)
    assert (done.returncode, rows) == (1, None)
    assert reason in done.stderr


def test_a_missing_file_and_an_output_that_is_an_input_are_refused(select, tmp_path):
    done, _ = select("--task=confidence", f"--samples={tmp_path / 'none.jsonl'}")
    assert done.returncode == 1
    assert "none.jsonl" in done.stderr
    path = tmp_path / "out" / "selected.jsonl"
    path.parent.mkdir()
    path.write_text(json.dumps(SAMPLES[0]) + "\n")
    done, rows = select("--task=confidence", f"--samples={path}")
    assert done.returncode == 1
    assert "is the input" in done.stderr
    assert rows == SAMPLES[:1]


@pytest.mark.heavy
def test_random_answers_are_selected_by_the_rules_of_chance_and_stay_in_order(select):
    rng = random.Random(0)
    weak, strong, samples = [], [], []
    for i in range(2000):
        gold = str(rng.randrange(2, 100))

        def drawn(share, gold=gold):
            return gold if rng.random() < share else rng.choice(["0", "1", "no idea"])

        weak.append(_row(f"q{i}", drawn(0.4), gold=gold))
        strong.append(_row(f"q{i}", drawn(0.6), model="Llama"))
        samples += _draws(f"q{i}", *[drawn(0.6) for _ in range(10)], gold=gold)
    done, rows = select("--task=consistency", weak=weak, strong=strong)
    assert done.returncode == 0, done.stderr
    # 0.4 * 0.6 agree on gold, 2 * (0.6 / 3) * (0.4 / 3) on 0 and on 1.
    assert len(rows) == pytest.approx(2 * 2000 * (0.24 + 2 * 0.2 * 0.4 / 3), rel=0.1)
    flags = ("--task=pairs", "--rule=official_code", "--pairs_per_question=3")
    done, rows = select(*flags, weak=weak, samples=samples)
    assert done.returncode == 0, done.stderr
    by_id = {}
    for row in rows:
        by_id.setdefault(row["id"], []).append(row)
        assert row["chosen_answer"] is not None
        assert row["chosen_answer"] != row["rejected_answer"]
    numbers = [int(id_[1:]) for id_ in by_id]
    assert numbers == sorted(numbers)
    for id_, group in by_id.items():
        (side,) = {row["weak_side"] for row in group}
        assert {row[side] for row in group} == {weak[int(id_[1:])]["response"]}
        assert len(group) <= 3
