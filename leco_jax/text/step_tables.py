"""Per-token tables with which steps are found on the device, where there is no text.

The label of a line is recognised by an automaton over bytes. A token's row says into which state it
takes each state, so the states of all tokens follow by composing rows. The states and the rule are
those of `leco_jax.text.steps`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from leco_jax.text.tokenizer import Tokenizer

# States after some bytes of a line. Up to MARK, all of them may lie in the label.
START, S, ST, STE, STEP, NUMBER, GAP, MARK = range(8)  # GAP: spaces after the number
PAST_NUMBER, PAST_MARK, NO_LABEL = range(8, 11)  # the line has a label (which ended so), or none
NUM_STATES = 11


class StepTables(NamedTuple):
    """The tables of a vocabulary of V ids and the label automaton's Q = 11 states.

    Attributes:
      line_break: bool [V], the token's text holds a line break.
      special: bool [V], control tokens.
      eos: bool [V], tokens that end a generation.
      after: uint8 [V, Q], the state after the token, by the state before it.
      line_end: uint8 [V, Q], the state at the token's first line break; as `after` without one.
    """

    line_break: np.ndarray
    special: np.ndarray
    eos: np.ndarray
    after: np.ndarray
    line_end: np.ndarray


def step_tables(tokenizer: Tokenizer, *, size: int | None = None) -> StepTables:
    """Builds the tables of a tokenizer.

    Args:
      tokenizer: gives the bytes of each token.
      size: rows to make, those of the model's embedding; ids beyond the tokenizer's have no text,
        and ids beyond the embedding are never written.
    """
    after, line_end = label_table(tokenizer, size=size)
    return StepTables(
        line_break=line_break_table(tokenizer, size=size),
        special=_marked(tokenizer.special_ids, _rows(tokenizer, size)),
        eos=_marked(tokenizer.eos_ids, _rows(tokenizer, size)),
        after=after,
        line_end=line_end,
    )


def line_break_table(tokenizer: Tokenizer, *, size: int | None = None) -> np.ndarray:
    r"""Returns bool [V]: the token's text has \n or \r and the token is not special."""
    table = np.zeros(_rows(tokenizer, size), bool)
    for i in range(min(tokenizer.vocab_size, len(table))):
        piece = tokenizer.token_bytes(i)
        table[i] = (b"\n" in piece or b"\r" in piece) and i not in tokenizer.special_ids
    return table


def label_table(tokenizer: Tokenizer, *, size: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Returns `after` and `line_end` (uint8 [V, Q] each) of `StepTables`.

    Special tokens and ids without text leave the state as it is.
    """
    rows = _rows(tokenizer, size)
    pieces = [
        b"" if i in tokenizer.special_ids else tokenizer.token_bytes(i)
        for i in range(min(tokenizer.vocab_size, rows))
    ]
    pieces += [b""] * (rows - len(pieces))
    lengths = np.array([len(piece) for piece in pieces])
    offsets = np.cumsum(lengths) - lengths
    flat = np.frombuffer(b"".join(pieces), np.uint8)
    automaton, breaks = _label_automaton()

    state = np.tile(np.arange(NUM_STATES, dtype=np.uint8), (len(pieces), 1))
    line_end = state.copy()
    ended = np.zeros(len(pieces), bool)
    for position in range(lengths.max(initial=0)):
        active = np.flatnonzero(lengths > position)
        byte = flat[offsets[active] + position]
        ended[active] |= breaks[byte]
        state[active] = automaton[state[active], byte[:, None]]
        going = active[~ended[active]]
        line_end[going] = state[going]
    return state, line_end


def _label_automaton() -> tuple[np.ndarray, np.ndarray]:
    # uint8 [Q, 256] transitions, and bool [256] line breaks.
    table = np.full((NUM_STATES, 256), NO_LABEL, np.uint8)
    table[[NUMBER, GAP, PAST_NUMBER]] = PAST_NUMBER
    table[[MARK, PAST_MARK]] = PAST_MARK
    spaces, digits, marks = list(b" \t"), list(b"0123456789"), list(b":.)")
    for state, byte in zip((START, S, ST, STE), b"Step", strict=True):
        table[state, byte] = state + 1
    table[START, spaces] = START
    table[STEP, spaces] = STEP
    for state in (STEP, NUMBER):
        table[state, digits] = NUMBER
    for state in (NUMBER, GAP):
        table[state, spaces] = GAP
        table[state, marks] = MARK
    breaks = np.zeros(256, bool)
    breaks[list(b"\n\r")] = True
    table[:, breaks] = START
    return table, breaks


def _rows(tokenizer: Tokenizer, size: int | None) -> int:
    return tokenizer.vocab_size if size is None else size


def _marked(ids: frozenset[int] | tuple[int, ...], size: int) -> np.ndarray:
    table = np.zeros(size, bool)
    table[[i for i in ids if i < size]] = True
    return table
