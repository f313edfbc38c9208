"""Files and lines that a run reports with."""

import json
import sys
import types

import pytest

from leco_jax.models.architectures import preset
from w2s_jax.training.metrics import (
    MetricWriter,
    Progress,
    peak_flops,
    read_metrics,
    train_flops_per_token,
    write_report,
)


def test_reopening_drops_later_steps_and_a_torn_line(tmp_path):
    with MetricWriter(tmp_path) as writer:
        for step in range(5):
            writer.write(step, {"loss": float(step)})
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 5, "lo')
    with MetricWriter(tmp_path, next_step=3) as writer:
        writer.write(3, {"loss": 30.0})
    assert [(r["step"], r["loss"]) for r in read_metrics(path)] == [(0, 0), (1, 1), (2, 2), (3, 30)]


def test_a_step_is_amended_in_its_place(tmp_path):
    with MetricWriter(tmp_path) as writer:
        writer.write(0, {"loss": 2.0})
        writer.write(1, {"loss": 1.0})
        writer.amend(0, {"eval/loss": 3.0, "x": float("nan")})
        writer.write(2, {"loss": 0.0})
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert rows[0] == {"step": 0, "loss": 2.0, "eval/loss": 3.0, "x": None}
    assert [row["loss"] for row in rows] == [2, 1, 0]


def test_what_is_not_finite_is_null_in_valid_json(tmp_path):
    with MetricWriter(tmp_path) as writer:
        writer.write(0, {"loss": float("nan"), "grad_norm": float("inf"), "x": 1.0})
    line = (tmp_path / "metrics.jsonl").read_text()
    found = json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert found == {"step": 0, "loss": None, "grad_norm": None, "x": 1.0}


def test_only_the_leading_process_writes(tmp_path):
    with MetricWriter(tmp_path, active=False) as writer:
        writer.write(0, {"loss": 1.0})
    assert not list(tmp_path.iterdir())


def test_tensorboard_without_its_writer_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ValueError, match="pip install tensorboardX"):
        MetricWriter(tmp_path, tensorboard=True)


def test_tensorboard_gets_the_scalars(tmp_path, monkeypatch):
    written = []

    class SummaryWriter:
        def __init__(self, directory, purge_step):
            written.append((directory, purge_step))

        def add_scalar(self, *scalar):
            written.append(scalar)

        def close(self):
            written.append("closed")

    module = types.SimpleNamespace(SummaryWriter=SummaryWriter)
    monkeypatch.setitem(sys.modules, "tensorboardX", module)
    with MetricWriter(tmp_path, next_step=4, tensorboard=True) as writer:
        writer.write(4, {"loss": 2.0})
    assert written == [(str(tmp_path / "tensorboard"), 4), ("loss", 2.0, 4), "closed"]


def test_progress_line_and_speeds(monkeypatch):
    clock = iter([0.0, 10.0, 12.0, 100.0, 102.0])
    monkeypatch.setattr("w2s_jax.training.metrics.time.perf_counter", lambda: next(clock))
    progress = Progress(num_steps=200, chips=2, flops_per_token=50.0, peak_flops=1e4)
    first = progress.measure(800)
    assert first["tokens_per_second_per_chip"] == 40
    assert "ETA" not in progress.line(0, {"loss": 2.0, **first})
    second = progress.measure(800)
    assert second == {"seconds": 2.0, "tokens_per_second_per_chip": 200.0, "mfu": 1.0}
    progress.restart()
    third = progress.measure(800) | {"loss": 1.5, "rewards/accuracies": 0.75}
    assert progress.line(2, third) == (
        "step 3/200, loss 1.5000, reward accuracy 0.75, 200 tokens/s/chip, "
        "MFU 100.0 % of 1e-08 TFLOP/s, ETA 0:06:34"
    )


def test_report_draws_the_curves_that_exist(tmp_path):
    with MetricWriter(tmp_path) as writer:
        for step in range(3):
            scalars = {"loss": 3.0 - step, "grad_norm": 1.0}
            writer.write(step, scalars | ({"eval/loss": 2.5} if step == 2 else {}))
    page = write_report(tmp_path, {"name": "<b>"}).read_text()
    assert page.count("<svg") == 2
    assert page.count("<polyline") == 3
    assert "3 steps; loss 3 at step 0, 1 at step 2." in page
    assert "&lt;b&gt;" in page
    assert "://" not in page


def test_report_of_nothing_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="holds no steps"):
        write_report(tmp_path, {})


def test_flops_of_a_token_by_hand():
    config = preset("tiny")
    # Per layer: q and o 64 x 64, k and v 64 x 32, three MLP matrices 64 x 128; the tied table.
    weights = 2 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128) + 256 * 64
    assert train_flops_per_token(config, 10) == 6 * weights + 6 * 2 * 4 * 16 * 10
    untied = train_flops_per_token(config.replace(tied=False), 10)
    assert untied == train_flops_per_token(config, 10)
    # Frozen weights have no gradient of their own: four for each, six for each of the adapters'.
    attention = 6 * 2 * 4 * 16 * 10
    assert train_flops_per_token(config, 10, adapters=300) == 4 * weights + 1800 + attention


def test_peaks():
    assert peak_flops("TPU v5 lite") == 197e12
    assert peak_flops("TPU v5 lite", 1e12) == 1e12
    assert peak_flops("cpu") is None
