"""Attention over a shared prefix and each row's own slots of the cache.

`decode_attend` and `prefill_attend` make the `attend` argument of `transformer.forward`. The XLA
form is here; the TPU kernels are in `attention_decode_tpu` and `attention_prefill_tpu`.
"""

import functools
import logging
from collections.abc import Callable
from typing import Literal, get_args

import jax
import jax.numpy as jnp

from leco_jax.decoding import attention_decode_tpu, attention_prefill_tpu
from leco_jax.decoding.attention_decode_tpu import Softmax
from leco_jax.decoding.cache import AXES, SLOT_AXIS, append
from leco_jax.models.attention import attention_mask, soft_capped
from leco_jax.models.config import ModelConfig
from leco_jax.models.sharding import automatic_axes, resolve
from leco_jax.models.transformer import Attend

Implementation = Literal["auto", "xla", "pallas_tpu"]
IMPLEMENTATIONS = get_args(Implementation)

_MASKED = -1e30  # finite: a row that sees nothing gives numbers, not NaN

_log = logging.getLogger(__name__)


def decode_attend(
    config: ModelConfig,
    *,
    length_B: jax.Array,
    prefix_length: int,
    implementation: Implementation = "auto",
) -> Attend:
    """The `attend` of one new token a row, over the prefix and the row's own slots.

    It stores the new key and value in slot `length` (`[B]` int32) and returns the new cache.
    `prefix_length` shared positions come before every row. The implementation is `"xla"`;
    `"pallas_tpu"`, a kernel that reads no slot beyond a row's length; or `"auto"`, the kernel on a
    TPU where it supports the model.

    Raises:
      ValueError: an unknown implementation, or one that does not support the model.
    """
    _check(implementation)

    def attend(q_B1NH, k_B1KH, v_B1KH, state, window=config.sliding_window):
        reason = "the cache holds its keys transposed" if "kt" in state else _scanned(window)
        reason = reason or attention_decode_tpu.unfit(
            head_width=config.head_width, slots=state["v"].shape[2], dtype=state["v"].dtype
        )
        new = (k_B1KH[:, 0], v_B1KH[:, 0])
        prefix = (state["prefix_k"], state["prefix_v"]) if "prefix_k" in state else ()
        if _use_kernel(implementation, "decode", reason):
            run = functools.partial(
                _decode_kernel, window=window, soft_cap=config.attention_soft_cap
            )
            axes = (_QUERY, _NEW, _NEW, _CACHE, _CACHE, ("batch",), *([_PREFIX] * len(prefix)))
            out, k_BKSH, v_BKSH = _on_shards(
                run, axes, (0, 3, 4), q_B1NH, *new, state["k"], state["v"], length_B, *prefix
            )
            return out, {"k": k_BKSH, "v": v_BKSH}
        own = {
            name: append(state[name], x, length_B, axis=SLOT_AXIS[name])
            for name, x in zip(("kt" if "kt" in state else "k", "v"), new, strict=True)
        }
        return _attend(
            q_B1NH, own, prefix, length_B[:, None], prefix_length, window, config.attention_soft_cap
        ), own

    return attend


def prefill_attend(
    config: ModelConfig, *, prefix_length: int, implementation: Implementation = "auto"
) -> Attend:
    """Attention of new rows over the prefix and themselves; returns their keys and values.

    The arguments are those of `decode_attend`; the kernel is JAX's splash attention.
    """
    _check(implementation)

    def attend(q_BTNH, k_BTKH, v_BTKH, state, window=config.sliding_window):
        reason = _scanned(window) or attention_prefill_tpu.unfit(
            head_width=config.head_width, dtype=q_BTNH.dtype
        )
        k_BKTH, v_BKTH = (x.transpose(0, 2, 1, 3) for x in (k_BTKH, v_BTKH))
        prefix = (state["prefix_k"], state["prefix_v"]) if "prefix_k" in state else ()
        if _use_kernel(implementation, "prefill", reason):
            run = functools.partial(
                _prefill_kernel, window=window, soft_cap=config.attention_soft_cap
            )
            axes = (_QUERY, _CACHE, _CACHE, *([_PREFIX] * len(prefix)))
            (out,) = _on_shards(run, axes, (0,), q_BTNH, k_BKTH, v_BKTH, *prefix)
        else:
            position_BT = jnp.broadcast_to(jnp.arange(q_BTNH.shape[1]), q_BTNH.shape[:2])
            own = {"k": k_BKTH, "v": v_BKTH}
            out = _attend(
                q_BTNH, own, prefix, position_BT, prefix_length, window, config.attention_soft_cap
            )
        return out, {"k": k_BKTH, "v": v_BKTH}

    return attend


# XLA


def _attend(q_BTNH, own, prefix, position_BT, prefix_length: int, window, soft_cap):
    """One softmax over own slots and the shared prefix; each key and value is read once.

    The prefix is multiplied with the queries of all rows at once: one read for the whole batch.
    """
    # Rows and heads are the leading axes: in another order a CPU takes three times as long.
    v_BKSH = own["v"]
    q_BKGTH = _grouped(q_BTNH, v_BKSH.shape[1]).transpose(0, 2, 3, 1, 4)
    before_P = jnp.arange(-prefix_length, 0)  # the rows' own positions begin at 0
    own_S = jnp.arange(v_BKSH.shape[2])
    keys = ("BKGTH,BKHS->BKGTS", own["kt"]) if "kt" in own else ("BKGTH,BKSH->BKGTS", own["k"])
    score = functools.partial(_scores, window=window, soft_cap=soft_cap)
    scores = [score(keys[0], q_BKGTH, keys[1], position_BT, own_S)]
    if prefix:
        scores.append(score("BKGTH,KPH->BKGTP", q_BKGTH, prefix[0], position_BT, before_P))
    top_BKGT = functools.reduce(jnp.maximum, (jnp.max(x, axis=-1) for x in scores))
    weights = [jnp.exp(x - top_BKGT[..., None]) for x in scores]
    total_BKGT = functools.reduce(jnp.add, (jnp.sum(w, axis=-1) for w in weights))
    weights = [w.astype(v_BKSH.dtype) for w in weights]
    out_BKGTH = jnp.einsum("BKGTS,BKSH->BKGTH", weights[0], v_BKSH)
    if prefix:
        out_BKGTH += jnp.einsum("BKGTP,KPH->BKGTH", weights[1], prefix[1])
    out_BKGTH /= total_BKGT[..., None].astype(out_BKGTH.dtype)
    return out_BKGTH.transpose(0, 3, 1, 2, 4).reshape(q_BTNH.shape)


def _grouped(q_BTNH, kv_heads: int):
    """Scaled queries, grouped by the key/value head that they read."""
    batch, tokens, heads, width = q_BTNH.shape
    return q_BTNH.reshape(batch, tokens, kv_heads, heads // kv_heads, width) * width**-0.5


def _scores(einsum, q_BKGTH, key, position_BT, key_position_X, *, window, soft_cap):
    mask_BTX = attention_mask(position_BT, key_position_X[None], sliding_window=window)
    scores = jnp.einsum(einsum, q_BKGTH, key, preferred_element_type=jnp.float32)
    return jnp.where(mask_BTX[:, None, None], soft_capped(scores, soft_cap), _MASKED)


# Kernels


def keys_layout() -> str:
    """How a new cache holds its keys, `"k"` or `"kt"` of `decoding.cache`.

    On a TPU as the kernel reads them; elsewhere transposed, which takes a CPU half the time.
    """
    return "k" if _platform() == "tpu" else "kt"


_QUERY = ("batch", "length", "act_kv_heads", "head_width")  # query heads follow the key heads
_NEW = ("batch", "act_kv_heads", "head_width")
_CACHE = AXES["k"]
_PREFIX = _CACHE[1:]


def _decode_kernel(
    q_B1NH, new_k, new_v, k, v, length_B, prefix_k=None, prefix_v=None, *, window, soft_cap
):
    start, limits = None, {"sliding_window": window, "soft_cap": soft_cap}
    if prefix_k is not None:
        start = prefix_softmax(q_B1NH, prefix_k, prefix_v, length_B, **limits)
    out_BNH, k, v = attention_decode_tpu.decode_attention(
        q_B1NH[:, 0], new_k, new_v, k, v, length_B, start, **limits
    )
    return out_BNH[:, None], k, v


def _prefill_kernel(*arrays, window, soft_cap):
    out_BTNH = attention_prefill_tpu.prefill_attention(
        *arrays, sliding_window=window, soft_cap=soft_cap
    )
    return (out_BTNH,)


def prefix_softmax(
    q_B1NH: jax.Array,
    k_KPH: jax.Array,
    v_KPH: jax.Array,
    length_B: jax.Array,
    *,
    sliding_window: int | None,
    soft_cap: float | None = None,
) -> Softmax:
    """The prefix's part of decode attention: one product, and so one read, for all rows."""
    q_KBGH = _grouped(q_B1NH, k_KPH.shape[0])[:, 0].swapaxes(0, 1)
    before_P = jnp.arange(-k_KPH.shape[1], 0)
    mask_B1P = attention_mask(length_B[:, None], before_P[None], sliding_window=sliding_window)
    scores_KBGP = jnp.einsum("KBGH,KPH->KBGP", q_KBGH, k_KPH, preferred_element_type=jnp.float32)
    scores_KBGP = jnp.where(mask_B1P, soft_capped(scores_KBGP, soft_cap), _MASKED)
    top_KBG = jnp.max(scores_KBGP, axis=-1)
    weights_KBGP = jnp.exp(scores_KBGP - top_KBG[..., None])
    weighted_KBGH = jnp.einsum(
        "KBGP,KPH->KBGH",
        weights_KBGP.astype(v_KPH.dtype),
        v_KPH,
        preferred_element_type=jnp.float32,
    )
    total_KBG = jnp.sum(weights_KBGP, axis=-1)
    return Softmax(*(x.swapaxes(0, 1) for x in (weighted_KBGH, top_KBG, total_KBG)))


def _on_shards(
    run: Callable[..., tuple], axes: tuple[tuple[str, ...], ...], like: tuple[int, ...], *arrays
) -> tuple:
    """Runs a kernel on every device's rows and heads: the compiler cannot partition a kernel.

    `axes` are the logical axes of each array, of which the first is the query and the second has
    the key/value heads on its second axis; `like` says for each result which array has its
    sharding.
    """
    sizes = automatic_axes()
    if not sizes:
        return run(*arrays)
    # Query heads are sharded as the key heads, which are fewer.
    query_shape = (*arrays[0].shape[:2], arrays[1].shape[1], 1)
    specs = tuple(
        resolve("attention", shape, names, sizes)[0]
        for shape, names in zip((query_shape, *(x.shape for x in arrays[1:])), axes, strict=True)
    )
    sharded = jax.shard_map(
        run,
        in_specs=specs,
        out_specs=tuple(specs[i] for i in like),
        axis_names=set(sizes),
        check_vma=False,
    )
    return sharded(*arrays)


def _scanned(window) -> str | None:
    return "each scanned layer has its own window" if isinstance(window, jax.Array) else None


def _check(implementation: str):
    if implementation not in IMPLEMENTATIONS:
        raise ValueError(
            f"implementation={implementation!r} is not one of {', '.join(IMPLEMENTATIONS)}"
        )


def _use_kernel(implementation: str, what: str, reason: str | None) -> bool:
    """Whether the kernel runs; "auto" logs its choice once, an explicit request may raise."""
    if implementation == "pallas_tpu" and reason:
        raise ValueError(
            f'{what} attention cannot run as "pallas_tpu": {reason}; take "xla" or "auto"'
        )
    if implementation == "auto" and _platform() == "tpu":
        _log_once(what, reason)
        return reason is None
    return implementation == "pallas_tpu"


def _platform() -> str:
    """The platform that is compiled for: the mesh's, which may be a topology without devices."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    return jax.default_backend() if device is None else device.platform


@functools.cache
def _log_once(what: str, reason: str | None):
    _log.info("%s attention: %s", what, "pallas_tpu" if reason is None else f"xla, as {reason}")
