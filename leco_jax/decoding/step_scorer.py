"""Scores of the steps that chains have closed so far, all chains in one program."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from leco_jax.decoding.request import Chain
from leco_jax.decoding.step_ids import step_parts
from leco_jax.scoring import TokenStats
from leco_jax.scoring.presets import StepPreset
from leco_jax.text.step_tables import StepTables

_MOST_STEPS = 64  # of one chain; later steps are not looked at


class StepScorer:
    """Finds steps by token tables and scores them, on the device."""

    def __init__(self, tables: StepTables, preset: StepPreset):
        """Takes the tables of a tokenizer and a variant of the scores."""
        self.preset = preset
        self._tables = jax.tree.map(jnp.asarray, tables)

    def __call__(self, chains: Sequence[Chain], *, rows: int, length: int) -> None:
        """Fills `closed_steps` of running chains.

        Args:
            chains: at most `rows`, none longer than `length` tokens.
            rows: batch size of the program.
            length: tokens of the program; with the same two numbers nothing is compiled anew.
        """
        tokens_BT = np.zeros((rows, length), np.int32)
        lengths_B = np.zeros(rows, np.int32)
        stats = {name: np.zeros((rows, length), np.float32) for name in self.preset.stats}
        for b, chain in enumerate(chains):
            lengths_B[b] = size = len(chain.tokens)
            tokens_BT[b, :size] = chain.tokens
            for name, values_BT in stats.items():
                values_BT[b, :size] = chain.stats[name]
        score_BS, closed_B = jax.device_get(
            _closed_steps(self._tables, tokens_BT, lengths_B, stats, preset=self.preset)
        )
        for b, chain in enumerate(chains):
            chain.closed_steps = score_BS[b, : closed_B[b]].tolist()


@functools.partial(jax.jit, static_argnames=("preset",))
def _closed_steps(tables, tokens_BT, lengths_B, stats, *, preset: StepPreset):
    """Scores `[B, S]`, and how many of a row's steps a line break has closed."""
    parts = step_parts(tokens_BT, lengths_B, tables, label=preset.label)
    scores = preset.step_scores(
        preset.logprob(TokenStats(**stats)),
        parts.step_ids,
        parts.in_label,
        num_steps=_MOST_STEPS,
    )
    place_T = jnp.arange(tokens_BT.shape[1])
    is_break_BT = tables.line_break[tokens_BT] & (place_T < lengths_B[:, None])
    last_break_B = jnp.max(jnp.where(is_break_BT, place_T, -1), axis=-1)
    before_BT = place_T < last_break_B[:, None]
    closed_B = 1 + jnp.max(jnp.where(before_BT, parts.step_ids, -1), axis=-1)
    return scores.score, jnp.minimum(closed_B, _MOST_STEPS)
