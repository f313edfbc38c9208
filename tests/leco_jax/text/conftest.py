"""Tiny tokenizers, trained here on sentences of our own."""

import io
import warnings

import pytest
import sentencepiece
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from leco_jax.text.huggingface_tokenizer import HuggingFaceTokenizer
from leco_jax.text.tokenizer_config import TokenizerSettings

CORPUS = [
    f"Step {i}: The shop sold {i} red pens and {2 * i} blue ones, so {3 * i} pens in all.\n"
    f"Step{i + 1}: The answer is \\boxed{{{3 * i}}}.\n\nStep back, please: it's café — “naïve”.\n"
    for i in range(1, 40)
]
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{{- message['content'] | trim }}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def train_byte_level(*, use_regex=True, vocab_size=500):
    core = tokenizers.Tokenizer(models.BPE())
    parts = [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)]
    if use_regex:
        parts.insert(0, pre_tokenizers.Digits(individual_digits=True))
    core.pre_tokenizer = pre_tokenizers.Sequence(parts)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(CORPUS, trainer)
    return core


@pytest.fixture(scope="session")
def byte_level_core():
    return train_byte_level()


@pytest.fixture(scope="session")
def byte_level(byte_level_core):
    """Like SmolLM2's: byte-level BPE, digits apart, three control tokens."""
    settings = TokenizerSettings(
        bos="<|im_start|>",
        eos="<|im_end|>",
        unk="<|endoftext|>",
        add_bos=False,
        chat_template=CHAT_TEMPLATE,
    )
    return HuggingFaceTokenizer(byte_level_core, settings)


@pytest.fixture(scope="session")
def sprawling():
    """Its tokens cross words, labels and line breaks."""
    settings = TokenizerSettings(eos="<|im_end|>")
    return HuggingFaceTokenizer(train_byte_level(use_regex=False), settings)


@pytest.fixture(scope="session")
def sentencepiece_model():
    """A Llama-like sentencepiece model: BPE, byte fallback, a leading space."""
    model = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sentencepiece.SentencePieceTrainer.Train(
            sentence_iterator=iter(CORPUS),
            model_writer=model,
            vocab_size=420,
            model_type="bpe",
            byte_fallback=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            allow_whitespace_only_pieces=True,
            split_digits=True,
            minloglevel=2,
        )
    return model.getvalue()
