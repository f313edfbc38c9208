import json

import gguf
import numpy as np
import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from leco_jax.text.sentencepiece_tokenizer import SentencePieceTokenizer
from leco_jax.text.tokenizer import load_tokenizer, tokenizer_from_gguf

TEXTS = st.one_of(st.text(max_size=40), st.text("Step 12:\n 3pens'll  é<|im_end|>", max_size=60))


def byte_level_fields(core, **more):
    """The metadata that llama.cpp's converter would write for this tokenizer."""
    spec = json.loads(core.to_str())
    vocab = core.get_vocab()
    tokens = sorted(vocab, key=vocab.__getitem__)
    special = {token["content"] for token in spec["added_tokens"]}
    fields = {
        "model": "gpt2",
        "pre": "smollm",
        "tokens": tokens,
        "token_type": [3 if token in special else 1 for token in tokens],
        "merges": [" ".join(merge) for merge in spec["model"]["merges"]],
        "bos_token_id": 1,
        "eos_token_id": 2,
        "padding_token_id": 2,
        "unknown_token_id": 0,
    }
    fields = {f"tokenizer.ggml.{name}": value for name, value in (fields | more).items()}
    return {k: v for k, v in fields.items() if v is not None}


@pytest.fixture(scope="module")
def rebuilt(byte_level_core):
    return tokenizer_from_gguf(byte_level_fields(byte_level_core))


@given(text=TEXTS, allow_special=st.booleans())
def test_rebuilt_byte_level_equals_the_original(byte_level, rebuilt, text, allow_special):
    ids = rebuilt.encode(text, allow_special=allow_special)
    assert ids == byte_level.encode(text, allow_special=allow_special)
    assert rebuilt.decode(ids) == text


def test_names_and_defaults(byte_level_core, rebuilt):
    assert (rebuilt.bos_id, rebuilt.eos_ids, rebuilt.pad_id, rebuilt.unk_id) == (1, (2,), 2, 0)
    assert rebuilt.special_ids == {0, 1, 2}
    assert not rebuilt.wants_bos
    fields = byte_level_fields(byte_level_core, pre="llama-bpe", eot_token_id=0)
    assert tokenizer_from_gguf(fields).wants_bos
    assert tokenizer_from_gguf(fields).eos_ids == (2, 0)
    fields["tokenizer.ggml.add_bos_token"] = False
    assert not tokenizer_from_gguf(fields).wants_bos


@pytest.mark.parametrize(
    ("pre", "words"),
    [
        ("gpt-2", ["It", "'s", " 1234", " café", "!!", "\n\n", " x", "  ", " y"]),
        ("smollm", ["It", "'s", " ", "1", "2", "3", "4", " café", "!!", "\n\n", " x"]),
        ("llama-bpe", ["It", "'s", " ", "123", "4", " café", "!!\n\n", " x", "  ", " y"]),
        ("qwen2", ["It", "'s", " ", "1", "2", "3", "4", " café", "!!\n\n", " x"]),
        ("default", ["It", "'", "s", " ", "123", "4", " café", "!!", "\n\n", " x"]),
    ],
)
def test_words_of_each_pre_tokenizer(byte_level_core, pre, words):
    core = tokenizer_from_gguf(byte_level_fields(byte_level_core, pre=pre))._core
    text = "It's 1234 café!!\n\n x   y"
    spans = [span for _, span in core.pre_tokenizer.pre_tokenize_str(text)]
    got = [text[start:end] for start, end in spans]
    assert "".join(got) == text
    assert got[: len(words)] == words


def test_whole_words_come_before_merges_in_llama3(byte_level_core):
    # "zzq" is in the vocabulary, but no merge makes it.
    fields = byte_level_fields(byte_level_core)
    fields["tokenizer.ggml.tokens"].append("zzq")
    fields["tokenizer.ggml.token_type"].append(1)
    last = len(fields["tokenizer.ggml.tokens"]) - 1
    assert tokenizer_from_gguf(fields).encode("zzq") != [last]
    fields["tokenizer.ggml.pre"] = "llama-bpe"
    assert tokenizer_from_gguf(fields).encode("zzq") == [last]


def test_user_defined_tokens_are_found_in_plain_text(byte_level_core):
    fields = byte_level_fields(byte_level_core)
    fields["tokenizer.ggml.tokens"].append("<think>")
    fields["tokenizer.ggml.token_type"].append(4)
    tokenizer = tokenizer_from_gguf(fields)
    last = tokenizer.vocab_size - 1
    assert tokenizer.encode("a<think>")[-1] == last
    assert last not in tokenizer.special_ids
    assert tokenizer.token_bytes(last) == b"<think>"


def sentencepiece_fields(model, **more):
    core = sentencepiece.SentencePieceProcessor()
    core.LoadFromSerializedProto(model)
    ids = range(core.GetPieceSize())

    def kind(i):
        tests = [core.IsUnknown, core.IsControl, lambda _: False, core.IsUnused, core.IsByte]
        return next((n for n, test in enumerate(tests, 2) if test(i)), 1)

    fields = {
        "model": "llama",
        "tokens": [core.IdToPiece(i) for i in ids],
        "scores": [core.GetScore(i) for i in ids],
        "token_type": [kind(i) for i in ids],
        "bos_token_id": 1,
        "eos_token_id": 2,
        "unknown_token_id": 0,
    }
    return {f"tokenizer.ggml.{name}": value for name, value in (fields | more).items()}


@given(text=TEXTS, allow_special=st.booleans(), continuation=st.booleans())
def test_rebuilt_sentencepiece_equals_the_original(
    sentencepiece_model, text, allow_special, continuation
):
    original = SentencePieceTokenizer(sentencepiece_model)
    rebuilt = tokenizer_from_gguf(sentencepiece_fields(sentencepiece_model))
    options = {"allow_special": allow_special, "continuation": continuation}
    ids = rebuilt.encode(text, **options)
    assert ids == original.encode(text, **options)
    assert rebuilt.decode(ids) == original.decode(ids)
    assert rebuilt.special_ids == original.special_ids == {0, 1, 2}
    assert rebuilt.wants_bos


def test_sentencepiece_without_a_first_space(sentencepiece_model):
    tokenizer = tokenizer_from_gguf(
        sentencepiece_fields(sentencepiece_model, add_space_prefix=False)
    )
    assert tokenizer.token_bytes(tokenizer.encode("The")[0])[:1] == b"T"
    assert tokenizer.decode(tokenizer.encode(" The")) == " The"


def test_from_a_file(tmp_path, byte_level_core, rebuilt):
    fields = byte_level_fields(byte_level_core)
    path = tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(fields["tokenizer.ggml.tokens"])
    writer.add_token_types(fields["tokenizer.ggml.token_type"])
    writer.add_token_merges(fields["tokenizer.ggml.merges"])
    writer.add_eos_token_id(2)
    writer.add_chat_template("{{ messages[0].content }}")
    writer.add_tensor("one", np.zeros((1,), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    for tokenizer in (load_tokenizer(path), load_tokenizer(tmp_path)):
        assert tokenizer.encode("Step 12: café") == rebuilt.encode("Step 12: café")
        assert tokenizer.eos_ids == (2,)
        assert tokenizer.chat_template == "{{ messages[0].content }}"


def test_refusals(byte_level_core):
    fields = byte_level_fields(byte_level_core)
    with pytest.raises(ValueError, match=r"model is 'bert'; known are 'gpt2'"):
        tokenizer_from_gguf(fields | {"tokenizer.ggml.model": "bert"})
    with pytest.raises(ValueError, match=r"pre is 'tekken'; known are .*'smollm'"):
        tokenizer_from_gguf(fields | {"tokenizer.ggml.pre": "tekken"})
    tokens = fields["tokenizer.ggml.tokens"]
    with pytest.raises(ValueError, match="a token twice"):
        tokenizer_from_gguf(fields | {"tokenizer.ggml.tokens": [*tokens[:-1], tokens[5]]})
    del fields["tokenizer.ggml.merges"]
    with pytest.raises(ValueError, match=r"no tokenizer\.ggml\.merges"):
        tokenizer_from_gguf(fields)
