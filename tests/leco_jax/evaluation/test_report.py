import base64
import csv
import gzip
import io
import json
import math
import re
import shutil
import subprocess

import pytest

from leco_jax.evaluation.chain_browser import browser_data
from leco_jax.evaluation.report import Report
from leco_jax.storage.files import write_json
from leco_jax.storage.jsonl import write_rows

EVIL = "</script><img src=x onerror=document.title='broken'>| `x`"


def _chain(text, answer, *, probability=0.5, score=1.0, **fields):
    return {
        "text": text, "answer": answer, "steps": [{"text": text, "score": score}],
        "sum_logprob": math.log(probability), "mean_logprob": -0.1, "min_logprob": -0.3,
        "kept": 0, "appended": 0, "sampled": 10, "finish": "eos", "cut": None,
        "spans": [0, 0], "weak_tokens": [],
    } | fields  # fmt: skip


def _row(name, method, *chains, gold="4", **fields):
    answer = chains[-1]["answer"] if chains else None
    return {
        "id": name, "method": method, "question": f"How many, {name}?", "gold": gold,
        "answer": answer, "correct": answer == gold, "first_correct": None, "stopped": "single",
        "rounds": list(chains), "independent": True, "signal": "model", "error": None,
        "seed": 0, "cost": {"calls": 1, "rounds": 1},
    } | fields  # fmt: skip


def _rows():
    wrong, right = _chain("2 + 2 = 5", "5"), _chain("2 + 2 = 4", "4", probability=0.25)
    fork = {"independent": False}
    late = _chain("2 + 2 = 4", "4", kept=3, spans=[8, 8], weak_tokens=[[8, 9, 0.25]])
    return [
        _row("a", "cot", wrong),
        _row("b", "cot", right),
        _row("c", "cot", _chain("no idea", None)),
        _row("d", "cot", right),
        _row("a", "fork", wrong, late, **fork),
        _row("b", "fork", right, wrong, **fork),
        _row("c", "fork", _chain(EVIL, None), question=EVIL, **fork),
        {"id": "d", "method": "fork", "question": "How many, d?", "gold": "4", "correct": False,
         "error": EVIL, "seed": 0},
    ]  # fmt: skip


@pytest.fixture
def workdir(tmp_path):
    made = {"date": "2026-01-02", "commit": "abc", "device": "1 x cpu", "command": "python -m it"}
    write_rows(tmp_path / "run" / "results.jsonl", _rows())
    write_json(tmp_path / "run" / "summary.json", {"seconds": 1.5, "made": made})
    write_json(tmp_path / "run" / "config.json", {"seed": 0, "text": EVIL})
    return tmp_path / "run"


def _data(html):
    packed = re.search(r'id="data">([^<]*)</script>', html)[1]
    return json.loads(gzip.decompress(base64.b64decode(packed)))


def test_the_page_s_data_hold_every_result_and_each_chain_once(workdir):
    data = _data(Report([workdir], against="cot").html())
    assert data == json.loads(json.dumps(browser_data(_rows(), "cot")))
    results = {(data["problems"][r["problem"]]["id"], r["method"]): r for r in data["results"]}
    outcomes = {key: (r["outcome"], r["change"]) for key, r in results.items()}
    assert outcomes["a", "cot"] == ("wrong", "")
    assert outcomes["c", "cot"] == ("unanswered", "")
    assert outcomes["a", "fork"] == ("right", "gained")
    assert outcomes["b", "fork"] == ("wrong", "lost")
    assert outcomes["d", "fork"] == ("failed", "lost")
    assert [chain["text"] for chain in data["chains"]].count("2 + 2 = 5") == 1
    forked = results["a", "fork"]
    assert forked["masses"] == [["5", 0.5], ["4", 0.5]]
    last = forked["rounds"][1]
    assert (last["answer"], last["cut"], last["spans"]) == ("4", None, [8, 8])
    assert data["chains"][last["chain"]] == {
        "text": "2 + 2 = 4", "steps": [[0, 9, 1.0]], "weak": [[8, 9, 0.25]],
    }  # fmt: skip


def test_seeds_of_a_method_are_told_apart():
    right, wrong = _chain("four", "4"), _chain("five", "5")
    rows = [_row("a", "cot", wrong)]
    rows += [_row("a", "more", chain, seed=seed) for seed, chain in enumerate((right, wrong))]
    data = browser_data(rows, "cot")
    assert data["methods"] == ["cot", "more, seed 0", "more, seed 1"]
    assert [result["change"] for result in data["results"]] == ["", "gained", ""]


def test_steps_have_their_places_in_the_text():
    text = "Step 1: é\n\nStep 2: x\nStep 2: x"
    steps = [{"text": line, "score": 1.0} for line in text.split("\n") if line]
    (chain,) = browser_data([_row("a", "cot", _chain(text, "4", steps=steps))], "cot")["chains"]
    places = [chain["text"][start:end] for start, end, _ in chain["steps"]]
    assert places == [step["text"] for step in steps]


def test_a_run_from_before_its_newest_fields_opens(workdir):
    rows = _rows()
    for row in rows:
        for chain in row.get("rounds", ()):
            chain.pop("spans", None)  # some chains are shared
            chain.pop("weak_tokens", None)
    write_rows(workdir / "results.jsonl", rows)
    (workdir / "summary.json").unlink()
    html = Report([workdir], against="cot").html()
    assert len(_data(html)["results"]) == len(rows)
    assert "not known" in html


def test_the_page_says_when_how_and_on_what_and_holds_no_text_as_html(workdir):
    html = Report([workdir], against="cot").html()
    for fact in ("2026-01-02", "abc", "1 x cpu", "python -m it"):
        assert fact in html
    assert "<img" not in html


def test_tables_are_the_same_as_markdown_and_csv(workdir):
    report = Report([workdir], against="cot")
    cot, fork = csv.DictReader(io.StringIO(report.csv()))
    assert (cot["method"], cot["correct"], cot["answered"]) == ("cot", "0.5", "3")
    names = ("gained", "lost", "errors", "points")
    assert [fork[name] for name in names] == ["1", "2", "1", "-25.0"]
    assert float(cot["AUROC of mass"]) == 0.0  # 0.25 each of the right ones, 0.5 of the wrong one
    markdown = report.markdown()
    assert "| cot | model | 4 | 1 | 50.00% | - |" in markdown
    assert "| fork | model | 4 | 1 | 25.00% | -25.00 |" in markdown
    assert "| errors |" in markdown
    assert "truncated" not in markdown  # there are none
    assert "python -m it" in markdown


def test_without_gold_there_is_nothing_to_compare(workdir):
    write_rows(workdir / "results.jsonl", [_row("a", "cot", gold=None, correct=None)])
    with pytest.raises(ValueError, match="no gold"):
        Report([workdir], against="cot")


@pytest.mark.slow
def test_a_browser_shows_the_chains_without_an_error(workdir, tmp_path):
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("needs chromium")
    path = tmp_path / "report.html"
    path.write_text(Report([workdir], against="cot").html())
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/user",
        "--enable-logging=stderr", "--virtual-time-budget=5000", "--dump-dom",
    ]  # fmt: skip

    def shown(place):
        done = subprocess.run(
            [*command, f"{path.as_uri()}#{place}"], capture_output=True, text=True, check=True
        )
        assert "CONSOLE" not in done.stderr, done.stderr
        assert "data-ready" in done.stdout
        return done.stdout

    found = shown("fork/a")
    assert found.count('<section class="round') == 2
    assert '<span class="flag">to 2</span>' in found
    assert '<span class="kept">2 + 2 = </span>' in found
    assert '<span class="weak" title="probability 0.25">4</span>' in found
    assert "gained 1" in found
    assert found.count('<i class="" style="width: 50%;">') == 2  # the masses
    assert "<img" not in shown("fork/c")
    assert "<img" not in shown("fork/d")
