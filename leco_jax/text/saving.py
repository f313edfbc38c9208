"""Writes a tokenizer as the files that `load_tokenizer` and transformers read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from leco_jax.storage.files import write_bytes, write_json, write_text
from leco_jax.text.huggingface_tokenizer import HuggingFaceTokenizer
from leco_jax.text.sentencepiece_tokenizer import SentencePieceTokenizer
from leco_jax.text.tokenizer import Tokenizer


def save_tokenizer(tokenizer: Tokenizer, directory: str | Path) -> None:
    """Writes tokenizer.json or tokenizer.model, and tokenizer_config.json.

    A tokenizer that was read from a GGUF file is written as what was rebuilt from it.

    Args:
      tokenizer: a `HuggingFaceTokenizer` or `SentencePieceTokenizer`.
      directory: exists; files of these names are replaced.

    Raises:
      TypeError: another kind of tokenizer.
    """
    directory = Path(directory)
    config: dict[str, Any] = {"add_bos_token": tokenizer.wants_bos, "add_eos_token": False}
    if isinstance(tokenizer, HuggingFaceTokenizer):
        write_text(directory / "tokenizer.json", tokenizer._core.to_str())
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
    elif isinstance(tokenizer, SentencePieceTokenizer):
        write_bytes(directory / "tokenizer.model", tokenizer._model)
        config |= {
            "tokenizer_class": "LlamaTokenizer",
            "legacy": False,
            # transformers goes by this name, not by what the model file says.
            "add_prefix_space": tokenizer._drops_first_space,
        }
    else:
        raise TypeError(f"a {type(tokenizer).__name__} has no file format")
    for name, token_id in (
        ("bos_token", tokenizer.bos_id),
        ("eos_token", tokenizer.eos_ids[0] if tokenizer.eos_ids else None),
        ("pad_token", tokenizer.pad_id if tokenizer.pad_id in tokenizer.special_ids else None),
        ("unk_token", tokenizer.unk_id),
    ):
        if token_id is not None:
            config[name] = tokenizer.token_bytes(token_id).decode("utf-8")
    if tokenizer.chat_template is not None:
        config["chat_template"] = tokenizer.chat_template
    write_json(directory / "tokenizer_config.json", config)


def generation_config(tokenizer: Tokenizer) -> dict[str, Any]:
    """What generation_config.json says of a tokenizer: where a text begins, ends and is padded."""
    found = {
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": list(tokenizer.eos_ids) or None,
        "pad_token_id": tokenizer.pad_id,
    }
    return {name: value for name, value in found.items() if value is not None}
