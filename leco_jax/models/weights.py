"""One line per weight: shape, logical axes, initialiser, and its name and layout in files."""

import dataclasses
import zlib
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding

from leco_jax.models.config import ModelConfig
from leco_jax.models.sharding import RULES, Rules, named_sharding

Params = dict
Initializer = Callable[[jax.Array, Sequence[int], jnp.dtype], jax.Array]

# Shape letter -> logical axis.
_AXES = {
    "L": "layers",
    "V": "vocab",
    "D": "embed",
    "N": "heads",
    "K": "kv_heads",
    "H": "head_width",
    "F": "mlp",
}
# A vector of model width (norms, output bias) is too small to shard.
_VECTORS = {"D": ("vector",), "LD": ("layers", "vector")}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Weight:
    """One weight."""

    dims: str  # its shape letters; a leading L is the stack of layers
    shape: tuple[int, ...]  # their sizes
    axes: tuple[str, ...]  # one logical axis per dimension (see `sharding.RULES`)
    init: Initializer  # initialiser
    hf: str  # its name in Hugging Face files; {} is the layer
    gguf: str  # its name in GGUF files; {} is the layer
    stored: str  # its layout in both, one layer's: letters, "NH,D" is a matrix [N*H, D]


def _normal(fan_in: int) -> Initializer:
    """Normal cut at two standard deviations, with variance 1 / fan_in after the cut."""
    return jax.nn.initializers.truncated_normal(fan_in**-0.5 / 0.8796256610342398)


_ones = jax.nn.initializers.ones
_zeros = jax.nn.initializers.zeros


def weight_table(config: ModelConfig) -> dict[str, Weight]:
    """Every weight of the model, by its path in the parameters ("layers/q_proj")."""
    c = config
    width, heads, mlp = _normal(c.width), _normal(c.num_heads * c.head_width), _normal(c.mlp_width)
    norm = _zeros if c.norm_plus_one else _ones

    # name: (dims, initialiser, Hugging Face name, GGUF name, layout in files); one layer's names
    # are completed below.
    lines: dict[str, tuple[str, Initializer, str, str, str]] = {
        "embed": ("VD", width, "model.embed_tokens.weight", "token_embd.weight", "V,D"),
        "final_norm": ("D", norm, "model.norm.weight", "output_norm.weight", "D"),
        "q_proj": ("LDNH", width, "self_attn.q_proj.weight", "attn_q.weight", "NH,D"),
        "k_proj": ("LDKH", width, "self_attn.k_proj.weight", "attn_k.weight", "KH,D"),
        "v_proj": ("LDKH", width, "self_attn.v_proj.weight", "attn_v.weight", "KH,D"),
        "o_proj": ("LNHD", heads, "self_attn.o_proj.weight", "attn_output.weight", "D,NH"),
        "gate_proj": ("LDF", width, "mlp.gate_proj.weight", "ffn_gate.weight", "F,D"),
        "up_proj": ("LDF", width, "mlp.up_proj.weight", "ffn_up.weight", "F,D"),
        "down_proj": ("LFD", mlp, "mlp.down_proj.weight", "ffn_down.weight", "D,F"),
    }
    if not c.tied:
        lines["unembed"] = ("VD", width, "lm_head.weight", "output.weight", "V,D")
    if c.qkv_bias:
        lines["q_bias"] = ("LNH", _zeros, "self_attn.q_proj.bias", "attn_q.bias", "NH")
        lines["k_bias"] = ("LKH", _zeros, "self_attn.k_proj.bias", "attn_k.bias", "KH")
        lines["v_bias"] = ("LKH", _zeros, "self_attn.v_proj.bias", "attn_v.bias", "KH")
    if c.o_bias:
        lines["o_bias"] = ("LD", _zeros, "self_attn.o_proj.bias", "attn_output.bias", "D")
    attn_post = ("LD", norm, "post_attention_layernorm.weight", "post_attention_norm.weight", "D")
    mlp_post = ("LD", norm, "post_feedforward_layernorm.weight", "post_ffw_norm.weight", "D")
    if c.norms != "after":
        # What Llama calls "post attention" stands before the MLP.
        mlp_norm = "pre_feedforward_layernorm" if c.norms == "both" else "post_attention_layernorm"
        lines["attn_norm"] = ("LD", norm, "input_layernorm.weight", "attn_norm.weight", "D")
        lines["mlp_norm"] = ("LD", norm, f"{mlp_norm}.weight", "ffn_norm.weight", "D")
    if c.norms != "before":
        lines["attn_post_norm"] = attn_post
        lines["mlp_post_norm"] = mlp_post
    if c.qk_norm != "none":
        q, k = ("NH", "KH") if c.qk_norm == "projection" else ("H", "H")
        lines["q_norm"] = (f"L{q}", norm, "self_attn.q_norm.weight", "attn_q_norm.weight", q)
        lines["k_norm"] = (f"L{k}", norm, "self_attn.k_norm.weight", "attn_k_norm.weight", k)

    table = {}
    for name, (dims, init, hf, gguf, stored) in lines.items():
        in_layer = dims.startswith("L")
        table[f"layers/{name}" if in_layer else name] = Weight(
            dims=dims,
            shape=tuple(c.sizes[d] for d in dims),
            axes=_VECTORS.get(dims) or tuple(_AXES[d] for d in dims),
            init=init,
            hf=f"model.layers.{{}}.{hf}" if in_layer else hf,
            gguf=f"blk.{{}}.{gguf}" if in_layer else gguf,
            stored=stored,
        )
    return table


def nest(flat: dict) -> Params:
    """{"layers/q_proj": x} -> {"layers": {"q_proj": x}}."""
    tree: Params = {}
    for path, leaf in flat.items():
        *groups, name = path.split("/")
        node = tree
        for group in groups:
            node = node.setdefault(group, {})
        node[name] = leaf
    return tree


def param_shardings(config: ModelConfig, mesh: Mesh, rules: Rules = RULES) -> Params:
    """The sharding of every weight; a dimension that does not divide is replicated."""
    return table_shardings(weight_table(config), mesh, rules)


def table_shardings(
    table: dict[str, Weight], mesh: Mesh, rules: Rules, *, name: str = ""
) -> Params:
    """The shardings of a table's weights, nested; `name` comes before their paths in reports."""
    return nest(
        {
            path: named_sharding(name + path, weight.shape, weight.axes, mesh, rules)
            for path, weight in table.items()
        }
    )


def abstract_params(
    config: ModelConfig,
    mesh: Mesh | None = None,
    rules: Rules = RULES,
    *,
    unstacked: bool = False,
) -> Params:
    """Shapes, dtypes and (with a mesh) shardings of the parameters, without the parameters.

    `unstacked`: "layers" as a list of one dict per layer, as `unstack_layers` makes it.
    """
    table = weight_table(config)
    shardings = None if mesh is None else param_shardings(config, mesh, rules)
    params = abstract_weights(table, config.param_dtype, shardings)
    if not unstacked:
        return params

    def one(x):
        sharding = x.sharding and NamedSharding(x.sharding.mesh, jax.P(*x.sharding.spec[1:]))
        return jax.ShapeDtypeStruct(x.shape[1:], x.dtype, sharding=sharding)

    layers = [jax.tree.map(one, params["layers"]) for _ in range(config.num_layers)]
    return {**params, "layers": layers}


def abstract_weights(table: dict[str, Weight], dtype: str, shardings: Params | None) -> Params:
    """Shapes of a table's weights, nested, with `shardings` of the same structure or None."""
    shapes = nest(
        {path: jax.ShapeDtypeStruct(w.shape, jnp.dtype(dtype)) for path, w in table.items()}
    )
    if shardings is None:
        return shapes
    return jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        shapes,
        shardings,
    )


def init_params(
    config: ModelConfig, key: jax.Array, mesh: Mesh | None = None, rules: Rules = RULES
) -> Params:
    """Random parameters in `config.param_dtype`, each device making its own part.

    A weight's values depend on the typed PRNG key and its path, not on the mesh (None: the default
    device).
    """
    shardings = None if mesh is None else param_shardings(config, mesh, rules)
    return jax.jit(_random_params, static_argnums=0, out_shardings=shardings)(config, key)


def _random_params(config: ModelConfig, key: jax.Array) -> Params:
    return random_weights(weight_table(config), key, config.param_dtype)


def random_weights(table: dict[str, Weight], key: jax.Array, dtype: str) -> Params:
    """Values of a table's weights, nested; to be compiled."""

    def draw(path: str, weight: Weight) -> jax.Array:
        key_of_path = jax.random.fold_in(key, zlib.crc32(path.encode()))
        # In float32 first: bfloat16 draws would come from few random bits.
        return weight.init(key_of_path, weight.shape, jnp.float32).astype(dtype)

    return nest({path: draw(path, weight) for path, weight in table.items()})


def unstack_layers(params: Params, *, consume: bool = False) -> Params:
    """The parameters with "layers" as a list of one dict per layer: the unrolled form.

    `consume` takes every stacked weight out of `params` once its layers are cut from it, so that no
    more than one of them is held twice. A list of layers is returned as it is.
    """
    stacked = params["layers"]
    if isinstance(stacked, (list, tuple)):
        return params
    (num_layers,) = {leaf.shape[0] for leaf in jax.tree.leaves(stacked)}
    layers: list[Params] = [{} for _ in range(num_layers)]
    for name in list(stacked):
        weight = stacked.pop(name) if consume else stacked[name]
        for i, layer in enumerate(layers):
            layer[name] = jax.tree.map(lambda x, i=i: x[i], weight)
        if consume:
            jax.block_until_ready(layers)  # else they are all in flight before one is freed
    return {**params, "layers": layers}


def stack_layers(params: Params) -> Params:
    """The inverse of `unstack_layers`."""
    layers = params["layers"]
    if isinstance(layers, dict):
        return params
    return {**params, "layers": jax.tree.map(lambda *xs: jnp.stack(xs), *layers)}
