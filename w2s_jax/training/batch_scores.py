"""From weights and a batch to per-token statistics, on any mesh."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import Mesh

from leco_jax import scoring
from leco_jax.models.attention import attention_mask, dot_product_attention
from leco_jax.models.config import ModelConfig
from leco_jax.models.transformer import Attend, forward, unembedding

BATCH_AXES = ("data", "fsdp")
_WORTH_CHOOSING = 0.8  # of a row's positions; above it copying hidden states costs what it saves


def compute_copy(params: dict, config: ModelConfig) -> dict:
    """Casts weights to the dtype of the matrix products, once instead of at every use.

    Norms stay as they are, because they multiply in float32. The forward pass gives the same bits
    with this copy, and a sharded weight travels between devices in the smaller dtype.
    """
    dtype = jnp.dtype(config.dtype)

    def cast(path, x):
        kept = "norm" in jax.tree_util.keystr(path) or not jnp.issubdtype(x.dtype, jnp.floating)
        return x if kept else x.astype(dtype)

    return jax.tree_util.tree_map_with_path(cast, params)


def batch_stats(
    params: dict,
    batch: dict[str, Array],
    *,
    config: ModelConfig,
    mesh: Mesh | None = None,
    remat: str = "full",
    stats: tuple[str, ...] = ("logprob",),
    most_scored: int | None = None,
) -> scoring.TokenStats:
    """Computes the statistics of a batch's targets; logits are never stored.

    Args:
      params: the weights.
      batch: "tokens", "targets", "positions", "segment_ids" (0 is padding), int32 [..., T]; leading
        axes are rows (chosen and rejected may be an axis of their own).
      config: the model.
      mesh: where rows are sharded over ("data", "fsdp") and the vocabulary over "tensor"; None: one
        device.
      remat: what the backward pass recomputes, a key of `leco_jax.models.transformer.REMAT`.
      stats: as in `leco_jax.scoring`.
      most_scored: no row has more positions with a "loss_mask"; only those are scored, and the
        others get zeros, for half of the arithmetic over the vocabulary where prompts are half of
        the rows. None: every position is scored.

    Returns:
      TokenStats, each asked-for field float32 [..., T].
    """
    shape = batch["tokens"].shape
    rows = {
        name: batch[name].reshape(-1, shape[-1])
        for name in ("tokens", "targets", "positions", "segment_ids")
    }
    attend = row_attend(rows["positions"], rows["segment_ids"], config)
    hidden_BTD, _ = forward(
        params, rows["tokens"], rows["positions"], config=config, attend=attend, remat=remat
    )
    with jax.named_scope("score"):
        if most_scored is None or most_scored > _WORTH_CHOOSING * shape[-1]:
            found = _score(params, hidden_BTD, rows["targets"], config, mesh, stats)
        else:
            mask_BT = batch["loss_mask"].reshape(-1, shape[-1]) > 0
            # The masked positions of each row in order, then as many others as there is room for.
            place_BC = jnp.argsort(~mask_BT, axis=1, stable=True)[:, :most_scored]
            chosen_BCD = jnp.take_along_axis(hidden_BTD, place_BC[..., None], axis=1)
            targets_BC = jnp.take_along_axis(rows["targets"], place_BC, axis=1)
            found = _score(params, chosen_BCD, targets_BC, config, mesh, stats)
            found = jax.tree.map(lambda x: _put_back(x, mask_BT), found)
    return jax.tree.map(lambda x: x.reshape(shape), found)


def _put_back(scored_BC: Array, mask_BT: Array) -> Array:
    """Scored positions to where they came from; zeros elsewhere."""
    rank_BT = jnp.cumsum(mask_BT, axis=1) - 1
    at_BT = jnp.clip(rank_BT, 0, scored_BC.shape[1] - 1)
    return jnp.where(mask_BT, jnp.take_along_axis(scored_BC, at_BT, axis=1), 0.0)


def row_attend(
    positions_BT: Array, segment_ids_BT: Array, config: ModelConfig, *, block: int = 256
) -> Attend:
    """Makes the attention of whole rows, a block of queries at a time.

    A block sees only the keys up to its own end, which halves the arithmetic, and its scores are
    recomputed in the backward pass: [T, T] scores of a layer never exist. Short rows are one block.

    Args:
      positions_BT: int32 positions within each token's document, rising along a row.
      segment_ids_BT: int32 document of each token; 0 is padding.
      config: gives the sliding window.
      block: queries of a block.
    """
    length = positions_BT.shape[1]

    @jax.checkpoint
    def one(q_BtNH, k_BSKH, v_BSKH, q_positions_Bt, q_segments_Bt):
        seen = k_BSKH.shape[1]
        mask_BtS = attention_mask(
            q_positions_Bt,
            positions_BT[:, :seen],
            q_segments_BT=q_segments_Bt,
            k_segments_BS=segment_ids_BT[:, :seen],
            sliding_window=config.sliding_window,
        )
        return dot_product_attention(q_BtNH, k_BSKH, v_BSKH, mask_BtS)

    def attend(q_BTNH, k_BTKH, v_BTKH, state):
        outs = []
        for start in range(0, length, block):
            own, seen = slice(start, start + block), slice(0, start + block)
            outs.append(
                one(
                    q_BTNH[:, own],
                    k_BTKH[:, seen],
                    v_BTKH[:, seen],
                    positions_BT[:, own],
                    segment_ids_BT[:, own],
                )
            )
        return (outs[0] if len(outs) == 1 else jnp.concatenate(outs, axis=1)), state

    return attend


def _score(params, hidden_BTD, targets_BT, config, mesh, stats):
    unembed_VD = unembedding(params).astype(hidden_BTD.dtype)
    options = {
        "stats": stats,
        "soft_cap": config.logit_soft_cap,
        "valid_vocab": config.valid_vocab,
    }
    if mesh is None or mesh.size == 1:
        return scoring.token_stats_from_hidden(hidden_BTD, unembed_VD, targets_BT, **options)

    # By hand, not left to the compiler: each device goes through its own tokens chunk by chunk.
    tensor = mesh.shape["tensor"]
    axis_name = "tensor" if tensor > 1 and config.vocab_size % tensor == 0 else None
    rows = jax.P(BATCH_AXES)

    def local(hidden_BTD, unembed_VD, targets_BT):
        return scoring.token_stats_from_hidden(
            hidden_BTD, unembed_VD, targets_BT, axis_name=axis_name, **options
        )

    return jax.shard_map(
        local,
        mesh=mesh,
        in_specs=(rows, jax.P(axis_name), rows),
        out_specs=rows,
    )(hidden_BTD, unembed_VD, targets_BT)
