"""Sizes rounded up, so that few shapes are compiled."""


def power_of_two(count: int, *, least: int = 1) -> int:
    """The smallest power of two that is no less than `count` and `least` (a power of two)."""
    return max(least, 1 << max(count - 1, 0).bit_length())
