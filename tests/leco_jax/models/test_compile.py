"""The forward pass of a real preset, compiled for a TPU slice."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh, NamedSharding

from leco_jax.models import transformer
from leco_jax.models.architectures import preset
from leco_jax.models.attention import causal_attend
from leco_jax.models.sharding import MESH_AXES
from leco_jax.models.weights import abstract_params, weight_table

pytestmark = pytest.mark.tpu_compile

GIB = 2**30


@pytest.fixture(scope="module")
def mesh():
    pytest.importorskip("libtpu")
    topology = topologies.get_topology_desc(platform="tpu", topology_name="v5e:4x4", num_slices=1)
    devices = np.asarray(topology.devices).reshape(1, 4, 4)
    return Mesh(devices, MESH_AXES, axis_types=(AxisType.Auto,) * 3)


NEW = ["qwen3_8b", "gemma2_27b", "gemma3_1b", "olmo2_7b", "phi4", "smollm3_3b"]


@pytest.mark.parametrize(
    "name", ["llama3_8b", *(pytest.param(name, marks=pytest.mark.slow) for name in NEW)]
)
def test_a_preset_on_sixteen_chips(name, mesh):
    config = preset(name)
    params = abstract_params(config, mesh)
    tokens = jax.ShapeDtypeStruct(
        (8, 512), jnp.int32, sharding=NamedSharding(mesh, jax.P(("data", "fsdp")))
    )

    def next_token_logits(params, tokens):
        positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
        hidden, _ = transformer.forward(
            params, tokens, positions, config=config, attend=causal_attend(positions, config)
        )
        return transformer.logits(params, hidden[:, -1], config=config)

    with jax.set_mesh(mesh):
        compiled = jax.jit(next_token_logits).lower(params, tokens).compile()

    memory = compiled.memory_analysis()
    weights = sum(math.prod(weight.shape) for weight in weight_table(config).values())
    share = 2 * weights / 16
    assert memory.argument_size_in_bytes == pytest.approx(share, rel=0.01)
    assert memory.temp_size_in_bytes < GIB / 2
    text = compiled.as_text()
    # Layers are one loop: collectives per weight, not per weight and layer.
    assert "while(" in text
    assert len(re.findall(r" all-gather(?:-start)?\(", text)) < 40
