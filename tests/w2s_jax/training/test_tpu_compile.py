"""The pod's DPO step through the TPU compiler: sharded as meant, and lean because logits stay out.

`benchmarks/training_tpu.py` compiles all 32 layers; two are enough to see what the loss costs.
"""

import jax
import pytest

from benchmarks.training_tpu import compile_dpo_step, memory
from leco_jax.models.architectures import preset

pytestmark = pytest.mark.tpu_compile


@pytest.mark.slow
def test_dpo_step_on_a_pod_is_leaner_by_the_logits_that_it_does_not_store():
    model = preset("llama3_8b", param_dtype="float32", dtype="bfloat16", num_layers=2)
    compiled = compile_dpo_step(model, topology="v5e:4x4")
    ours = memory(compiled)
    # Weights and both moments in float32, spread over sixteen chips.
    weights = 2 * 128_256 * 4096 + 2 * (4096 * 128 * (32 + 8 + 8 + 32) + 3 * 4096 * 14_336)
    assert ours["held"] == pytest.approx(3 * 4 * weights / 16 / 1e9, rel=0.01)
    # No logits of all of a chip's tokens: 2 pairs x 2048 tokens x 128256 in any layout.
    text = compiled.as_text()
    assert "4096,128256]" not in text
    assert "2048,128256]" not in text
    # 4.7 GB before splash attention and the scattered gradient of the unembedding, which made the
    # peer leaner too: stored logits cost 2 GB more before, and 1.8 GB at 32 layers since.
    assert ours["temporary"] <= 2.8
    peer = memory(compile_dpo_step(model, topology="v5e:4x4", peer=True))
    assert peer["temporary"] - ours["temporary"] >= 1.5
    assert jax.default_backend() == "cpu"
