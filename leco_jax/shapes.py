"""Sizes rounded up, so that few shapes are compiled."""


def power_of_two(count: int, *, least: int = 1) -> int:
    """The smallest power of two of at least `count` and `least` (a power of two)."""
    return max(least, 1 << max(count - 1, 0).bit_length())


def bucket(count: int, *, least: int) -> int:
    """The smallest power of two, or three quarters of one, no less than `count` and `least`."""
    size = power_of_two(count, least=least)
    return size * 3 // 4 if max(count, least) <= size * 3 // 4 else size
