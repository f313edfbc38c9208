"""Reading in parts: every device gets its own part, and nobody reads more than that."""

import jax
import numpy as np
import pytest

from leco_jax.models.architectures import preset
from leco_jax.models.loading.assemble import (
    CheckpointError,
    assemble,
    check_tensors,
    stored_shape,
)
from leco_jax.models.sharding import RULES, make_mesh
from leco_jax.models.weights import param_shardings, weight_table

CONFIG = preset("tiny", vocab_size=64, width=32, mlp_width=48, head_width=8, qkv_bias=True)
NAMES = {path: weight.hf for path, weight in weight_table(CONFIG).items()}


class MemorySource:
    """Tensors in memory that counts what is read."""

    def __init__(self, tensors):
        self.tensors = tensors
        self.shapes = {name: x.shape for name, x in tensors.items()}
        self.values_read = 0
        self.runs = []

    def read(self, name, index):
        part = self.tensors[name][index]
        self.values_read += part.size
        self.runs.append((name, part.shape))
        return part


def make_source(config):
    rng = np.random.default_rng(0)
    tensors = {}
    for path, weight in weight_table(config).items():
        for layer in range(config.num_layers if path.startswith("layers/") else 1):
            values = rng.standard_normal(stored_shape(weight, config))
            tensors[weight.hf.format(layer)] = values.astype(np.float32)
    return MemorySource(tensors)


@pytest.fixture
def source():
    return make_source(CONFIG)


def test_layouts_by_hand(source):
    params = assemble(CONFIG, NAMES, source)
    t, layers = source.tensors, params["layers"]
    np.testing.assert_array_equal(params["embed"], t["model.embed_tokens.weight"])
    q = t["model.layers.1.self_attn.q_proj.weight"]  # rows: head by head
    np.testing.assert_array_equal(layers["q_proj"][1, :, 2], q[16:24].T)
    np.testing.assert_array_equal(
        layers["k_bias"][1, 1], t["model.layers.1.self_attn.k_proj.bias"][8:16]
    )
    o = t["model.layers.0.self_attn.o_proj.weight"]  # columns: head by head
    np.testing.assert_array_equal(layers["o_proj"][0, 3], o[:, 24:32].T)
    np.testing.assert_array_equal(layers["up_proj"][0], t["model.layers.0.mlp.up_proj.weight"].T)
    np.testing.assert_array_equal(
        layers["down_proj"][1], t["model.layers.1.mlp.down_proj.weight"].T
    )


RULE_SETS = {
    "default": RULES,
    "heads_cut_inside": RULES | {"head_width": "tensor", "heads": None, "kv_heads": None},
    "layers": RULES | {"layers": "data", "embed": "tensor", "mlp": "fsdp"},
}


@pytest.mark.parametrize("rules", RULE_SETS.values(), ids=RULE_SETS)
def test_sharded_equals_whole(rules, source):
    mesh = make_mesh(data=2, fsdp=2, tensor=2)
    whole = assemble(CONFIG, NAMES, source)
    sharded = assemble(CONFIG, NAMES, source, mesh=mesh, rules=rules)
    jax.tree.map(np.testing.assert_array_equal, sharded, whole)
    if rules is not RULES:
        assert sharded["layers"]["q_proj"].sharding.num_devices == 8
        assert not sharded["layers"]["q_proj"].is_fully_replicated


def test_every_value_is_read_once(source):
    size = sum(x.size for x in source.tensors.values())
    assemble(CONFIG, NAMES, source, mesh=make_mesh(data=2, fsdp=2, tensor=2))
    assert source.values_read == size


@pytest.mark.parametrize("sizes", [(1, 8, 1), (1, 4, 2), (1, 2, 4), (2, 1, 4)])
def test_every_device_reads_whole_rows_in_long_runs(sizes):
    # 62 rows of the vocabulary do not divide.
    config = CONFIG.replace(vocab_size=62)
    source = make_source(config)
    whole = assemble(config, NAMES, source)
    source.runs.clear()
    mesh = make_mesh(**dict(zip(("data", "fsdp", "tensor"), sizes, strict=True)))
    sharded = assemble(config, NAMES, source, mesh=mesh)
    jax.tree.map(np.testing.assert_array_equal, sharded, whole)
    expected = jax.tree.leaves(param_shardings(config, mesh))
    for array, sharding in zip(jax.tree.leaves(sharded), expected, strict=True):
        assert array.sharding.is_equivalent_to(sharding, array.ndim)
    for path, weight in weight_table(config).items():
        if "," in weight.stored:
            own = [weight.hf.format(layer) for layer in range(config.num_layers)]
            runs = [shape for name, shape in source.runs if name in own]
            assert {columns for _, columns in runs} == {stored_shape(weight, config)[1]}
            assert len(runs) <= 8 * config.num_layers, path


def test_values_are_cast_to_the_parameter_dtype(source):
    params = assemble(CONFIG.replace(param_dtype="bfloat16"), NAMES, source)
    assert {x.dtype.name for x in jax.tree.leaves(params)} == {"bfloat16"}


def test_fixes_see_whole_heads(source):
    def reverse(part):
        assert part.shape[-1] == CONFIG.head_width
        return part[..., ::-1]

    options = {"fixes": {"layers/q_proj": reverse}}
    want = assemble(CONFIG, NAMES, source)["layers"]["q_proj"][..., ::-1]
    for rules in RULE_SETS.values():
        mesh = make_mesh(data=2, fsdp=2, tensor=2)
        got = assemble(CONFIG, NAMES, source, mesh=mesh, rules=rules, **options)
        np.testing.assert_array_equal(got["layers"]["q_proj"], want)


def test_all_wrong_tensors_are_in_one_error(source):
    shapes = dict(source.shapes)
    del shapes["model.norm.weight"]
    del shapes["model.layers.1.mlp.up_proj.weight"]
    shapes["model.layers.0.self_attn.q_proj.weight"] = (32, 31)
    shapes["model.layers.2.mlp.up_proj.weight"] = (48, 32)
    shapes["score.weight"] = (1, 32)
    with pytest.raises(CheckpointError) as caught:
        check_tensors(CONFIG, NAMES, shapes, where="some/dir", ignored=["not.there"])
    assert str(caught.value).splitlines() == [
        "some/dir: the tensors are not those of the model that its config describes",
        "  2 missing:",
        "    model.norm.weight",
        "    model.layers.1.mlp.up_proj.weight",
        "  2 extra:",
        "    model.layers.2.mlp.up_proj.weight",
        "    score.weight",
        "  1 mis-shaped:",
        "    model.layers.0.self_attn.q_proj.weight: has [32, 31], wants [32, 32]",
    ]


def test_what_fits_passes(source):
    check_tensors(CONFIG, NAMES, source.shapes, where="here")
    shapes = source.shapes | {"known.extra": (1,)}
    check_tensors(CONFIG, NAMES, shapes, where="here", ignored=["known.extra"])
