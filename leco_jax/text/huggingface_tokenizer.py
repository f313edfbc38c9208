"""Tokenizers in the tokenizer.json format, run by the `tokenizers` package."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import tokenizers

from leco_jax.storage.files import write_text
from leco_jax.storage.paths import as_path
from leco_jax.text.tokenizer_base import (
    SPACE_MARK,
    Tokenizer,
    byte_level_bytes,
    sentencepiece_bytes,
)
from leco_jax.text.tokenizer_config import TokenizerSettings, read_settings


class HuggingFaceTokenizer(Tokenizer):
    """A byte-level or sentencepiece-style tokenizer of the `tokenizers` package.

    Where it normalises (Qwen2: NFC), a text's tokens have the bytes of the normalised text.
    """

    def __init__(
        self, core: tokenizers.Tokenizer, settings: TokenizerSettings | None = None, **options: Any
    ):
        """Wraps a `tokenizers.Tokenizer`; `options` go before the settings' names and ids."""
        settings = settings or TokenizerSettings()
        core.no_truncation()
        core.no_padding()
        if getattr(core.model, "dropout", None):
            core.model.dropout = None  # training noise has no place here
        self._core = core
        self._continuing: tokenizers.Tokenizer | None = None
        self._lock = threading.Lock()
        style = _Style(_parts(core.pre_tokenizer), _parts(core.decoder))
        added = core.get_added_tokens_decoder()
        special_ids = [i for i, token in added.items() if token.special]
        bos_id = _find(core, settings.bos, "bos_token")
        eos_id = _find(core, settings.eos, "eos_token")
        from_settings: dict[str, Any] = {
            "bos_id": bos_id,
            "eos_ids": [i for i in (eos_id, *settings.eos_ids) if i is not None],
            "pad_id": _find(core, settings.pad, "pad_token"),
            "unk_id": _find(core, settings.unk, "unk_token"),
            "special_ids": special_ids,
            "chat_template": settings.chat_template,
            "wants_bos": _wants_bos(core, bos_id, settings.add_bos),
        }
        super().__init__(
            _pieces(core, style, added),
            drops_first_space=style.drops_first_space,
            **(from_settings | options),
        )

    @classmethod
    def from_file(cls, path: str | Path) -> HuggingFaceTokenizer:
        """Reads a tokenizer.json (or the directory that holds it) with its neighbours."""
        path = as_path(path)
        if path.is_dir():
            path = path / "tokenizer.json"
        try:
            core = tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise
        except Exception as error:  # the package raises bare Exception
            raise ValueError(f"{path} is not a valid tokenizer.json: {error}") from None
        return cls(core, read_settings(path.parent))

    def _encode(self, text: str, allow_special: bool, continuation: bool) -> list[int]:
        with self._lock:  # the switch belongs to the shared object
            core = self._core
            if continuation and self._drops_first_space:
                self._continuing = self._continuing or _without_first_space(core)
                core = self._continuing
            if core.encode_special_tokens is allow_special:
                core.encode_special_tokens = not allow_special
            return core.encode(text, add_special_tokens=False).ids

    def _write_vocabulary(self, directory: Path) -> dict[str, Any]:
        write_text(directory / "tokenizer.json", self._core.to_str())
        return {"tokenizer_class": "PreTrainedTokenizerFast"}


class _Style:
    """What the parts of a tokenizer.json say about the spelling of its pieces."""

    def __init__(self, pre_tokenizer: list[dict[str, Any]], decoder: list[dict[str, Any]]):
        kinds = {part["type"] for part in (*pre_tokenizer, *decoder)}
        marks = [p for p in decoder if p["type"] == "Metaspace"]
        replaces = [
            p
            for p in decoder
            if p["type"] == "Replace" and p.get("pattern", {}).get("String") == SPACE_MARK
        ]
        self.byte_level = "ByteLevel" in kinds
        self.byte_pieces = any(p["type"] == "ByteFallback" for p in decoder)
        if not (self.byte_level or marks or replaces):
            raise ValueError(
                "this tokenizer.json is neither byte-level nor sentencepiece-style (its parts are "
                f"{sorted(kinds)}), so the bytes of its tokens are not known"
            )
        strips = any(p["type"] == "Strip" and p.get("start", 0) > 0 for p in decoder)
        prepends = any(p.get("prepend_scheme", "always") != "never" for p in marks)
        self.drops_first_space = not self.byte_level and (strips or prepends)


def _parts(component: Any) -> list[dict[str, Any]]:
    # The specification of each part of a pre-tokenizer or decoder, as in tokenizer.json.
    return [] if component is None else _flat(json.loads(component.__getstate__()))


def _flat(spec: dict[str, Any]) -> list[dict[str, Any]]:
    nested = spec.get("pretokenizers") or spec.get("decoders")
    return [p for part in nested for p in _flat(part)] if nested else [spec]


def _pieces(core: tokenizers.Tokenizer, style: _Style, added: dict[int, Any]) -> list[bytes]:
    vocab = core.get_vocab(with_added_tokens=True)
    pieces = [b""] * (1 + max(vocab.values(), default=-1))
    for piece, i in vocab.items():
        if i in added:  # added tokens are matched in the raw text
            pieces[i] = added[i].content.encode("utf-8")
        elif style.byte_level:
            pieces[i] = byte_level_bytes(piece)
        else:
            pieces[i] = sentencepiece_bytes(piece, byte_pieces=style.byte_pieces)
    return pieces


def _without_first_space(core: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    spec = json.loads(core.to_str())
    for name, key in (("normalizer", "normalizers"), ("pre_tokenizer", "pretokenizers")):
        part = spec.get(name)
        for piece in (part or {}).get(key, [part] if part else []):
            if piece["type"] == "Metaspace":
                piece["prepend_scheme"] = "never"
            if piece["type"] == "Prepend":  # a normalizer that changes nothing
                piece.clear()
                piece |= {"type": "Replace", "pattern": {"String": " "}, "content": " "}
    return tokenizers.Tokenizer.from_str(json.dumps(spec))


def _find(core: tokenizers.Tokenizer, name: str | None, what: str) -> int | None:
    if name is None:
        return None
    token_id = core.token_to_id(name)
    if token_id is None:
        raise ValueError(
            f"the {what} {name!r} of the tokenizer's settings is not in its vocabulary"
        )
    return token_id


def _wants_bos(core: tokenizers.Tokenizer, bos_id: int | None, setting: bool | None) -> bool:
    if setting is not None or bos_id is None:
        return bool(setting)
    return core.encode("a", add_special_tokens=True).ids[:1] == [bos_id]
