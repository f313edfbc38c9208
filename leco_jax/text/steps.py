r"""Cuts a response into steps.

A step is a line with a scored token: blank lines make none (a line of spaces does). The token whose
text holds a line break (\n or \r) closes the step and is not scored, nor are special tokens. The
label is, by bytes, `^[ \t]*Step[ \t]*[0-9]+([ \t]*[:.)])?`: so
"Step10:", "Step 1", "  Step 2 )" are labels, and "Step back", "step 1", "**Step 1:**" are not. A
token that reaches past the label's end is scored.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Literal

import numpy as np

from leco_jax.text.tokenizer import Tokenizer

LabelRule = Literal["exclude", "include"]
LABEL = re.compile(rb"[ \t]*Step[ \t]*[0-9]+(?:[ \t]*[:.)])?")
LINE_BREAK = re.compile(rb"[\n\r]")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Steps:
    """The steps of one response of T tokens."""

    step_ids: np.ndarray  # int32 [T], the step in which a token is scored, -1 where it is not
    in_label: np.ndarray  # bool [T], tokens wholly inside the label of their line
    # each step's tokens [start, end): its line with label, special tokens and closing token
    spans: tuple[tuple[int, int], ...]
    texts: tuple[str, ...]  # each step's line of text, without the line break
    label_ends: tuple[int, ...]  # for each step the first token that is not wholly in its label

    def __len__(self) -> int:
        return len(self.spans)


def split_steps(
    ids: Sequence[int],
    tokenizer: Tokenizer,
    *,
    label: LabelRule = "exclude",
    score_eos: bool = False,
) -> Steps:
    """Splits a response's token ids, without prompt and padding, into steps.

    `label="exclude"` leaves the label's tokens unscored. `score_eos` scores an EOS that follows a
    scored token in its line, as the published program does.
    """
    if label not in ("exclude", "include"):
        raise ValueError(f"label is 'exclude' or 'include', not {label!r}")
    step_ids = np.full(len(ids), -1, np.int32)
    in_label = np.zeros(len(ids), bool)
    spans: list[tuple[int, int]] = []
    texts: list[str] = []
    label_ends: list[int] = []
    for line in _lines(ids, tokenizer):
        match = LABEL.match(line.text)
        label_bytes = match.end() if match else -1
        label_end = line.start
        for t, end in line.token_ends:
            in_label[t] = end <= label_bytes
            if in_label[t]:
                label_end = t + 1
            if not (in_label[t] and label == "exclude"):
                step_ids[t] = len(spans)
        if (step_ids[line.start : line.end] < 0).all():
            continue
        if score_eos:
            first = line.start + int(np.argmax(step_ids[line.start : line.end] >= 0))
            for t in range(first, line.end):
                if ids[t] in tokenizer.eos_ids:
                    step_ids[t] = len(spans)
        spans.append((line.start, line.end))
        texts.append(line.text.decode("utf-8", errors="replace"))
        label_ends.append(label_end)
    return Steps(
        step_ids=step_ids,
        in_label=in_label,
        spans=tuple(spans),
        texts=tuple(texts),
        label_ends=tuple(label_ends),
    )


def closes_line(token_id: int, tokenizer: Tokenizer) -> bool:
    """Whether a token's text holds a line break; a special token's never does."""
    special = token_id in tokenizer.special_ids
    return not special and LINE_BREAK.search(tokenizer.token_bytes(token_id)) is not None


@dataclasses.dataclass
class _Line:
    start: int  # tokens [start, end), the closing one included
    end: int
    text: bytes
    token_ends: list[tuple[int, int]]  # (t, where the token ends in `text`), scorable tokens only


def _lines(ids: Sequence[int], tokenizer: Tokenizer) -> list[_Line]:
    lines: list[_Line] = []
    line = _Line(0, 0, b"", [])
    for t, token_id in enumerate(ids):
        line.end = t + 1
        if token_id in tokenizer.special_ids:
            continue
        piece = tokenizer.token_bytes(token_id)
        parts = LINE_BREAK.split(piece)
        line.text += parts[0]
        if len(parts) == 1:
            line.token_ends.append((t, len(line.text)))
        else:
            lines.append(line)
            line = _Line(t + 1, t + 1, parts[-1], [])
    return [*lines, line]
