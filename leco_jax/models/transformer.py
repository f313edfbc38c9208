"""The forward pass as pure functions of a dict of arrays.

Training, prefill and decoding share every line; they differ in the `attend` that they pass in.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from leco_jax.models.config import ModelConfig
from leco_jax.models.rope import rope_table, rotate
from leco_jax.models.sharding import RULES, Rules, constrain, gather

# (q_BTNH, k_BTKH, v_BTKH, one layer's state) -> (out_BTNH, that layer's new state). The attention
# scales its scores by 1 / sqrt(H) itself; rotary embedding is already applied.
Attend = Callable[[jax.Array, jax.Array, jax.Array, Any], tuple[jax.Array, Any]]

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


def _attention(hidden_BTD, layer, table, state, *, config, attend, rules):
    dtype = config.dtype
    x_BTD = rms_norm(hidden_BTD, layer["attn_norm"], config=config)
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
    if config.qk_norm != "none":
        q_BTNH = rms_norm(q_BTNH, layer["q_norm"], config=config)
        k_BTKH = rms_norm(k_BTKH, layer["k_norm"], config=config)
    out_BTNH, state = attend(rotate(q_BTNH, table), rotate(k_BTKH, table), v_BTKH, state)
    out_BTNH = constrain(out_BTNH, "batch", "length", "act_heads", "head_width", rules=rules)
    # I, J for N, H: einsum contracts in alphabetical order, and a CPU transposes a weight that lies
    # in another one at every call.
    out_BTD = linear("BTIJ,IJD->BTD", out_BTNH, layer["o_proj"], dtype)
    if config.o_bias:
        out_BTD += layer["o_bias"].astype(dtype)
    return out_BTD, state


def _mlp(hidden_BTD, layer, *, config, rules):
    dtype = config.dtype
    x_BTD = rms_norm(hidden_BTD, layer["mlp_norm"], config=config)
    # Rows end to end (X = B * T): with three axes a CPU takes half as long again to go backward.
    x_XD = x_BTD.reshape(-1, config.width)
    gate_XF = linear("XD,DF->XF", x_XD, layer["gate_proj"], dtype)
    up_XF = linear("XD,DF->XF", x_XD, layer["up_proj"], dtype)
    gated_XF = _ACTIVATIONS[config.activation](gate_XF) * up_XF
    gated_XF = constrain(gated_XF, "batch", "act_mlp", rules=rules)
    return linear("XF,FD->XD", gated_XF, layer["down_proj"], dtype).reshape(hidden_BTD.shape)


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
      attend: `attend(q_BTNH, k_BTKH, v_BTKH, state) -> (out_BTNH, state)`, called once per layer.
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
        table = rope_table(positions_BT, config.rope, config.head_width)

    def block(hidden_BTD, layer, state):
        with jax.named_scope("attention"):
            out_BTD, state = _attention(
                hidden_BTD, layer, table, state, config=config, attend=attend, rules=rules
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
            hidden_BTD, state = block(hidden_BTD, layer, state)
            new_state.append(state)
        layer_state = None if layer_state is None else new_state
    else:
        hidden_BTD, layer_state = jax.lax.scan(
            lambda hidden, xs: block(hidden, *xs), hidden_BTD, (layers, layer_state)
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
    logits = project(params, hidden)
    if config.logit_soft_cap is not None:
        logits = config.logit_soft_cap * jnp.tanh(logits / config.logit_soft_cap)
    return logits
