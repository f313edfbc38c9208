"""Loads a tokenizer, of the kind that its file is of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from leco_jax.storage.files import local_copy
from leco_jax.storage.paths import as_path
from leco_jax.text.tokenizer_base import Tokenizer as Tokenizer


def load_tokenizer(path: str | Path) -> Tokenizer:
    """Loads the tokenizer of a model directory, a tokenizer.json, a .model or a .gguf file.

    A directory is read as `tokenizer.json`, else `tokenizer.model`, with their neighbours, else as
    its only .gguf file.
    """
    path = as_path(path).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"no tokenizer at {path}: there is no such file or directory")
    if path.is_dir():
        path = _tokenizer_file(path)
    if path.suffix == ".gguf":
        import gguf

        with local_copy(path) as local:
            return tokenizer_from_gguf(gguf.GGUFReader(local))
    if path.suffix == ".model":
        from leco_jax.text.sentencepiece_tokenizer import SentencePieceTokenizer

        return SentencePieceTokenizer.from_file(path)
    if path.suffix == ".json":
        from leco_jax.text.huggingface_tokenizer import HuggingFaceTokenizer

        return HuggingFaceTokenizer.from_file(path)
    raise ValueError(
        f"{path} is not a tokenizer: give a model directory, a tokenizer.json, a sentencepiece "
        ".model or a .gguf file"
    )


def tokenizer_from_gguf(metadata: Any) -> Tokenizer:
    """Builds the tokenizer of a `gguf.GGUFReader` or of a mapping of its plain values."""
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
        "files; name the tokenizer's file itself"
    )
