"""transformers loads what we export, with the same logits and tokens."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from leco_jax.examples import bundled_path
from leco_jax.models.architectures import preset
from leco_jax.models.config import RopeConfig
from leco_jax.models.llama import Llama
from leco_jax.models.loading import load_model
from leco_jax.models.loading.export import export_huggingface
from leco_jax.models.weights import init_params
from leco_jax.text.chat import encode_chat
from leco_jax.text.tokenizer import load_tokenizer

pytestmark = pytest.mark.parity

SMALL = preset("tiny", vocab_size=640)
_LLAMA3 = RopeConfig(
    theta=5e5, scaling="llama3", factor=8.0, original_max_positions=8, high_freq_factor=4.0
)
_GEMMA2 = SMALL.replace(
    scale_embedding=True, norm_plus_one=True, activation="gelu_tanh", norms="both",
    sliding_window=7, global_every=2, attention_soft_cap=2.0, logit_soft_cap=3.0,
)  # fmt: skip
CONFIGS = {
    "llama": SMALL.replace(tied=False, rope=_LLAMA3),
    "llama, linear": SMALL.replace(rope=RopeConfig(scaling="linear", factor=2.0)),
    "llama, yarn": SMALL.replace(
        rope=RopeConfig(
            scaling="yarn",
            factor=4.0,
            beta_fast=4.0,
            attention_factor=1.3,
            original_max_positions=128,
        )
    ),
    "llama, biases": SMALL.replace(qkv_bias=True, o_bias=True),
    "mistral": SMALL.replace(sliding_window=7, num_kv_heads=1),
    "gemma": SMALL.replace(
        scale_embedding=True, norm_plus_one=True, activation="gelu_tanh", head_width=32
    ),
    "gemma2": _GEMMA2,
    "gemma2, scaled": _GEMMA2.replace(score_width=40, attention_soft_cap=None, logit_soft_cap=None),
    "gemma2, no window": _GEMMA2.replace(sliding_window=None, global_every=None),
    "gemma3_text": _GEMMA2.replace(
        qk_norm="head",
        num_layers=4,
        global_every=3,
        local_rope_theta=100.0,
        attention_soft_cap=None,
        rope=RopeConfig(theta=1e6, scaling="linear", factor=8.0),
    ),
    "qwen2": SMALL.replace(qkv_bias=True),
    "qwen2, every second": SMALL.replace(qkv_bias=True, sliding_window=7, global_every=2),
    "qwen2, window": SMALL.replace(qkv_bias=True, sliding_window=7),
    "olmo2": SMALL.replace(qk_norm="projection", norms="after", tied=False),
    "smollm3": SMALL.replace(num_layers=3, no_rope_every=2),
    "qwen3": SMALL.replace(qk_norm="head"),
    "qwen3, biases": SMALL.replace(qk_norm="head", qkv_bias=True, o_bias=True, tied=False),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_exported_models_have_the_same_logits_in_transformers(
    transformers, figures, tmp_path, case
):
    config = CONFIGS[case]
    # Biases and norms of an initialised model are 0 and 1: draw all, or they would not be seen.
    leaves, tree = jax.tree.flatten(init_params(config, jax.random.key(0)))
    keys = jax.random.split(jax.random.key(1), len(leaves))
    params = tree.unflatten(
        [x + 0.2 * jax.random.normal(k, x.shape) for k, x in zip(keys, leaves, strict=True)]
    )
    tokenizer = load_tokenizer(bundled_path("arithmetic-1m"))
    export_huggingface(tmp_path, Llama(config, params=params), tokenizer, shard_bytes=200_000)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, attn_implementation="eager", dtype="float32"
    ).eval()
    tokens = np.random.default_rng(0).integers(0, 640, (2, 24))
    want = figures.reference_logits(model, tokens)
    got = Llama(config, params=params)(jnp.asarray(tokens))
    np.testing.assert_allclose(np.asarray(got), want, atol=1e-4)
    assert model.generation_config.eos_token_id == [2]


def test_the_bundled_model_says_the_same_in_transformers(transformers, figures):
    path = bundled_path("arithmetic-1m")
    loaded = load_model("arithmetic-1m")
    theirs = transformers.AutoTokenizer.from_pretrained(path)
    text = "Question: Ada has 12 apples.\nAnswer:\nStep 1: Ada has 12 + 7 = 19 apples.\n"
    ids = loaded.tokenizer.encode(text)
    assert theirs.encode(text, add_special_tokens=False) == ids
    assert theirs.decode(ids) == text
    model = transformers.AutoModelForCausalLM.from_pretrained(path, attn_implementation="eager")
    want = figures.reference_logits(model.eval(), np.asarray([ids]))
    got = loaded.model(jnp.asarray([ids]))
    np.testing.assert_allclose(np.asarray(got), want, atol=1e-4)


def test_a_byte_level_tokenizer_comes_back_in_transformers(transformers, tmp_path):
    loaded = load_model("smollm2-135m-instruct")
    config = preset("tiny", vocab_size=loaded.config.vocab_size)
    export_huggingface(tmp_path, Llama(config, rngs=jax.random.key(0)), loaded.tokenizer)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    text = "Step 12: She had 3.5 apples, naïve 🙂\n\n  twice"
    assert theirs.encode(text, add_special_tokens=False) == loaded.tokenizer.encode(text)
    assert theirs.eos_token_id == loaded.tokenizer.eos_ids[0]
    messages = [{"role": "user", "content": "Hi"}]
    ids = theirs.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    ours = load_model(tmp_path).tokenizer
    assert list(ids) == encode_chat(ours, messages) == encode_chat(loaded.tokenizer, messages)
