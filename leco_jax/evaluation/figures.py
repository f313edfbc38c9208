"""Figures of rows that are written: so many digits as do not depend on the rest of the batch.

A chain's tokens depend on its own request alone; the last digits of its statistics do not, as the
cache's size follows the longest chain in it, and with it the order in which attention adds up.
"""

from typing import Any

_DIGITS = 5  # after the point


def rounded(value: Any) -> Any:
    """A tree of dicts, lists and tuples with every float rounded, five digits after the point."""
    if isinstance(value, float):
        return round(value, _DIGITS) + 0.0  # no -0.0
    if isinstance(value, dict):
        return {name: rounded(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(item) for item in value]
    return value
