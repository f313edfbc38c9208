"""What every tokenizer promises, whatever file it comes from."""

import json
import unicodedata

import pytest
import tokenizers
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers

from leco_jax.text.huggingface_tokenizer import HuggingFaceTokenizer
from leco_jax.text.sentencepiece_tokenizer import SentencePieceTokenizer
from leco_jax.text.tokenizer import load_tokenizer

TEXTS = st.one_of(
    st.text(max_size=40),
    st.text("Step 1:\n <|im_end|></s>▁<0x0A>pens", max_size=60),
)


def joined(tokenizer, ids):
    return b"".join(tokenizer.token_bytes(i) for i in ids)


@given(text=TEXTS)
@example(text="<|im_end|> Step 1: café — 日本\r\n\t\x00")
def test_byte_level_bytes_spell_the_text(byte_level, sprawling, text):
    for tokenizer in (byte_level, sprawling):
        ids = tokenizer.encode(text)
        assert joined(tokenizer, ids) == text.encode()
        assert tokenizer.decode(ids) == text
        assert not tokenizer.special_ids & set(ids)  # plain text forges no control token


@given(text=TEXTS)
@example(text=" two spaces  first, <0x0A> and 日本\n")
def test_sentencepiece_bytes_spell_the_text(sentencepiece_model, text):
    text = text.replace("▁", "_").replace("\x00", "")  # the model's own mark; C strings end at NUL
    tokenizer = SentencePieceTokenizer(sentencepiece_model)
    ids = tokenizer.encode(text)
    assert joined(tokenizer, ids) == (" " + text if text else "").encode()
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode(ids, continuation=True) == (" " + text if text else "")
    ids = tokenizer.encode(text, continuation=True)
    assert joined(tokenizer, ids) == text.encode()
    assert tokenizer.decode(ids, continuation=True) == text
    assert not tokenizer.special_ids & set(ids)


@pytest.fixture(scope="module")
def llama_like():
    """A tokenizer.json as Llama 2's: sentencepiece pieces with byte fallback."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "b"]
    pieces += ["ab", "▁ab", "▁▁"]
    merges = [("a", "b"), ("▁", "ab"), ("▁", "▁")]
    core = tokenizers.Tokenizer(
        models.BPE(
            vocab={piece: i for i, piece in enumerate(pieces)},
            merges=merges,
            unk_token="<unk>",
            byte_fallback=True,
            fuse_unk=True,
        )
    )
    core.normalizer = tokenizers.normalizers.Sequence(
        [tokenizers.normalizers.Prepend("▁"), tokenizers.normalizers.Replace(" ", "▁")]
    )
    core.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    core.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    core.add_special_tokens(["<unk>", "<s>", "</s>"])
    return core


def test_sentencepiece_style_json(tmp_path, llama_like):
    llama_like.save(str(tmp_path / "tokenizer.json"))
    names = {"bos_token": {"content": "<s>"}, "eos_token": "</s>", "unk_token": "<unk>"}
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(names))
    tokenizer = load_tokenizer(tmp_path)
    ids = tokenizer.encode("ab\nc é")
    assert joined(tokenizer, ids) == " ab\nc é".encode()
    assert tokenizer.decode(ids) == "ab\nc é"
    follow = tokenizer.encode("ab", continuation=True)
    assert [tokenizer.token_bytes(i) for i in follow] == [b"ab"]
    assert tokenizer.token_bytes(tokenizer.encode("ab")[0]) == b" ab"
    assert (tokenizer.bos_id, tokenizer.eos_ids, tokenizer.unk_id) == (1, (2,), 0)
    assert tokenizer.wants_bos  # its post-processor adds one
    assert tokenizer.encode("ab", add_bos=True)[0] == 1
    assert tokenizer.encode("</s>", allow_special=True) == [2]


def test_names_ids_and_templates_of_a_directory(tmp_path, byte_level_core):
    byte_level_core.save(str(tmp_path / "tokenizer.json"))
    config = {
        "bos_token": "<|im_start|>",
        "eos_token": {"content": "<|im_end|>"},
        "pad_token": "<|im_end|>",
        "add_bos_token": True,
        "chat_template": [
            {"name": "tool_use", "template": "tools"},
            {"name": "default", "template": "plain"},
        ],
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [2, 0]}')
    tokenizer = load_tokenizer(tmp_path)
    assert (tokenizer.bos_id, tokenizer.eos_ids, tokenizer.pad_id) == (1, (2, 0), 2)
    assert tokenizer.special_ids == {0, 1, 2}
    assert tokenizer.vocab_size == byte_level_core.get_vocab_size()
    assert tokenizer.wants_bos
    assert tokenizer.chat_template == "plain"
    (tmp_path / "chat_template.jinja").write_text("file")
    assert load_tokenizer(tmp_path / "tokenizer.json").chat_template == "file"


def test_settings_do_not_leak_into_encoding(byte_level_core):
    core = tokenizers.Tokenizer.from_str(byte_level_core.to_str())
    core.enable_truncation(3)
    core.enable_padding(length=50)
    assert len(HuggingFaceTokenizer(core).encode("The shop sold pens, red and blue.")) > 3


def test_special_tokens_by_permission_only(byte_level):
    text = "<|im_start|>user\nhi<|im_end|>"
    ids = byte_level.encode(text, allow_special=True)
    assert (ids[0], ids[-1]) == (1, 2)
    assert byte_level.decode(ids) == text
    assert byte_level.decode(ids, skip_special=True) == "user\nhi"
    assert byte_level.token_text(2) == "<|im_end|>"
    assert byte_level.token_text(None) == ""


def test_special_tokens_by_permission_only_in_sentencepiece(sentencepiece_model):
    tokenizer = SentencePieceTokenizer(sentencepiece_model)
    assert (tokenizer.bos_id, tokenizer.eos_ids) == (1, (2,))
    ids = tokenizer.encode("<s>red</s>", allow_special=True)
    assert (ids[0], ids[-1]) == (1, 2)
    assert tokenizer.decode(ids, skip_special=True) == "red"
    assert tokenizer.pad_id == 2  # it has no pad token of its own


def test_part_of_a_character_becomes_a_replacement_mark(byte_level):
    ids = byte_level.encode("日")
    assert len(ids) == 3
    assert byte_level.decode(ids[:2]) == "\ufffd"
    assert joined(byte_level, ids[:2]) == "日".encode()[:2]


def test_normalised_text(byte_level_core):
    core = tokenizers.Tokenizer.from_str(byte_level_core.to_str())
    core.normalizer = tokenizers.normalizers.NFC()
    tokenizer = HuggingFaceTokenizer(core)
    text = "cafe\u0301"
    assert tokenizer.decode(tokenizer.encode(text)) == unicodedata.normalize("NFC", text)


def test_refusals(tmp_path, byte_level, sentencepiece_model):
    with pytest.raises(ValueError, match="unpaired surrogate at character 1"):
        byte_level.encode("a\ud800")
    for token_id in (-1, byte_level.vocab_size):
        with pytest.raises(ValueError, match=f"token id {token_id} is outside"):
            byte_level.token_bytes(token_id)
    no_bos = HuggingFaceTokenizer(tokenizers.Tokenizer.from_str(byte_level._core.to_str()))
    with pytest.raises(ValueError, match="no BOS token"):
        no_bos.encode("a", add_bos=True)
    with pytest.raises(ValueError, match="gets no BOS"):
        byte_level.encode("a", add_bos=True, continuation=True)
    with pytest.raises(FileNotFoundError, match="no such file"):
        load_tokenizer(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"neither tokenizer\.json nor"):
        load_tokenizer(tmp_path)
    for name in ("tokenizer.json", "a.model"):
        (tmp_path / name).write_text("{}")
        with pytest.raises(ValueError, match=r"not a valid (tokenizer.json|sentencepiece)"):
            load_tokenizer(tmp_path / name)
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(ValueError, match="is not a tokenizer"):
        load_tokenizer(tmp_path / "a.txt")
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "<nope>"}')
    byte_level._core.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ValueError, match="eos_token '<nope>'"):
        load_tokenizer(tmp_path)
    (tmp_path / "b.model").write_bytes(sentencepiece_model)
    with pytest.raises(ValueError, match="'<nope>'"):
        load_tokenizer(tmp_path / "b.model")


def test_a_word_piece_tokenizer_is_refused():
    core = tokenizers.Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.decoder = decoders.WordPiece()
    with pytest.raises(ValueError, match="neither byte-level nor sentencepiece-style"):
        HuggingFaceTokenizer(core)
