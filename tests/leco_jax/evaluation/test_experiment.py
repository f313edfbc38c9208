"""Whole runs with the bundled model: what lies in the work directory, and when."""

import dataclasses
import json

import jax
import pytest

from configs import leco_compare
from leco_jax.evaluation.experiment import run_experiment
from leco_jax.evaluation.experiment_config import METHODS, experiment_config


@pytest.fixture(autouse=True)
def _one_replica(monkeypatch):
    """A replica on each of the eight devices would be compiled eight times."""
    monkeypatch.setattr(jax, "local_devices", lambda: jax.devices()[:1])


def _config(**fields):
    config = experiment_config()
    config.methods = ("cot",)
    config.prompt = "question"
    config.model.name = "arithmetic-1m"
    config.data.name = "arithmetic_chains"
    config.data.limit = 3
    config.generation.max_new_tokens = 20
    config.engine.slots = 2
    config.update_from_flattened_dict(fields)
    return config


def _rows(workdir):
    return [json.loads(line) for line in (workdir / "results.jsonl").read_text().splitlines()]


def _summary(workdir):
    return json.loads((workdir / "summary.json").read_text())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"model.name": "arithmetic-2m"}, "arithmetic-2m"),
        ({"model.dtype": "float99"}, "dtype='float99' is not a floating-point dtype"),
        ({"data.name": "no_such_data"}, "no_such_data"),
        ({"engine.chunk": 0}, "chunk=0"),
    ],
)
def test_a_config_that_cannot_run_claims_no_directory(wrong, message, tmp_path):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        run_experiment(_config(**wrong), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_that_was_stopped_adds_up_and_a_finished_one_is_left_alone(tmp_path):
    whole = run_experiment(_config(), tmp_path / "whole")
    assert whole.left == 0
    expected = _summary(tmp_path / "whole")

    workdir = tmp_path / "parts"
    asked = iter([False] * 4 + [True] * 99)
    first = run_experiment(_config(), workdir, stop=lambda: next(asked))
    done = len(_rows(workdir))
    assert 0 < done < 3
    assert first.left == 3 - done
    before = _summary(workdir)
    assert before["tokens"]["sampled"] > 0
    assert run_experiment(_config(), workdir).left == 0
    found = _summary(workdir)
    assert found["methods"] == expected["methods"]
    assert found["seconds"] > before["seconds"]
    for name, count in expected["tokens"].items():
        assert found["tokens"][name] >= max(count, before["tokens"][name])
    assert (workdir / "results.jsonl").read_bytes() == (
        tmp_path / "whole" / "results.jsonl"
    ).read_bytes()

    # A call with nothing left to do changes nothing, even when it is asked to stop.
    assert run_experiment(_config(), workdir, stop=lambda: True).left == 0
    assert _summary(workdir) == found


@pytest.mark.heavy
def test_replicas_share_the_problems_and_find_the_same(tmp_path, monkeypatch):
    config = _config(**{"data.limit": 5})
    run_experiment(config, tmp_path / "one")
    monkeypatch.setattr(jax, "local_devices", lambda: jax.devices()[:4])
    config.mesh.tensor = 2
    run_experiment(config, tmp_path / "two")
    for ours, theirs in zip(_rows(tmp_path / "two"), _rows(tmp_path / "one"), strict=True):
        assert (ours["id"], ours["method"]) == (theirs["id"], theirs["method"])
        for round_, other in zip(ours["rounds"], theirs["rounds"], strict=True):
            assert round_["text"] == other["text"]
            assert round_["sum_logprob"] == pytest.approx(other["sum_logprob"], abs=1e-3)
    found, expected = (_summary(tmp_path / name)["tokens"] for name in ("two", "one"))
    assert found["sampled"] == expected["sampled"]
    # The number of devices is not what a directory is bound to.
    config.mesh.tensor = 4
    assert run_experiment(config, tmp_path / "two").left == 0


def test_a_stop_does_not_wait_for_the_next_result(tmp_path):
    looked = []

    def stop():
        looked.append(1)
        return len(looked) > 1  # after one chunk of eight tokens

    run = run_experiment(_config(), tmp_path / "run", stop=stop)
    assert (run.left, _rows(tmp_path / "run")) == (3, [])
    assert _summary(tmp_path / "run")["tokens"]["sampled"] == 2 * 8


def test_other_problems_under_the_same_name_are_refused(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text('{"question": "1 + 1?", "gold": "2"}\n')
    config = _config(**{"data.name": str(path)})
    run_experiment(config, tmp_path / "run")
    path.write_text('{"question": "1 + 2?", "gold": "3"}\n')
    with pytest.raises(ValueError, match=r"differing: config\.data\.problems_sha256"):
        run_experiment(config, tmp_path / "run")
    path.write_text('{"gold": "2", "question": "1 + 1?"}\n\n')  # the same problem, written anew
    assert run_experiment(config, tmp_path / "run").left == 0


def test_an_error_in_one_problem_is_its_own(tmp_path, monkeypatch, caplog):
    def task(engine, reader, question, options):
        if question.id.endswith("/1"):
            raise ZeroDivisionError("of mine")
        result = yield from METHODS["cot"](engine, reader, question, None)
        return dataclasses.replace(result, method="odd")

    monkeypatch.setitem(METHODS, "odd", task)
    config = _config(**{"methods": ("odd",), "generation.max_new_tokens": 192})
    run = run_experiment(config, tmp_path / "run")
    assert run.left == 0
    assert run.failures == ["arithmetic_chains/test/1, odd: ZeroDivisionError: of mine"]
    rows = _rows(tmp_path / "run")
    assert [row["error"] for row in rows] == [None, "ZeroDivisionError: of mine", None]
    assert (rows[1]["correct"], rows[1]["gold"]) == (False, rows[1]["gold"])
    (line,) = run.summary
    assert (line["problems"], line["errors"]) == (3, 1)
    assert line["correct"] == sum(row["correct"] for row in rows) / 3
    assert "Traceback" in caplog.text


def test_rows_have_question_and_log_probabilities_and_cut_chains_have_no_answer(tmp_path):
    config = _config(**{"generation.max_new_tokens": 60})
    run = run_experiment(config, tmp_path / "cut")
    config.generation.truncated = "read"
    read = run_experiment(config, tmp_path / "read")
    assert run.summary[0]["truncated"] == read.summary[0]["truncated"] > 0
    assert run.summary[0]["unanswered"] >= run.summary[0]["truncated"]
    for row, again in zip(_rows(tmp_path / "cut"), _rows(tmp_path / "read"), strict=True):
        (only,) = row["rounds"]
        assert row["question"].endswith("?")
        assert only["sum_logprob"] <= only["min_logprob"] <= 0
        assert again["rounds"][0]["text"] == only["text"]
        assert (only["finish"] == "length") <= (row["answer"] is None)


def test_a_warm_up_and_processed_figures_can_be_asked_for(tmp_path):
    config = _config(
        **{
            "methods": ("deepconf",), "engine.capture": "processed", "engine.slots": 4,
            "deepconf.samples": 6, "deepconf.warm_up": 3, "deepconf.consensus": 1.0,
            "deepconf.percentile": 100.0, "deepconf.window": 4, "engine.stats": ("topk_logprob",),
        }
    )  # fmt: skip
    run_experiment(config, tmp_path / "run")
    rows = _rows(tmp_path / "run")
    assert [row["error"] for row in rows] == [None] * 3
    finishes = [[r["finish"] for r in row["rounds"]] for row in rows]
    assert all("low_confidence" not in of_row[:3] for of_row in finishes)
    assert any("low_confidence" in of_row[3:] for of_row in finishes)
    for one in rows[0]["rounds"]:
        assert len(one["token_stats"]["topk_logprob"]) == len(one["token_ends"])
        assert one["token_ends"][-1] == len(one["text"])


def test_what_the_model_has_no_positions_for_is_refused(tmp_path):
    # Four passes may not fit one after another, but one does.
    config = _config(**{"methods": ("leco",), "generation.max_new_tokens": 700, "data.limit": 1})
    config.leco.policy = "sample"
    run_experiment(config, tmp_path / "run")
    (row,) = _rows(tmp_path / "run")
    assert row["error"] is None
    config = _config(**{"generation.max_new_tokens": 1100, "data.limit": 1})
    run_experiment(config, tmp_path / "long")
    (row,) = _rows(tmp_path / "long")
    assert "max_length=" in row["error"]


@pytest.mark.slow
def test_every_method_of_the_comparison_answers_and_says_what_it_cost(tmp_path):
    config = leco_compare.get_config()
    config.data.limit = 2
    config.engine.slots = 16
    run = run_experiment(config, tmp_path / "run")
    assert (run.left, run.failures) == (0, [])
    rows = _rows(tmp_path / "run")
    assert {row["method"] for row in rows} == set(METHODS)
    prompts = {row["id"]: row["cost"]["prefilled"] for row in rows if row["method"] == "cot"}
    for row in rows:
        cost, rounds = row["cost"], row["rounds"]
        assert cost["calls"] == len(rounds) >= cost["rounds"] >= 1
        for name in ("sampled", "kept", "appended"):
            assert cost[name] == sum(one[name] for one in rounds)
        assert cost["prefilled"] == prompts[row["id"]]
        asked = row["method"] in ("cot", "self_consistency", "fork", "cot_decoding")
        assert all(bool(one["token_stats"]) == asked for one in rounds)
