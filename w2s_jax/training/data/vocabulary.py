"""A sentencepiece vocabulary of one's own, for small models trained from scratch."""

import io
from collections.abc import Iterable
from pathlib import Path

import sentencepiece

from leco_jax.storage.files import write_bytes, write_json
from leco_jax.storage.paths import as_path

_NAMES = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}


def train_vocabulary(texts: Iterable[str], *, size: int) -> bytes:
    """Trains a BPE vocabulary whose tokenisation keeps every byte of a text.

    Digits are tokens of their own, the first of a number together with the space before it; so is
    the line break, at which chains are cut into steps. Bytes stand in for what the texts lack.

    Args:
      texts: what the vocabulary is for; the same texts give the same vocabulary.
      size: number of tokens, 3 control tokens and 256 bytes among them.

    Returns:
      The content of a `.model` file: <unk> 0, <s> 1, </s> 2, no pad token.

    Raises:
      ValueError: the texts cannot fill, or do not fit into, a vocabulary of this size.
    """
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            # A line break is a symbol below; the trainer itself reads line by line.
            sentence_iterator=(line for text in texts for line in text.split("\n")),
            model_writer=model,
            model_type="bpe",
            vocab_size=size,
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            split_digits=True,
            byte_fallback=True,
            user_defined_symbols=["\n", *(f"▁{digit}" for digit in range(10))],
            character_coverage=1.0,
            unk_id=0,
            bos_id=1,
            eos_id=2,
            pad_id=-1,
            num_threads=1,
            minloglevel=2,
        )
    except (RuntimeError, OSError) as error:
        raise ValueError(f"no vocabulary of size={size} from these texts: {error}") from None
    return model.getvalue()


def write_tokenizer(model: bytes, directory: str | Path) -> None:
    """Writes tokenizer.model and tokenizer_config.json; prompts get BOS in front."""
    directory = as_path(directory)
    write_bytes(directory / "tokenizer.model", model)
    config = {
        "tokenizer_class": "LlamaTokenizer",
        "legacy": False,
        "add_bos_token": True,
        "add_prefix_space": False,
        **_NAMES,
    }
    write_json(directory / "tokenizer_config.json", config)
