import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leco_jax.text.steps import closes_line
from w2s_jax.training.data.vocabulary import train_vocabulary


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁\0"), max_size=30))
def test_every_text_comes_back(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.unk_id not in tokenizer.encode(text)


def test_digits_and_line_breaks_are_tokens_of_their_own(tokenizer):
    pieces = [
        tokenizer.token_bytes(i) for i in tokenizer.encode("Step 1: Ada has 120 + 3.\nStep 2")
    ]
    assert [p for p in pieces if any(c in b"0123456789" for c in p)] == [
        b" 1", b" 1", b"2", b"0", b" 3", b" 2",
    ]  # fmt: skip
    assert b"\n" in pieces
    for i in range(tokenizer.vocab_size):
        piece = tokenizer.token_bytes(i)
        if i not in tokenizer.special_ids:
            assert sum(c in b"0123456789" for c in piece) <= 1
            assert closes_line(i, tokenizer) == (piece in (b"\n", b"\r"))


def test_the_same_texts_give_the_same_vocabulary(texts):
    lines = [x for pair in texts for x in pair]
    assert train_vocabulary(lines, size=350) == train_vocabulary(lines, size=350)


def test_an_impossible_size_is_refused(texts):
    with pytest.raises(ValueError, match="size=5000"):
        train_vocabulary(texts[0], size=5000)
