"""Sentencepiece models (Llama 1 and 2, Mistral, Gemma): .model files, or rebuilt from a GGUF."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import sentencepiece

from leco_jax.storage.files import write_bytes
from leco_jax.storage.paths import as_path
from leco_jax.text.tokenizer_base import (
    SPACE_MARK,
    Tokenizer,
    sentencepiece_bytes,
    split_at_names,
)
from leco_jax.text.tokenizer_config import TokenizerSettings, read_settings

# Piece types, the same numbers in sentencepiece's and GGUF's files.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6


class SentencePieceTokenizer(Tokenizer):
    """A sentencepiece model; its control pieces are special tokens.

    With `allow_special`, each stretch of text between control tokens is encoded on its own and so
    gets sentencepiece's leading space, as llama.cpp and the original Llama code do.
    """

    def __init__(
        self,
        model: bytes,
        settings: TokenizerSettings | None = None,
        *,
        eos_ids: Iterable[int] = (),
        wants_bos: bool = True,
        adds_first_space: bool | None = None,
    ):
        """Loads the bytes of a .model file.

        `settings` and `eos_ids` replace and add to the model's own tokens; `wants_bos` counts where
        the settings are silent; `adds_first_space=None` looks at what the model does.
        """
        settings = settings or TokenizerSettings()
        core = sentencepiece.SentencePieceProcessor()
        try:
            core.LoadFromSerializedProto(model)
        except RuntimeError as error:
            raise ValueError(f"not a valid sentencepiece model: {error}") from None
        self._core = core
        self._model = model
        self._continuing: Any = None
        size = core.GetPieceSize()
        control = [i for i in range(size) if core.IsControl(i) or core.IsUnknown(i)]
        self._ids_by_name = {core.IdToPiece(i): i for i in control}
        if adds_first_space is None:
            adds_first_space = core.EncodeAsPieces("a")[0].startswith(SPACE_MARK)

        def find(name: str | None, own: int) -> int | None:
            if name is None:
                return own if own >= 0 else None
            token_id = core.PieceToId(name)
            if core.IdToPiece(token_id) != name:
                raise ValueError(f"the token {name!r} of the settings is not in the vocabulary")
            return token_id

        own_eos = find(settings.eos, core.eos_id())
        super().__init__(
            [self._piece(i) for i in range(size)],
            bos_id=find(settings.bos, core.bos_id()),
            eos_ids=[i for i in (own_eos, *settings.eos_ids, *eos_ids) if i is not None],
            pad_id=find(settings.pad, core.pad_id()),
            unk_id=find(settings.unk, core.unk_id()),
            special_ids=control,
            chat_template=settings.chat_template,
            wants_bos=wants_bos if settings.add_bos is None else settings.add_bos,
            drops_first_space=adds_first_space,
        )

    @classmethod
    def from_file(cls, path: str | Path) -> SentencePieceTokenizer:
        """Reads a .model file with the settings that stand beside it."""
        path = as_path(path)
        return cls(path.read_bytes(), read_settings(path.parent))

    def _piece(self, token_id: int) -> bytes:
        piece = self._core.IdToPiece(token_id)
        if self._core.IsControl(token_id) or self._core.IsUnknown(token_id):
            return piece.encode("utf-8")
        return sentencepiece_bytes(piece, byte_pieces=self._core.IsByte(token_id))

    def _encode(self, text: str, allow_special: bool, continuation: bool) -> list[int]:
        core = self._core
        if continuation and self._drops_first_space:
            if self._continuing is None:
                self._continuing = _without_first_space(self._model)
            core = self._continuing
        parts = split_at_names(text, self._ids_by_name) if allow_special else [text]
        ids: list[int] = []
        for part in parts:
            ids += [part] if isinstance(part, int) else core.EncodeAsIds(part)
        return ids

    def _write_vocabulary(self, directory: Path) -> dict[str, Any]:
        write_bytes(directory / "tokenizer.model", self._model)
        return {
            "tokenizer_class": "LlamaTokenizer",
            "legacy": False,
            # transformers goes by this name, not by what the model file says.
            "add_prefix_space": self._drops_first_space,
        }


def _without_first_space(model: bytes) -> sentencepiece.SentencePieceProcessor:
    proto = _model_proto()
    proto.ParseFromString(model)
    proto.normalizer_spec.add_dummy_prefix = False
    core = sentencepiece.SentencePieceProcessor()
    core.LoadFromSerializedProto(proto.SerializeToString())
    return core


def _model_proto() -> Any:
    from sentencepiece import sentencepiece_model_pb2

    model_pb2: Any = sentencepiece_model_pb2  # its names are made at run time
    return model_pb2.ModelProto()


def build_model(
    pieces: Sequence[str],
    scores: Sequence[float],
    types: Sequence[int],
    *,
    token_ids: dict[str, int | None],
    adds_first_space: bool = True,
) -> bytes:
    """Returns a serialised sentencepiece BPE model with the given pieces, by id.

    Scores are merge priorities, the highest first; types are numbered as above; `token_ids` gives
    the ids of "bos", "eos", "pad" and "unk".
    """
    model = _model_proto()
    for text, score, kind in zip(pieces, scores, types, strict=True):
        if kind == USER_DEFINED:  # some GGUF writers undo the space marks of these
            text = text.replace(" ", SPACE_MARK)
        model.pieces.add(piece=text, score=float(score), type=int(kind))
    trainer = model.trainer_spec
    trainer.model_type = trainer.BPE
    trainer.vocab_size = len(pieces)
    trainer.byte_fallback = BYTE in set(types)
    for name, token_id in token_ids.items():
        setattr(trainer, f"{name}_id", -1 if token_id is None else token_id)
        if token_id is not None:
            setattr(trainer, f"{name}_piece", pieces[token_id])
    normalizer = model.normalizer_spec
    normalizer.name = "identity"
    normalizer.add_dummy_prefix = adds_first_space
    normalizer.remove_extra_whitespaces = False
    normalizer.escape_whitespaces = True
    return model.SerializeToString()
