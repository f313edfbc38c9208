"""The tokenizer inside a GGUF file: byte-level BPE ("gpt2") or sentencepiece ("llama")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from leco_jax.text.huggingface_tokenizer import HuggingFaceTokenizer
from leco_jax.text.sentencepiece_tokenizer import (
    CONTROL,
    NORMAL,
    UNKNOWN,
    USER_DEFINED,
    SentencePieceTokenizer,
    build_model,
)
from leco_jax.text.tokenizer_base import Tokenizer
from leco_jax.text.tokenizer_config import TokenizerSettings

_PREFIX = "tokenizer.ggml."
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace("{1,3}", "")

# Regexes that cut a text into words, in turn, by the file's `tokenizer.ggml.pre`. The names are
# llama.cpp's; "default" is what it does with files that name none.
_LLAMA3_NAMES = ("llama-bpe", "llama3", "llama-v3")
_SPLITS: dict[str, tuple[str, ...]] = {
    "default": (r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"),
    **dict.fromkeys(("gpt-2", "mpt", "olmo", "phi-2"), (_GPT2,)),
    **dict.fromkeys(("smollm", "starcoder", "refact", "command-r"), (r"\p{N}", _GPT2)),
    **dict.fromkeys(_LLAMA3_NAMES, (_LLAMA3,)),
    **dict.fromkeys(("qwen2", "stablelm2", "deepseek-r1-qwen"), (_QWEN2,)),
}
_NFC = {"qwen2", "deepseek-r1-qwen"}


def build_tokenizer(metadata: Any) -> Tokenizer:
    """Builds the tokenizer described by a `gguf.GGUFReader` or a mapping of plain values."""
    fields = _plain_fields(metadata)
    kind = fields.get(_PREFIX + "model")
    if kind == "gpt2":
        return _byte_level(fields)
    if kind == "llama":
        return _sentencepiece(fields)
    raise ValueError(
        f"the GGUF's {_PREFIX}model is {kind!r}; known are 'gpt2' (byte-level BPE) and 'llama' "
        "(sentencepiece); load the model's tokenizer.json or tokenizer.model instead"
    )


def _plain_fields(metadata: Any) -> dict[str, Any]:
    fields = metadata if isinstance(metadata, Mapping) else metadata.fields
    return {
        name: value.contents() if hasattr(value, "contents") else value
        for name, value in fields.items()
        if name.startswith("tokenizer.")
    }


def _byte_level(fields: dict[str, Any]) -> HuggingFaceTokenizer:
    pre = fields.get(_PREFIX + "pre", "default")
    if pre not in _SPLITS:
        raise ValueError(
            f"the GGUF's {_PREFIX}pre is {pre!r}; known are {sorted(_SPLITS)}; load the model's "
            "tokenizer.json instead"
        )
    tokens = _required(fields, "tokens")
    types = fields.get(_PREFIX + "token_type") or [NORMAL] * len(tokens)
    merges = [tuple(merge.split(" ")) for merge in _required(fields, "merges")]
    vocab = {token: i for i, token in enumerate(tokens)}
    if len(vocab) != len(tokens):
        raise ValueError("the GGUF's vocabulary has a token twice, so ids are not unique")
    # Llama 3 never merges a word that is in the vocabulary.
    model = models.BPE(vocab=vocab, merges=merges, ignore_merges=pre in _LLAMA3_NAMES)
    core = tokenizers.Tokenizer(model)
    if pre in _NFC:
        core.normalizer = normalizers.NFC()
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(tokenizers.Regex(regex), "isolated") for regex in _SPLITS[pre]]
        + [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    core.decoder = decoders.ByteLevel()
    for kinds, special in (((CONTROL, UNKNOWN), True), ((USER_DEFINED,), False)):
        core.add_tokens(
            [
                tokenizers.AddedToken(token, special=special, normalized=False)
                for token, kind in zip(tokens, types, strict=True)
                if kind in kinds
            ]
        )
    add_bos = fields.get(_PREFIX + "add_bos_token", pre in _LLAMA3_NAMES)
    return HuggingFaceTokenizer(
        core,
        TokenizerSettings(chat_template=fields.get("tokenizer.chat_template")),
        bos_id=_id(fields, "bos"),
        eos_ids=_eos_ids(fields),
        pad_id=_id(fields, "padding"),
        unk_id=_id(fields, "unknown"),
        wants_bos=bool(add_bos),
    )


def _sentencepiece(fields: dict[str, Any]) -> SentencePieceTokenizer:
    tokens = _required(fields, "tokens")
    adds_first_space = bool(fields.get(_PREFIX + "add_space_prefix", True))
    unk_id = _id(fields, "unknown")
    types = list(_required(fields, "token_type"))
    if unk_id is None:
        unk_id = types.index(UNKNOWN) if UNKNOWN in types else None
    model = build_model(
        tokens,
        _required(fields, "scores"),
        types,
        token_ids={
            "bos": _id(fields, "bos"),
            "eos": _id(fields, "eos"),
            "pad": _id(fields, "padding"),
            "unk": unk_id,
        },
        adds_first_space=adds_first_space,
    )
    return SentencePieceTokenizer(
        model,
        TokenizerSettings(chat_template=fields.get("tokenizer.chat_template")),
        eos_ids=_eos_ids(fields),
        wants_bos=bool(fields.get(_PREFIX + "add_bos_token", True)),
        adds_first_space=adds_first_space,
    )


def _required(fields: dict[str, Any], name: str) -> Any:
    value = fields.get(_PREFIX + name)
    if value is None:
        raise ValueError(f"the GGUF has no {_PREFIX}{name}, so its tokenizer cannot be rebuilt")
    return value


def _id(fields: dict[str, Any], name: str) -> int | None:
    value = fields.get(f"{_PREFIX}{name}_token_id")
    return None if value is None else int(value)


def _eos_ids(fields: dict[str, Any]) -> list[int]:
    # "eot" ends a chat turn, where that is another token than the end of the text.
    return [i for i in (_id(fields, "eos"), _id(fields, "eot")) if i is not None]
