"""Logits and log-probabilities equal those of transformers (torch, float32), live."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from leco_jax.models.llama import Llama
from leco_jax.models.loading import MODELS, load_model
from leco_jax.models.loading.fetch import fetch
from leco_jax.models.loading.huggingface import load_huggingface
from leco_jax.models.loading.huggingface_config import huggingface_config

pytestmark = pytest.mark.parity

CASES = [
    "tiny",
    "smollm2_135m",
    "llama2_7b",
    "llama2_13b",
    "llama2_70b",
    "llama3_8b",
    "llama3_70b",
    "mistral_7b",
    "gemma_2b",
    "gemma2_2b",
    "gemma2_27b",
    "gemma3_1b",
    "gemma3_scaled",
    "qwen2_7b",
    "qwen3_600m",
    "qwen25_500m",
    "qwen25_7b",
    "qwen3_8b",
    "olmo2_7b",
    "olmo2_grouped",
    "smollm3_3b",
    "phi3_mini",
    "phi4",
    "qwen3_yarn",
    "llama31_70b",
    "llama31_8b",
    "llama32_1b",
    "mistral_7b_v03",
    "llama_linear_rope",
    "llama_biases",
    "mistral_no_window",
    "qwen2_window",
]


def assert_same(got, want):
    np.testing.assert_allclose(got, want, atol=1e-4, rtol=0)
    got, want = jax.nn.log_softmax(got), jax.nn.log_softmax(want)
    np.testing.assert_allclose(got, want, atol=1e-4, rtol=0)


def test_all_cases_are_here(figures):
    assert sorted(figures.CASES) == sorted(CASES)


@pytest.mark.parametrize("case", CASES)
def test_small_model(case, transformers, figures, tmp_path):
    model = figures.reference_model(case)
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert (tmp_path / "model.safetensors.index.json").exists()
    config = huggingface_config(json.loads((tmp_path / "config.json").read_text()))
    ours = Llama(config, params=load_huggingface(tmp_path, config))
    tokens = np.random.default_rng(1).integers(0, config.vocab_size, (2, 50))
    assert_same(ours(jnp.asarray(tokens)), figures.reference_logits(model, tokens))


def test_stored_figures_are_current(transformers, figures):
    with np.load(figures.LOGITS) as file:
        for case in ("llama31_8b", "gemma_2b"):
            got = figures.reference_logits(figures.reference_model(case), file["tokens"])
            np.testing.assert_allclose(got, file[case], atol=1e-5)


def test_smollm2(transformers, figures):
    name = "smollm2-135m-instruct"
    loaded = load_model(name)
    # transformers reads the same file with code of its own, which undoes llama.cpp's permutation.
    model = figures.gguf_model(fetch(MODELS[name]))
    tokens = np.asarray([loaded.tokenizer.encode(figures.TEXT, allow_special=True)])
    assert tokens.shape[1] > 80
    got = np.asarray(
        jax.jit(lambda model, tokens: model(tokens))(loaded.model, jnp.asarray(tokens))
    )
    want = figures.reference_logits(model, tokens)

    # The log-probability of every token of the text.
    np.testing.assert_allclose(
        figures.token_logprobs(got, tokens), figures.token_logprobs(want, tokens), atol=1e-4, rtol=0
    )
    # All four million logits. Where activations are huge (the first position), torch's float32
    # rounds by almost as much as the tolerance; its own error is not ours to match.
    exact = figures.reference_logits(model.double(), tokens)
    assert np.all(np.abs(got - want) <= 1e-4 + np.abs(want - exact))
    assert np.abs(got - want).mean() < 3e-5
