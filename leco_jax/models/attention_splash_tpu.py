"""Attention of whole sequences by JAX's splash attention, a Pallas kernel for TPUs.

No scores are stored and blocks that the causal mask or the window leaves empty are skipped, forward
and backward. For training: it has a derivative, and no cache.
"""

import functools

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu import splash_attention as splash

from leco_jax.models.config import ModelConfig
from leco_jax.models.sharding import automatic_axes, resolve

_LANES = 128  # a block's length and a head's width are multiples of it
_BLOCK = 512  # longest block of queries and of keys


def fits(length: int, config: ModelConfig, tensor: int = 1) -> bool:
    """Whether the kernel takes rows of `length` tokens with heads over `tensor` devices.

    It knows neither soft-capped scores nor layers that differ in their window.
    """
    if config.attention_soft_cap is not None or config.global_every is not None:
        return False
    return length % _LANES == 0 and config.num_heads % tensor == config.num_kv_heads % tensor == 0


def splash_attend(
    config: ModelConfig, *, segment_ids_BT: jax.Array | None = None, interpret: bool = False
):
    """The `attend` of `transformer.forward` for rows that attend to themselves.

    The values are those of `attention.causal_attend` where the documents of a row stand in order
    and each one's positions count up by one.

    Args:
      config: the model.
      segment_ids_BT: int32 document of each token; None: each row is one document.
      interpret: computes on any platform, slowly, for tests.
    """

    def attend(q_BTNH, k_BTKH, v_BTKH, state):
        length, width = q_BTNH.shape[1], q_BTNH.shape[3]
        auto = automatic_axes()
        segments_BT = segment_ids_BT
        if segments_BT is None:
            segments_BT = jnp.ones(q_BTNH.shape[:2], jnp.int32)
        # Scaled before the kernel, which does not; narrow heads are filled up with zeros.
        q_BTNH = q_BTNH * jnp.asarray(width**-0.5, q_BTNH.dtype)
        fill = [(0, 0), (0, 0), (0, 0), (0, -width % _LANES)]
        q_BTNH, k_BTKH, v_BTKH = (jnp.pad(x, fill) for x in (q_BTNH, k_BTKH, v_BTKH))
        compute = functools.partial(_attend_rows, length, config.sliding_window, interpret)
        if auto:
            # The compiler cannot split a kernel: each device computes its rows and heads.
            specs = [
                resolve("attention", x.shape, ("batch", "length", axis, "head_width"), auto)[0]
                for x, axis in ((q_BTNH, "act_heads"), (k_BTKH, "act_kv_heads"))
            ]
            q_spec, kv_spec = specs
            compute = jax.shard_map(
                compute,
                in_specs=(q_spec, kv_spec, kv_spec, jax.P(*q_spec[:2])),
                out_specs=q_spec,
                check_vma=False,  # the kernel does not say over which axes its result varies
            )
        return compute(q_BTNH, k_BTKH, v_BTKH, segments_BT)[..., :width], state

    return attend


def _attend_rows(length, window, interpret, q_BTNH, k_BTKH, v_BTKH, segments_BT):
    shape = (length, length)
    mask = (
        splash.CausalMask(shape)
        if window is None
        else splash.LocalMask(shape, window_size=(window - 1, 0), offset=0)
    )
    block = next(size for size in (_BLOCK, 256, _LANES) if length % size == 0)
    kernel = splash.make_splash_mha(
        splash.MultiHeadMask([mask] * q_BTNH.shape[2]),
        block_sizes=splash.BlockSizes(
            block_q=block,
            block_kv=block,
            block_q_dkv=block,
            block_kv_dkv=block,
            block_q_dq=block,
            block_kv_dq=block,
        ),
        head_shards=1,
        q_seq_shards=1,
        interpret=interpret,
    )

    def one_row(q_TNH, k_TKH, v_TKH, segments_T):
        heads_first = (jnp.swapaxes(x, 0, 1) for x in (q_TNH, k_TKH, v_TKH))
        out_NTH = kernel(*heads_first, segment_ids=splash.SegmentIds(segments_T, segments_T))
        return jnp.swapaxes(out_NTH, 0, 1)

    return jax.vmap(one_row)(q_BTNH, k_BTKH, v_BTKH, segments_BT)
