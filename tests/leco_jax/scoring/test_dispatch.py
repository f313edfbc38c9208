import logging
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from leco_jax import scoring
from leco_jax.scoring import dispatch


def small():
    hidden, unembed = jnp.ones((4, 100)), jnp.ones((300, 100))
    return hidden, unembed, jnp.zeros(4, jnp.int32)


def test_an_explicit_request_is_strict():
    hidden, unembed, tokens = small()
    with pytest.raises(ValueError, match="interpret mode"):  # by Pallas: this is a CPU
        scoring.token_stats(hidden @ unembed.T, tokens, implementation="pallas_tpu")
    with pytest.raises(ValueError, match="the XLA form serves GPUs"):
        scoring.token_stats_from_hidden(hidden, unembed, tokens, implementation="pallas_gpu")
    wide = jnp.ones((4, 20001)), jnp.ones((300, 20001))
    with pytest.raises(ValueError, match="no block of the width 20001 fits"):
        scoring.token_stats_from_hidden(*wide, tokens, implementation="pallas_tpu")
    with pytest.raises(ValueError, match="the kernel keeps no top k"):
        scoring.token_stats_from_hidden(
            hidden, unembed, tokens, stats=("topk_logprob",), implementation="pallas_tpu"
        )
    with pytest.raises(ValueError, match="cast one of them"):
        scoring.token_stats_from_hidden(
            jnp.ones((4, 128), jnp.bfloat16),
            jnp.ones((300, 128)),
            tokens,
            implementation="pallas_tpu",
        )


def test_auto_says_once_why_it_falls_back(caplog):
    dispatch._say_once.cache_clear()
    hidden, unembed, tokens = small()
    with caplog.at_level(logging.INFO, logger="leco_jax.scoring"):
        for rows in (3, 4):  # two shapes, traced apart
            scoring.token_stats_from_hidden(
                hidden[:rows], unembed, tokens[:rows], bias=jnp.ones(300)
            )
    assert [record.message for record in caplog.records] == [
        '"auto" takes "xla" for hidden states: the kernel adds no bias; "xla" does'
    ]


def test_needs_jax_alone():
    """Neither our other packages nor anything that a JAX code base might not have."""
    program = (
        "import sys\n"
        "others = {'flax', 'optax', 'orbax', 'tensorflow_datasets', 'tensorflow', 'tokenizers',\n"
        "          'sentencepiece', 'transformers', 'torch', 'absl', 'ml_collections'}\n"
        "for name in others: sys.modules[name] = None  # importing it now raises\n"
        "import leco_jax.scoring\n"
        "ours = [m for m in sys.modules if m.startswith(('leco_jax.', 'w2s_jax'))]\n"
        "assert all(m.startswith('leco_jax.scoring') for m in ours), ours\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_scoring_inside_jit_compiles_once():
    logits, tokens = jnp.ones((4, 300)), jnp.zeros(4, jnp.int32)
    step = jax.jit(scoring.token_stats)
    step(logits, tokens)
    step(logits + 1.0, tokens)
    assert step._cache_size() == 1
