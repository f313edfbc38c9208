"""Chains from JSON lines, and how they are put into batches; test_score.py holds the figures."""

import copy
import json

import numpy as np
import pytest

from leco_jax.evaluation import chain_scoring
from leco_jax.evaluation.chain_scoring import (
    Replica,
    in_order,
    make_batches,
    read_chains,
    score_batches,
    score_chains,
)
from leco_jax.models.llama import Llama
from leco_jax.models.loading import LoadedModel, load_model
from leco_jax.models.sharding import replica_meshes
from leco_jax.scoring.presets import PRESETS
from leco_jax.storage.jsonl import numbered_lines


@pytest.fixture(scope="module")
def model():
    return load_model("arithmetic-1m", dtype="float32")


def _lines(*rows):
    return [(n, json.dumps(row, ensure_ascii=False).encode()) for n, row in enumerate(rows, 1)]


def test_a_chat_is_encoded_as_the_model_sees_it(model):
    tokenizer = copy.copy(model.tokenizer)
    tokenizer.chat_template = "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}"
    messages = [{"role": "user", "content": "3 + 4"}]
    (chat, text), bad = read_chains(
        _lines({"messages": messages, "response": "7"}, {"prompt": "<s>3 + 4", "response": "7"}),
        tokenizer,
        max_length=99,
    )
    assert bad == []
    assert list(chat.prompt) == tokenizer.encode("<s>3 + 4", allow_special=True)
    assert chat.prompt.count(tokenizer.bos_id) == 1
    assert text.prompt[1:] == tuple(tokenizer.encode("<s>3 + 4"))  # as text, after BOS
    assert text.prompt != chat.prompt


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"response": "b"}, 'either the text "prompt" or the list "messages"'),
        ({"prompt": "a", "messages": [], "response": "b"}, "either"),
        ({"messages": [], "response": "b"}, "at least one"),
        ({"messages": [{"role": "user"}], "response": "b"}, "each"),
        ({"messages": [{"role": "user", "content": "a"}], "response": "b"}, "no chat template"),
        ({"prompt": 3, "response": "b"}, '"prompt" must be a text'),
        ({"prompt": "a", "response": ""}, "response is empty"),
        ({"prompt": "a", "response": "1" * 99}, "the model was made for 99"),
    ],
)
def test_a_bad_line_says_why(model, row, reason):
    chains, (bad,) = read_chains(_lines(row), model.tokenizer, max_length=99)
    assert chains == []
    assert bad.number == 1
    assert reason in bad.reason


def test_only_a_line_feed_ends_a_line_and_blank_ones_count(tmp_path, model):
    path = tmp_path / "in.jsonl"
    path.write_text('\n{"prompt": "a\u2028b", "response": "c\u0085", "id": 7}\r\n', "utf-8")
    chains, bad = read_chains(numbered_lines(path), model.tokenizer, max_length=99)
    assert bad == []
    assert [chain.named for chain in chains] == [{"line": 2, "id": 7}]


@pytest.fixture
def batches(monkeypatch):
    """Shapes of the batches that are scored."""
    seen = []

    def note(params, tokens, *rest, **options):
        seen.append(tokens.shape)
        return original(params, tokens, *rest, **options)

    original = chain_scoring.response_stats
    monkeypatch.setattr(chain_scoring, "response_stats", note)
    return seen


@pytest.mark.heavy
def test_batches_hold_no_more_than_was_asked_for_padding_included(model, batches):
    rows = [{"prompt": "1 + " * n, "response": "2"} for n in (3, 3, 3, 3, 3, 60)]
    chains, _ = read_chains(_lines(*rows), model.tokenizer, max_length=999)
    list(score_chains(model, chains, PRESETS["paper"], batch_tokens=3 * 16))
    short = [shape for shape in batches if shape[1] == 16]
    assert sum(shape[0] for shape in short) >= 5
    assert all(rows * length <= 3 * 16 for rows, length in short)
    assert [shape[0] for shape in batches if shape[1] > 16] == [1]  # longer than a batch: alone


@pytest.mark.heavy
def test_rows_come_in_order_window_by_window(model, batches, monkeypatch):
    rows = [{"prompt": "1 + " * n, "response": "2\n3", "id": n} for n in (9, 1, 5, 30, 2, 7)]
    chains, _ = read_chains(_lines(*rows), model.tokenizer, max_length=999)
    whole = list(score_chains(model, chains, PRESETS["paper"], batch_tokens=9999))
    assert [row["id"] for row in whole] == [9, 1, 5, 30, 2, 7]
    assert [row["line"] for row in whole] == [1, 2, 3, 4, 5, 6]
    monkeypatch.setattr(chain_scoring, "_WINDOW", 2)
    batches.clear()
    coming = score_chains(model, chains, PRESETS["paper"], batch_tokens=9999)
    first = next(coming)
    assert len(batches) == 1  # what comes later is not scored yet
    for row, again in zip(whole, [first, *coming], strict=True):
        assert row["id"] == again["id"]
        np.testing.assert_allclose(row["token_logprobs"], again["token_logprobs"], atol=1e-5)


def test_a_row_whose_figures_are_not_finite_is_refused_and_named(model):
    params = dict(model.params)
    params["final_norm"] = params["final_norm"].at[0].set(np.nan)
    broken = LoadedModel(Llama(model.config, params=params), model.tokenizer)
    rows = [{"prompt": "1 + 1", "response": "2"}] * 2
    chains, _ = read_chains(_lines(*rows)[1:], model.tokenizer, max_length=99)
    with pytest.raises(ValueError, match="line 2: the model's log-probabilities of this"):
        list(score_chains(broken, chains, PRESETS["paper"], batch_tokens=99))


@pytest.mark.heavy
def test_replicas_score_as_one_does_and_are_loaded_when_those_before_are_busy(model, batches):
    rows = [{"prompt": "1 + " * n, "response": "2\n3", "id": n} for n in (9, 1, 5, 30, 2, 7, 31)]
    chains, _ = read_chains(_lines(*rows), model.tokenizer, max_length=999)
    whole = list(score_chains(model, chains, PRESETS["paper"], batch_tokens=64))
    shapes, loaded = list(batches), []

    def replicas():
        for mesh in replica_meshes(2):
            loaded.append(mesh)
            yield Replica(load_model("arithmetic-1m", dtype="float32", mesh=mesh), mesh)

    numbers = make_batches(chains, 64)
    ours = list(in_order(score_batches(replicas(), chains, numbers, PRESETS["paper"])))
    assert batches[len(shapes) :] == shapes
    assert len(loaded) == min(len(numbers), 4)
    for row, again in zip(whole, ours, strict=True):
        assert row["id"] == again["id"]
        np.testing.assert_allclose(row["token_logprobs"], again["token_logprobs"], atol=1e-5)
    loaded.clear()
    assert len(list(score_batches(replicas(), chains, numbers[:1], PRESETS["paper"]))) > 0
    assert len(loaded) == 1
