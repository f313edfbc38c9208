"""Answers from a few words."""

import string

from w2s_jax.curation import Answer, answer_from_row


def answer(id_: str, value, *, model: str = "weak", words: str = "", **fields) -> Answer:
    """An answer that says `value`, or with None nothing that can be read."""
    ending = "I give up." if value is None else f"#### {value}"
    row = {"id": id_, "question": f"What is {id_}?", "model": model, "response": words + ending}
    return answer_from_row(row | fields)


def draws(id_: str, *values, model: str = "strong", **fields) -> list[Answer]:
    """Samples of one question with different texts: their values in order."""
    return [
        answer(
            id_, value, model=model, sample=i, words=f"Try {string.ascii_lowercase[i]}: ", **fields
        )
        for i, value in enumerate(values)
    ]
