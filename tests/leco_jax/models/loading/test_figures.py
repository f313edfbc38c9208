"""Every architecture gives the logits that transformers gave (stored by make_figures.py)."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from leco_jax.models.architectures import PRESETS
from leco_jax.models.config import ModelConfig
from leco_jax.models.loading.huggingface import load_huggingface
from leco_jax.models.loading.huggingface_config import huggingface_config
from leco_jax.models.weights import unstack_layers

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


def test_all_cases_are_here(stored):
    assert sorted(stored) == sorted(CASES)
    # The only presets without a published counterpart are those that were trained here.
    assert set(PRESETS) - set(CASES) <= {"arithmetic_1m", "arithmetic_500k"}


@pytest.mark.heavy
@pytest.mark.parametrize("case", CASES)
def test_logits_and_log_probabilities(case, checkpoint, figures, run):
    directory = checkpoint(case)
    config = huggingface_config(json.loads((directory / "config.json").read_text()))
    params = load_huggingface(directory, config)
    with np.load(figures.LOGITS) as file:
        tokens, want = file["tokens"], file[case]

    got = run(params, config, tokens)
    np.testing.assert_allclose(got, want, atol=1e-4, rtol=0)
    np.testing.assert_allclose(jax.nn.log_softmax(got), jax.nn.log_softmax(want), atol=1e-4, rtol=0)
    # The logits must be large enough for the comparison to mean something.
    assert np.std(want) > 0.5


@pytest.mark.heavy
@pytest.mark.parametrize(
    "case", ["llama31_8b", "gemma_2b", "gemma2_27b", "gemma3_1b", "smollm3_3b"]
)
def test_unrolled_layers_give_the_same(case, checkpoint, figures, run):
    directory = checkpoint(case)
    config = huggingface_config(json.loads((directory / "config.json").read_text()))
    params = unstack_layers(load_huggingface(directory, config))
    with np.load(figures.LOGITS) as file:
        got = run(params, config, file["tokens"])
        np.testing.assert_allclose(got, file[case], atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", [case for case in CASES if case in PRESETS])
def test_the_case_of_a_preset_has_its_architecture(name, stored):
    def architecture(config: ModelConfig):
        grouped = config.num_kv_heads < config.num_heads
        optional = (
            "sliding_window", "global_every", "attention_soft_cap", "logit_soft_cap", "score_width",
        )  # fmt: skip
        given = {name: 1 for name in optional if getattr(config, name) is not None}
        rope = dataclasses.replace(config.rope, original_max_positions=1)
        rest = config.replace(
            vocab_size=64, width=32, mlp_width=64, num_layers=1, num_heads=1, num_kv_heads=1,
            head_width=8, max_positions=1, rope=rope, valid_vocab=None,
            param_dtype="float32", dtype="float32", **given,
        )  # fmt: skip
        return grouped, rest

    assert architecture(huggingface_config(stored[name]["config"])) == architecture(PRESETS[name])
