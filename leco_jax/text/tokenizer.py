"""One interface for every tokenizer; `load_tokenizer` picks the implementation by file."""

from __future__ import annotations

import abc
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any


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
        """Returns the token ids of a text.

        Args:
          text: any text without unpaired surrogates.
          add_bos: put BOS in front; an error when the tokenizer has none.
          allow_special: read the texts of control tokens as these tokens (rendered chat templates);
            otherwise they are plain text, so that a data set cannot forge a chat turn.
          continuation: the text follows other tokens, so sentencepiece-style tokenizers put no
            space in front of it.
        """
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError(
                f"The text has an unpaired surrogate at character {error.start}, which has no "
                "UTF-8; clean it with text.encode('utf-8', 'replace').decode()."
            ) from None
        ids = self._encode(text, allow_special, continuation) if text else []
        if add_bos and continuation:
            raise ValueError("A text that follows other tokens gets no BOS.")
        if not add_bos:
            return ids
        if self.bos_id is None:
            raise ValueError("add_bos=True, but this tokenizer has no BOS token.")
        return [self.bos_id, *ids]

    def decode(
        self, ids: Iterable[int], *, skip_special: bool = False, continuation: bool = False
    ) -> str:
        """Returns the text of token ids; bytes that are no UTF-8 become U+FFFD.

        Args:
          ids: token ids.
          skip_special: leave control tokens out.
          continuation: the ids follow other tokens. Sentencepiece-style tokenizers put a space in
            front of a text; it is dropped again here unless the ids continue a text.
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
                f"Token id {token_id} is outside the vocabulary 0..{self.vocab_size - 1}."
            )
        return self._pieces[token_id]

    def token_text(self, token_id: int | None) -> str:
        """Returns a token's bytes as text, and "" for None."""
        return "" if token_id is None else self.token_bytes(token_id).decode("utf-8", "replace")


def split_at_names(text: str, ids_by_name: dict[str, int]) -> list[str | int]:
    """Cuts a text at the names of tokens (longest first) into texts and token ids."""
    if not ids_by_name:
        return [text]
    names = sorted(ids_by_name, key=len, reverse=True)
    parts = re.split("(" + "|".join(map(re.escape, names)) + ")", text)
    return [ids_by_name[part] if i % 2 else part for i, part in enumerate(parts) if part]


def load_tokenizer(path: str | Path) -> Tokenizer:
    """Loads the tokenizer of a model directory, a tokenizer.json, a .model or a .gguf file.

    A directory is read as `tokenizer.json` with its neighbours, else as `tokenizer.model` (then
    with the chat template and token names of `tokenizer_config.json`), else as its only .gguf file.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"No tokenizer at {path}: there is no such file or directory.")
    if path.is_dir():
        path = _tokenizer_file(path)
    if path.suffix == ".gguf":
        import gguf

        return tokenizer_from_gguf(gguf.GGUFReader(path))
    if path.suffix == ".model":
        from leco_jax.text.sentencepiece_tokenizer import SentencePieceTokenizer

        return SentencePieceTokenizer.from_file(path)
    if path.suffix == ".json":
        from leco_jax.text.huggingface_tokenizer import HuggingFaceTokenizer

        return HuggingFaceTokenizer.from_file(path)
    raise ValueError(
        f"{path} is no tokenizer: give a model directory, a tokenizer.json, a sentencepiece .model "
        "or a .gguf file."
    )


def tokenizer_from_gguf(metadata: Any) -> Tokenizer:
    """Builds the tokenizer whose vocabulary stands in a GGUF file's metadata.

    Args:
      metadata: a `gguf.GGUFReader`, or a mapping of metadata names to plain values.
    """
    from leco_jax.text.gguf_tokenizer import build_tokenizer

    return build_tokenizer(metadata)


def _tokenizer_file(directory: Path) -> Path:
    for name in ("tokenizer.json", "tokenizer.model"):
        if (directory / name).is_file():
            return directory / name
    ggufs = sorted(directory.glob("*.gguf"))
    if len(ggufs) == 1:
        return ggufs[0]
    raise FileNotFoundError(
        f"{directory} has neither tokenizer.json nor tokenizer.model, and {len(ggufs)} .gguf "
        "files; name the tokenizer's file itself."
    )
