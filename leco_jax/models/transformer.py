"""The forward pass as pure functions of a dict of arrays.

Training, prefill and decoding share every line; they differ in the `attend` that they pass in.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from leco_jax.models.attention import soft_capped
from leco_jax.models.config import ModelConfig, RopeConfig
from leco_jax.models.rope import rope_table, rotate
from leco_jax.models.sharding import RULES, Rules, constrain, gather

# (q_BTNH, k_BTKH, v_BTKH, one layer's state) -> (out_BTNH, that layer's new state). The attention
# scales its scores by 1 / sqrt(H) and caps them itself; rotary embedding is already applied. If
# `config.global_every` is set, the layer's window comes as a fifth argument: None or an int where
# layers are unrolled, an int32 scalar where they are scanned.
Attend = Callable[..., tuple[jax.Array, Any]]

_EVERYWHERE = 2**30  # a window longer than any sequence

# What a layer keeps for its backward pass. "none": everything; "full": only its input; "dots": its
# matrix products; "dots_no_batch": those without a batch dimension, so not the attention scores.
REMAT: dict[str, Callable[..., bool] | None] = {
    "none": None,
    "full": jax.checkpoint_policies.nothing_saveable,
    "dots": jax.checkpoint_policies.dots_saveable,
    "dots_no_batch": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}

_ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "silu": jax.nn.silu,
    "gelu_tanh": lambda x: jax.nn.gelu(x, approximate=True),
}


def rms_norm(x: jax.Array, weight: jax.Array, *, config: ModelConfig) -> jax.Array:
    """RMSNorm in float32 over the last axes, those of `weight`, returned in `x`'s dtype."""
    x32 = x.astype(jnp.float32)
    axes = tuple(range(-weight.ndim, 0))
    scale = jax.lax.rsqrt(jnp.mean(x32 * x32, axis=axes, keepdims=True) + config.norm_eps)
    weight = weight.astype(jnp.float32) + (1.0 if config.norm_plus_one else 0.0)
    return (x32 * scale * weight).astype(x.dtype)


def embed(
    params: dict, tokens_BT: jax.Array, *, config: ModelConfig, rules: Rules = RULES
) -> jax.Array:
    """Token embeddings [B, T, D] in the compute dtype, scaled if the config asks for it."""
    # Rows whole and tokens batch-sharded, or the partitioner gathers every device's result.
    table_VD = gather(params["embed"], ("vocab", "embed"), ("vocab", "act_embed"), rules=rules)
    tokens_BT = constrain(tokens_BT, "batch", "length", rules=rules)
    hidden_BTD = jnp.take(table_VD, tokens_BT, axis=0).astype(config.dtype)
    if config.scale_embedding:
        hidden_BTD *= jnp.asarray(config.width**0.5, config.dtype)
    return constrain(hidden_BTD, "batch", "length", "act_embed", rules=rules)


def linear(spec: str, x: jax.Array, weight: Any, dtype: Any) -> jax.Array:
    """`einsum(spec, x, weight)` in `dtype`; an adapted weight (see `lora`) brings its own."""
    if hasattr(weight, "einsum"):
        return weight.einsum(spec, x, dtype)
    return jnp.einsum(spec, x, weight.astype(dtype))


def _normed(x: jax.Array, layer: dict, name: str, config: ModelConfig) -> jax.Array:
    """`x` after the norm of that name, if the layer has it."""
    return rms_norm(x, layer[name], config=config) if name in layer else x


def _attention(hidden_BTD, layer, table, state, *window, config, attend, rules):
    dtype = config.dtype
    x_BTD = _normed(hidden_BTD, layer, "attn_norm", config)
    q_BTNH = linear("BTD,DNH->BTNH", x_BTD, layer["q_proj"], dtype)
    k_BTKH = linear("BTD,DKH->BTKH", x_BTD, layer["k_proj"], dtype)
    v_BTKH = linear("BTD,DKH->BTKH", x_BTD, layer["v_proj"], dtype)
    if config.qkv_bias:
        q_BTNH += layer["q_bias"].astype(dtype)
        k_BTKH += layer["k_bias"].astype(dtype)
        v_BTKH += layer["v_bias"].astype(dtype)
    q_BTNH = constrain(q_BTNH, "batch", "length", "act_heads", "head_width", rules=rules)
    k_BTKH = constrain(k_BTKH, "batch", "length", "act_kv_heads", "head_width", rules=rules)
    v_BTKH = constrain(v_BTKH, "batch", "length", "act_kv_heads", "head_width", rules=rules)
    q_BTNH = rotate(_normed(q_BTNH, layer, "q_norm", config), table)
    k_BTKH = rotate(_normed(k_BTKH, layer, "k_norm", config), table)
    if config.score_width is not None:
        q_BTNH *= (config.head_width / config.score_width) ** 0.5  # `attend` divides by the first
    out_BTNH, state = attend(q_BTNH, k_BTKH, v_BTKH, state, *window)
    out_BTNH = constrain(out_BTNH, "batch", "length", "act_heads", "head_width", rules=rules)
    # I, J for N, H: einsum contracts in alphabetical order, and a CPU transposes a weight that lies
    # in another one at every call.
    out_BTD = linear("BTIJ,IJD->BTD", out_BTNH, layer["o_proj"], dtype)
    if config.o_bias:
        out_BTD += layer["o_bias"].astype(dtype)
    return _normed(out_BTD, layer, "attn_post_norm", config), state


def _mlp(hidden_BTD, layer, *, config, rules):
    dtype = config.dtype
    x_BTD = _normed(hidden_BTD, layer, "mlp_norm", config)
    # Rows end to end (X = B * T): with three axes a CPU takes half as long again to go backward.
    x_XD = x_BTD.reshape(-1, config.width)
    gate_XF = linear("XD,DF->XF", x_XD, layer["gate_proj"], dtype)
    up_XF = linear("XD,DF->XF", x_XD, layer["up_proj"], dtype)
    gated_XF = _ACTIVATIONS[config.activation](gate_XF) * up_XF
    gated_XF = constrain(gated_XF, "batch", "act_mlp", rules=rules)
    out_BTD = linear("XF,FD->XD", gated_XF, layer["down_proj"], dtype).reshape(hidden_BTD.shape)
    return _normed(out_BTD, layer, "mlp_post_norm", config)


def _layer_kinds(
    config: ModelConfig, *, unrolled: bool
) -> tuple[list[RopeConfig | None], dict[str, Any]]:
    """The model's rotary embeddings, and of each layer what the layers do not have in common.

    That is "rope", the index of its rotary embedding, and "window"; a list for unrolled layers,
    else an int32 array [L].
    """
    ropes = list(dict.fromkeys(config.layer_ropes))
    kinds: dict[str, Any] = {}
    if len(ropes) > 1:
        kinds["rope"] = [ropes.index(rope) for rope in config.layer_ropes]
    if config.global_every is not None:
        kinds["window"] = list(config.layer_windows)
        if not unrolled:
            kinds["window"] = [w or _EVERYWHERE for w in config.layer_windows]
    if not unrolled:
        kinds = {name: jnp.asarray(kind, jnp.int32) for name, kind in kinds.items()}
    return ropes, kinds


def forward(
    params: dict,
    tokens_BT: jax.Array,
    positions_BT: jax.Array,
    *,
    config: ModelConfig,
    attend: Attend,
    layer_state: Any = None,
    remat: str = "none",
    rules: Rules = RULES,
) -> tuple[jax.Array, Any]:
    """Hidden states of a batch after the final norm in the compute dtype, and the new state.

    Args:
      params: the weights. "layers" as a dict of stacked arrays is scanned, as a list is unrolled.
      tokens_BT: int32 token ids.
      positions_BT: int32 positions for the rotary embedding.
      config: the model.
      attend: see `Attend`, called once per layer.
      layer_state: what `attend` reads and writes (a cache): arrays with a leading L if scanned, a
        list of L entries if unrolled; None if there is none.
      remat: what the backward pass recomputes, a key of `REMAT`; others raise ValueError.
      rules: logical axis -> mesh axis, for activations.
    """
    if remat not in REMAT:
        raise ValueError(f"remat {remat!r} is not one of {', '.join(REMAT)}")
    layers = params["layers"]
    unrolled = isinstance(layers, (list, tuple))

    with jax.named_scope("embed"):
        hidden_BTD = embed(params, tokens_BT, config=config, rules=rules)
        ropes, kinds = _layer_kinds(config, unrolled=unrolled)
        tables = [rope_table(positions_BT, rope, config.head_width) for rope in ropes]

    def block(hidden_BTD, layer, state, kind):
        with jax.named_scope("attention"):
            table = tables[0]
            if "rope" in kind:
                table = jax.tree.map(lambda *xs: jax.lax.select_n(kind["rope"], *xs), *tables)
            window = (kind["window"],) if "window" in kind else ()
            out_BTD, state = _attention(
                hidden_BTD, layer, table, state, *window, config=config, attend=attend, rules=rules
            )
            hidden_BTD += out_BTD
        with jax.named_scope("mlp"):
            hidden_BTD += _mlp(hidden_BTD, layer, config=config, rules=rules)
        hidden_BTD = constrain(hidden_BTD, "batch", "length", "act_embed", rules=rules)
        return hidden_BTD, state

    if REMAT[remat] is not None:
        # Inside a scan nothing can be merged across iterations, so the guard would only cost.
        block = jax.checkpoint(block, policy=REMAT[remat], prevent_cse=unrolled)

    if unrolled:
        new_state = []
        for i, layer in enumerate(layers):
            state = None if layer_state is None else layer_state[i]
            kind = {name: values[i] for name, values in kinds.items()}
            hidden_BTD, state = block(hidden_BTD, layer, state, kind)
            new_state.append(state)
        layer_state = None if layer_state is None else new_state
    else:
        hidden_BTD, layer_state = jax.lax.scan(
            lambda hidden, xs: block(hidden, *xs), hidden_BTD, (layers, layer_state, kinds)
        )

    with jax.named_scope("final_norm"):
        hidden_BTD = rms_norm(hidden_BTD, params["final_norm"], config=config)
    return hidden_BTD, layer_state


def unembedding(params: dict) -> jax.Array:
    """The matrix [V, D] that turns hidden states into logits; the embedding itself if tied."""
    return params["unembed"] if "unembed" in params else params["embed"]


def project(params: dict, hidden: jax.Array) -> jax.Array:
    """Logits [..., V] in float32 before any soft-cap, for callers that cap them themselves."""
    with jax.named_scope("unembed"):
        return jnp.einsum(
            "...D,VD->...V",
            hidden,
            unembedding(params).astype(hidden.dtype),
            preferred_element_type=jnp.float32,
        )


def logits(params: dict, hidden: jax.Array, *, config: ModelConfig) -> jax.Array:
    """Logits [..., V] in float32, soft-capped if the config asks for it."""
    return soft_capped(project(params, hidden), config.logit_soft_cap)
