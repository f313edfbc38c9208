"""Checks: what a chain claims, looked at without gold; each finds the first span that fails.

A check is a function from a chain's text to a `Failure`, or None where it finds nothing wrong. In a
config it is named, or written `module:function` where it is one's own.
"""

from __future__ import annotations

import collections
import importlib
import re
from collections.abc import Callable

from leco_jax.text.answer_regions import answer_sentences, hash_lines, last_boxed
from leco_jax.text.arithmetic_check import Failure, arithmetic

Check = Callable[[str], Failure | None]

_WORD = re.compile(r"(?P<label>\bStep[ ]*[0-9]+[ ]*[:.)]?)|\S+")
_RUN = 8  # words that make a repetition
_TIMES = 3


def repeats(text: str) -> Failure | None:
    """Finds eight words in a row that come for the third time; labels of steps are passed over.

    The span runs from their second occurrence to the end of the third: a model in a loop is to be
    cut where the loop begins.
    """
    words = [match for match in _WORD.finditer(text) if not match["label"]]
    places: dict[tuple[str, ...], list[int]] = collections.defaultdict(list)
    for i in range(len(words) - _RUN + 1):
        same = places[tuple(word[0] for word in words[i : i + _RUN])]
        same.append(words[i].start())
        if len(same) == _TIMES:
            return Failure(same[1], words[i + _RUN - 1].end())
    return None


def unfinished(text: str) -> Failure | None:
    """Finds that no answer is stated: no box, no "####" line, no "the answer is"; its last line."""
    if last_boxed(text) or next(hash_lines(text), None) or answer_sentences(text)[0]:
        return None
    return Failure(text.rstrip().rfind("\n") + 1, len(text))


CHECKS: dict[str, Check] = {
    "arithmetic": arithmetic,
    "repeats": repeats,
    "unfinished": unfinished,
}


def find_check(name: str) -> Check:
    """Returns a check by its name, or one's own by `module:function`.

    Raises:
      ValueError: there is none of that name.
    """
    if name in CHECKS:
        return CHECKS[name]
    module, _, function = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError):
        raise ValueError(
            f"there is no check {name!r}: name one of {', '.join(CHECKS)}, or your own as "
            "module:function"
        ) from None
    return found
