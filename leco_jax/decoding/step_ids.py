"""Finds the steps of token rows on the device, as `leco_jax.text.steps` does on the host."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from leco_jax.text.step_tables import (
    GAP,
    MARK,
    NUM_STATES,
    NUMBER,
    PAST_MARK,
    PAST_NUMBER,
    START,
    StepTables,
)
from leco_jax.text.steps import LabelRule


class StepParts(NamedTuple):
    """Where steps and their labels lie.

    Attributes:
      step_ids: int32 [B, T], the step in which a token is scored, -1 where it is not.
      in_label: bool [B, T], tokens wholly inside their line's label.
    """

    step_ids: jax.Array
    in_label: jax.Array


def step_parts(
    tokens_BT: jax.Array,
    lengths_B: jax.Array,
    tables: StepTables,
    *,
    starts_B: jax.Array | None = None,
    label: LabelRule = "exclude",
    score_eos: bool = False,
) -> StepParts:
    """Splits rows of tokens into steps.

    Args:
      tokens_BT: int32 [B, T]; what lies outside [start, length) is not looked at.
      lengths_B: int32 [B], the end of each row.
      tables: `leco_jax.text.step_tables.step_tables(tokenizer)`.
      starts_B: int32 [B], where each row's response begins; None is 0.
      label: "exclude" leaves the tokens of a line's label unscored, "include" scores them.
      score_eos: score an EOS that follows a scored token in its line.

    Returns:
      The steps, numbered from 0 in each row.
    """
    if label not in ("exclude", "include"):
        raise ValueError(f"label is 'exclude' or 'include', not {label!r}.")
    time_T = jnp.arange(tokens_BT.shape[1])
    valid_BT = time_T < lengths_B[:, None]
    if starts_B is not None:
        valid_BT &= time_T >= starts_B[:, None]
    tokens_BT = jnp.where(valid_BT, tokens_BT, 0)
    break_BT = valid_BT & jnp.asarray(tables.line_break)[tokens_BT]
    special_BT = jnp.asarray(tables.special)[tokens_BT]

    in_label_BT = (
        valid_BT & ~break_BT & ~special_BT & _in_label(tokens_BT, valid_BT, break_BT, tables)
    )
    scored_BT = valid_BT & ~break_BT & ~special_BT
    if label == "exclude":
        scored_BT &= ~in_label_BT
    line_BT = jnp.cumsum(break_BT, axis=1) - break_BT  # a line break belongs to the line it closes
    if score_eos:
        eos_BT = valid_BT & jnp.asarray(tables.eos)[tokens_BT]
        scored_BT |= eos_BT & (_last_scored_line(line_BT, scored_BT) == line_BT)
    first_BT = scored_BT & (_last_scored_line(line_BT, scored_BT) < line_BT)
    step_BT = jnp.cumsum(first_BT, axis=1) - 1
    return StepParts(jnp.where(scored_BT, step_BT, -1).astype(jnp.int32), in_label_BT)


def _in_label(
    tokens_BT: jax.Array, valid_BT: jax.Array, break_BT: jax.Array, tables: StepTables
) -> jax.Array:
    # bool [B, T]: all bytes of the line up to and with this token lie in the line's label.
    identity_Q = jnp.arange(NUM_STATES, dtype=jnp.uint8)
    row_BTQ = jnp.where(valid_BT[..., None], jnp.asarray(tables.after)[tokens_BT], identity_Q)
    # Composing the tokens' rows from the left gives the state after every token at once.
    state_BT = lax.associative_scan(_compose, row_BTQ, axis=1)[..., START]
    at_break_BT = jnp.asarray(tables.line_end)[tokens_BT, _before(state_BT, START)]
    line_end_BT = jnp.where(break_BT, at_break_BT, state_BT)

    # Every token learns how its line ended: at the next line break, or at the end of the row.
    last = tokens_BT.shape[1] - 1
    end_BT = lax.cummin(jnp.where(break_BT, jnp.arange(last + 1), last), axis=1, reverse=True)
    final_BT = jnp.take_along_axis(line_end_BT, end_BT, axis=1)
    has_mark_BT = (final_BT == MARK) | (final_BT == PAST_MARK)
    has_label_BT = has_mark_BT | (final_BT >= NUMBER) & (final_BT <= PAST_NUMBER)
    inside_BT = (state_BT <= MARK) & (state_BT != GAP)
    return has_label_BT & inside_BT | has_mark_BT & (state_BT == GAP)


def _compose(first: jax.Array, then: jax.Array) -> jax.Array:
    return jnp.take_along_axis(then, first.astype(jnp.int32), axis=-1)


def _last_scored_line(line_BT: jax.Array, scored_BT: jax.Array) -> jax.Array:
    # The line of the last scored token before each token, -1 where there is none.
    return _before(lax.cummax(jnp.where(scored_BT, line_BT, -1), axis=1), -1)


def _before(values_BT: jax.Array, fill: int) -> jax.Array:
    return jnp.pad(values_BT[:, :-1], ((0, 0), (1, 0)), constant_values=fill)
