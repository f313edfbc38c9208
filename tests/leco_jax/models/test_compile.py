"""The forward pass of a real preset, compiled for a TPU slice."""

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
from leco_jax.models.weights import abstract_params

pytestmark = pytest.mark.tpu_compile

GIB = 2**30


@pytest.fixture(scope="module")
def mesh():
    pytest.importorskip("libtpu")
    topology = topologies.get_topology_desc(platform="tpu", topology_name="v5e:4x4", num_slices=1)
    devices = np.asarray(topology.devices).reshape(1, 4, 4)
    return Mesh(devices, MESH_AXES, axis_types=(AxisType.Auto,) * 3)


def test_llama3_8b_on_sixteen_chips(mesh):
    config = preset("llama3_8b")
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
    share = 2 * 8_030_261_248 / 16
    assert memory.argument_size_in_bytes == pytest.approx(share, rel=0.01)
    assert memory.temp_size_in_bytes < GIB / 2
    text = compiled.as_text()
    # Layers are one loop: collectives per weight, not per weight and layer.
    assert "while(" in text
    assert len(re.findall(r" all-gather(?:-start)?\(", text)) < 40
