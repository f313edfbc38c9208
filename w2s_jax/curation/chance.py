"""Random choices that depend on a seed and one question, not on which others are there."""

import random


def question_random(seed: int, question_id: str) -> random.Random:
    """A stream of random numbers for one question, the same on every machine."""
    return random.Random(f"{seed} {question_id}")
