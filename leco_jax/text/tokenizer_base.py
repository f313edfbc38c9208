"""The interface of every tokenizer, and how vocabularies spell bytes.

Byte-level vocabularies use GPT-2's alphabet; sentencepiece's write ▁ for a space and
<0xNN> for a byte.
"""

from __future__ import annotations

import abc
import functools
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from leco_jax.storage.files import write_json
from leco_jax.storage.paths import as_path

SPACE_MARK = "▁"
_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class Tokenizer(abc.ABC):
    """Text to token ids and back, with the exact bytes of each token.

    Attributes:
      vocab_size: number of ids; a model's embedding may have more rows (padding).
      bos_id: id of the beginning-of-text token, or None.
      eos_ids: ids that end a generation, the tokenizer's own first; may be empty.
      pad_id: id for unused slots: the pad token, else the first EOS, else 0. No mask looks at it.
      unk_id: id of the unknown token, or None.
      special_ids: ids of control tokens (BOS, EOS, chat markers, unknown).
      chat_template: the jinja2 source that came with the tokenizer, or None.
      wants_bos: whether plain prompts of this model start with BOS.
    """

    def __init__(
        self,
        pieces: Sequence[bytes],
        *,
        bos_id: int | None = None,
        eos_ids: Iterable[int] = (),
        pad_id: int | None = None,
        unk_id: int | None = None,
        special_ids: Iterable[int] = (),
        chat_template: str | None = None,
        wants_bos: bool = False,
        drops_first_space: bool = False,
    ):
        self._pieces = list(pieces)
        self.vocab_size = len(self._pieces)
        self.bos_id = bos_id
        self.eos_ids = tuple(dict.fromkeys(int(i) for i in eos_ids))
        self.unk_id = unk_id
        self.chat_template = chat_template
        self.wants_bos = wants_bos and bos_id is not None
        self.pad_id = pad_id if pad_id is not None else (self.eos_ids[0] if self.eos_ids else 0)
        named = [i for i in (bos_id, *self.eos_ids, pad_id, unk_id) if i is not None]
        self.special_ids = frozenset(int(i) for i in (*special_ids, *named))
        self._drops_first_space = drops_first_space
        for token_id in self.special_ids:
            self.token_bytes(token_id)

    @abc.abstractmethod
    def _encode(self, text: str, allow_special: bool, continuation: bool) -> list[int]:
        """Token ids of a text, without BOS."""

    def encode(
        self,
        text: str,
        *,
        add_bos: bool = False,
        allow_special: bool = False,
        continuation: bool = False,
    ) -> list[int]:
        """Returns the token ids of a text, which must have no unpaired surrogates.

        Args:
          text: the text.
          add_bos: put BOS in front; an error when the tokenizer has none.
          allow_special: read the texts of control tokens as these tokens (rendered chat templates);
            otherwise they are plain text, so that a data set cannot forge a chat turn.
          continuation: the text follows other tokens: sentencepiece-style tokenizers add no space.
        """
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError(
                f"the text has an unpaired surrogate at character {error.start}, which has no "
                "UTF-8; clean it with text.encode('utf-8', 'replace').decode()"
            ) from None
        ids = self._encode(text, allow_special, continuation) if text else []
        if add_bos and continuation:
            raise ValueError("a text that follows other tokens gets no BOS")
        if not add_bos:
            return ids
        if self.bos_id is None:
            raise ValueError("add_bos=True, but this tokenizer has no BOS token")
        return [self.bos_id, *ids]

    def decode(
        self, ids: Iterable[int], *, skip_special: bool = False, continuation: bool = False
    ) -> str:
        """Returns the text of token ids; bytes that are not UTF-8 become U+FFFD.

        `continuation`: the ids follow other tokens; else the space that sentencepiece-style
        tokenizers put in front of a text is dropped.
        """
        pieces: list[bytes] = []
        at_start = self._drops_first_space and not continuation
        for token_id in ids:
            piece = self.token_bytes(token_id)
            if int(token_id) in self.special_ids:
                if not skip_special:
                    pieces.append(piece)
                continue
            if at_start:
                piece = piece.removeprefix(b" ")
                at_start = False
            pieces.append(piece)
        return b"".join(pieces).decode("utf-8", errors="replace")

    def token_bytes(self, token_id: int) -> bytes:
        """Returns the exact bytes that a token adds to a text; a control token gives its own name.

        A token may hold part of a UTF-8 character. An id that the vocabulary skips gives b"".
        """
        if not 0 <= token_id < self.vocab_size:
            raise ValueError(
                f"token id {token_id} is outside the vocabulary 0..{self.vocab_size - 1}"
            )
        return self._pieces[token_id]

    def token_text(self, token_id: int | None) -> str:
        """Returns a token's bytes as text, and "" for None."""
        return "" if token_id is None else self.token_bytes(token_id).decode("utf-8", "replace")

    @abc.abstractmethod
    def _write_vocabulary(self, directory: Path) -> dict[str, Any]:
        """Writes the vocabulary's file; returns the class's fields of tokenizer_config.json."""

    def save(self, directory: str | Path) -> None:
        """Writes the files that `load_tokenizer` and transformers read into an existing directory.

        They are tokenizer.json or tokenizer.model, and tokenizer_config.json. A tokenizer from a
        GGUF file is written as rebuilt.
        """
        directory = as_path(directory)
        config: dict[str, Any] = {"add_bos_token": self.wants_bos, "add_eos_token": False}
        config |= self._write_vocabulary(directory)
        for name, token_id in (
            ("bos_token", self.bos_id),
            ("eos_token", self.eos_ids[0] if self.eos_ids else None),
            ("pad_token", self.pad_id if self.pad_id in self.special_ids else None),
            ("unk_token", self.unk_id),
        ):
            if token_id is not None:
                config[name] = self.token_bytes(token_id).decode("utf-8")
        if self.chat_template is not None:
            config["chat_template"] = self.chat_template
        write_json(directory / "tokenizer_config.json", config)

    def generation_config(self) -> dict[str, Any]:
        """What generation_config.json says: ids that begin and end a text, and fill it up."""
        ids = {
            "bos_token_id": self.bos_id,
            "eos_token_id": list(self.eos_ids) or None,
            "pad_token_id": self.pad_id,
        }
        return {name: value for name, value in ids.items() if value is not None}


def split_at_names(text: str, ids_by_name: dict[str, int]) -> list[str | int]:
    """Cuts a text at the names of tokens (longest first) into texts and token ids."""
    if not ids_by_name:
        return [text]
    names = sorted(ids_by_name, key=len, reverse=True)
    parts = re.split("(" + "|".join(map(re.escape, names)) + ")", text)
    return [ids_by_name[part] if i % 2 else part for i, part in enumerate(parts) if part]


@functools.cache
def byte_level_alphabet() -> dict[str, int]:
    """Returns the byte of each character of the byte-level alphabet (Radford et al. 2019)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    alphabet = {chr(byte): byte for byte in printable}
    return alphabet | {chr(0x100 + i): byte for i, byte in enumerate(others)}


def byte_level_bytes(piece: str) -> bytes:
    """Returns the bytes of a byte-level piece; one outside the alphabet is its own UTF-8."""
    alphabet = byte_level_alphabet()
    try:
        return bytes(alphabet[character] for character in piece)
    except KeyError:
        return piece.encode("utf-8")


def sentencepiece_bytes(piece: str, *, byte_pieces: bool = True) -> bytes:
    """Returns the bytes of a sentencepiece-style piece; `byte_pieces` reads <0xNN> as that byte."""
    match = _BYTE_PIECE.fullmatch(piece) if byte_pieces else None
    if match:
        return bytes([int(match[1], 16)])
    return piece.replace(SPACE_MARK, " ").encode("utf-8")
