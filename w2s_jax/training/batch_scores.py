"""From weights and a batch to per-token statistics, on any mesh."""

import functools

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import Mesh

from leco_jax import scoring
from leco_jax.models import attention_splash_tpu
from leco_jax.models.attention import causal_attend
from leco_jax.models.config import ModelConfig
from leco_jax.models.transformer import forward, unembedding
from w2s_jax.training.losses import sequence_sum

BATCH_AXES = ("data", "fsdp")
_BLOCK = 256  # queries: [T, T] scores of a layer never exist, nor half of their arithmetic
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
    if _platform(mesh) == "tpu" and attention_splash_tpu.fits(shape[-1], config, _tensor(mesh)):
        attend = attention_splash_tpu.splash_attend(config, segment_ids_BT=rows["segment_ids"])
    else:
        attend = causal_attend(
            rows["positions"], config, segment_ids_BT=rows["segment_ids"], block=_BLOCK
        )
    hidden_BTD, _ = forward(
        params, rows["tokens"], rows["positions"], config=config, attend=attend, remat=remat
    )
    with jax.named_scope("score"):
        if most_scored is None or most_scored > _WORTH_CHOOSING * shape[-1]:
            scored = _score(params, hidden_BTD, rows["targets"], config, mesh, stats)
        else:
            mask_BT = batch["loss_mask"].reshape(-1, shape[-1]) > 0
            # The masked positions of each row in order, then as many others as there is room for.
            place_BC = jnp.argsort(~mask_BT, axis=1, stable=True)[:, :most_scored]
            chosen_BCD = jnp.take_along_axis(hidden_BTD, place_BC[..., None], axis=1)
            targets_BC = jnp.take_along_axis(rows["targets"], place_BC, axis=1)
            scored = _score(params, chosen_BCD, targets_BC, config, mesh, stats)
            scored = jax.tree.map(lambda x: _put_back(x, mask_BT), scored)
    return jax.tree.map(lambda x: x.reshape(shape), scored)


def _platform(mesh: Mesh | None) -> str:
    return jax.default_backend() if mesh is None else mesh.devices.flat[0].platform


def _tensor(mesh: Mesh | None) -> int:
    return 1 if mesh is None else mesh.shape["tensor"]


def row_logprobs(
    params: dict,
    batch: dict[str, Array],
    config: ModelConfig,
    mesh: Mesh,
    *,
    most_scored: int | None,
    remat: str = "full",
) -> Array:
    """Sums of each row's log-probabilities over its "loss_mask"; [..., T] to float32 [...]."""
    params = compute_copy(params, config)
    stats = batch_stats(
        params, batch, config=config, mesh=mesh, remat=remat, most_scored=most_scored
    )
    return sequence_sum(stats.logprob, batch["loss_mask"])


def _put_back(scored_BC: Array, mask_BT: Array) -> Array:
    """Scored positions to where they came from; zeros elsewhere."""
    rank_BT = jnp.cumsum(mask_BT, axis=1) - 1
    at_BT = jnp.clip(rank_BT, 0, scored_BC.shape[1] - 1)
    return jnp.where(mask_BT, jnp.take_along_axis(scored_BC, at_BT, axis=1), 0.0)


def _score(params, hidden_BTD, targets_BT, config, mesh, stats):
    unembed_VD = unembedding(params).astype(hidden_BTD.dtype)
    score = functools.partial(
        scoring.token_stats_from_hidden,
        stats=stats,
        soft_cap=config.logit_soft_cap,
        valid_vocab=config.valid_vocab,
    )
    if mesh is not None and mesh.size > 1:
        # By hand, not left to the compiler: each device goes through its own tokens in chunks.
        tensor, fsdp, rows = mesh.shape["tensor"], mesh.shape["fsdp"], jax.P(BATCH_AXES)
        vocab_axis = "tensor" if tensor > 1 and config.vocab_size % tensor == 0 else None
        width_axis = "fsdp" if fsdp > 1 and config.width % fsdp == 0 else None
        score = jax.shard_map(
            functools.partial(_score_shard, score, vocab_axis, width_axis),
            mesh=mesh,
            in_specs=(rows, jax.P(vocab_axis, width_axis), rows),
            out_specs=rows,
        )
    return score(hidden_BTD, unembed_VD, targets_BT)


def _score_shard(score, vocab_axis, width_axis, hidden_BTD, unembed_VD, targets_BT):
    if width_axis is not None:
        # Gathered here, so that the sum of its gradient over "fsdp" is a reduce-scatter; cast
        # first, so that the sum over "data" is of the part that is left.
        unembed_VD = jax.lax.pcast(unembed_VD, "data", to="varying")
        unembed_VD = jax.lax.all_gather(unembed_VD, width_axis, axis=1, tiled=True)
    return score(hidden_BTD, unembed_VD, targets_BT, axis_name=vocab_axis)
