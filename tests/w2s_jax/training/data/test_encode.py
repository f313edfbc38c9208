import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leco_jax.text.sentencepiece_tokenizer import (
    CONTROL,
    NORMAL,
    UNKNOWN,
    SentencePieceTokenizer,
    build_model,
)
from w2s_jax.training import data
from w2s_jax.training.data import Example, Pair


def _one(encoded, i=0):
    ids = encoded.sequence(i).tolist()
    return ids[: encoded.prompts[i]], ids[encoded.prompts[i] :]


def test_prompt_and_completion_are_tokenised_apart_with_bos_before_and_eos_after(tokenizer):
    # Tokenised together, "app" and "les" would become one token.
    encoded = data.encode_examples([Example("", "12 app", "les")], tokenizer, length=50)
    prompt, completion = _one(encoded)
    assert prompt == [tokenizer.bos_id, *tokenizer.encode("12 app")]
    assert completion == [*tokenizer.encode("les"), tokenizer.eos_ids[0]]
    assert prompt + completion != tokenizer.encode("12 apples", add_bos=True)


def test_a_completion_goes_on_without_a_space_of_its_own():
    # Llama's sentencepiece models put a space before a text; a completion begins no text.
    pieces = ["<unk>", "<s>", "</s>", "▁", "a", "b", "▁a", "▁b"]
    model = build_model(
        pieces,
        [-float(i) for i in range(len(pieces))],
        [UNKNOWN, CONTROL, CONTROL, *[NORMAL] * 5],
        token_ids={"unk": 0, "bos": 1, "eos": 2, "pad": None},
    )
    tokenizer = SentencePieceTokenizer(model)
    encoded = data.encode_examples([Example("", "a", "b")], tokenizer, length=50)
    assert _one(encoded) == ([1, 6], [5, 2])


def test_bos_follows_the_tokenizer(tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "wants_bos", False)
    prompt, _ = _one(data.encode_examples([Example("", "ab", "c")], tokenizer, length=50))
    assert prompt == tokenizer.encode("ab")
    with pytest.raises(data.DataError, match="x line 3: the prompt is empty"):
        data.encode_examples([Example("x line 3", "", "c")], tokenizer, length=50)


def test_an_empty_prompt_is_bos_alone(tokenizer):
    prompt, _ = _one(data.encode_examples([Example("", "", "c")], tokenizer, length=50))
    assert prompt == [tokenizer.bos_id]


def test_a_control_token_spelt_in_the_data_is_text(tokenizer):
    encoded = data.encode_examples([Example("", "a</s>b", "<s></s>")], tokenizer, length=50)
    prompt, completion = _one(encoded)
    assert tokenizer.eos_ids[0] not in [*prompt, *completion[:-1]]


def test_a_chat_prompt_is_rendered_by_the_template(tokenizer, monkeypatch):
    monkeypatch.setattr(
        tokenizer,
        "chat_template",
        "<s>{% for m in messages %}{{ m.role }}: {{ m.content }}{% endfor %} bot:",
    )
    encoded = data.encode_examples([Example("", "Hi", " yes")], tokenizer, length=50, chat=True)
    prompt, completion = _one(encoded)
    assert prompt == tokenizer.encode("<s>user: Hi bot:", allow_special=True)
    assert prompt.count(tokenizer.bos_id) == 1
    assert completion == [*tokenizer.encode(" yes"), tokenizer.eos_ids[0]]


def test_a_long_prompt_loses_its_oldest_tokens_but_not_bos(tokenizer):
    text, completion = "1 2 3 4 5 6 7 8 9 10 11 12", "7"
    ids = tokenizer.encode(text)
    encoded = data.encode_examples([Example("", text, completion)], tokenizer, length=9)
    prompt, answer = _one(encoded)
    assert answer == [*tokenizer.encode(completion), tokenizer.eos_ids[0]]
    assert len(prompt) + len(answer) == 10
    assert prompt == [tokenizer.bos_id, *ids[-(len(prompt) - 1) :]]
    assert (encoded.cut_prompts, encoded.cut_completions) == (1, 0)


def test_a_long_completion_loses_its_end_after_the_prompt_is_down_to_a_quarter(tokenizer):
    example = Example("", "1 2 3 4 5 6 7 8 9", "3 + 4 = 7 + 5 = 12 + 6 = 18")
    encoded = data.encode_examples([example], tokenizer, length=12)
    prompt, answer = _one(encoded)
    assert len(prompt) == 3
    assert answer == tokenizer.encode(example.completion)[:10]
    assert (encoded.cut_prompts, encoded.cut_completions) == (1, 1)
    whole = data.encode_examples([example], tokenizer, length=60)
    assert (whole.cut_prompts, whole.cut_completions) == (0, 0)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 60), st.integers(1, 60), st.integers(2, 40))
def test_no_completion_is_ever_wholly_removed(tokenizer, prompt, completion, length):
    example = Example("", "1" * prompt, "2" * completion)
    encoded = data.encode_examples([example], tokenizer, length=length)
    before, after = _one(encoded)
    assert len(before) >= 1
    assert len(after) >= 1
    assert len(before) + len(after) <= length + 1
    # Nothing is lost needlessly.
    whole = prompt + 1 + completion + 1
    assert len(before) + len(after) == min(whole, length + 1)


def test_both_sides_of_a_pair_keep_the_same_prompt(tokenizer):
    pair = Pair("", "1 2 3 4 5 6 7 8 9", "7", "7 8 9 1 2 3 4 5")
    encoded = data.encode_pairs([pair], tokenizer, length=14)
    chosen, rejected = _one(encoded.chosen), _one(encoded.rejected)
    assert chosen[0] == rejected[0]
    assert len(rejected[0]) + len(rejected[1]) == 15
    assert chosen[1] == [*tokenizer.encode("7"), tokenizer.eos_ids[0]]


def test_fingerprints_follow_tokens_and_prompt_lengths(tokenizer, examples):
    def of(rows, length=300):
        return data.encode_examples(rows, tokenizer, length=length).fingerprint()

    assert of(examples) == of(examples)
    assert of(examples) != of(examples[:-1])
    assert of(examples) != of(examples, length=60)
    # The same tokens, another border between prompt and completion.
    assert of([Example("", "1", "23")]) != of([Example("", "12", "3")])


def test_sequences_stand_end_to_end(tokenizer, examples):
    encoded = data.encode_examples(examples, tokenizer, length=300)
    assert len(encoded) == len(examples)
    assert encoded.lengths.sum() == len(encoded.tokens)
    for i in (0, 7, len(examples) - 1):
        text = tokenizer.decode(encoded.sequence(i)[1:-1])
        assert text == examples[i].prompt + examples[i].completion
    assert encoded.tokens.dtype == np.int32


def test_a_tokenizer_without_eos_and_a_hopeless_length_are_refused(tokenizer, monkeypatch):
    with pytest.raises(ValueError, match="length=1"):
        data.encode_examples([Example("", "a", "b")], tokenizer, length=1)
    monkeypatch.setattr(tokenizer, "eos_ids", ())
    with pytest.raises(ValueError, match="no EOS"):
        data.encode_examples([Example("", "a", "b")], tokenizer, length=9)
