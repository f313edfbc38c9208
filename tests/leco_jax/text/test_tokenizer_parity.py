"""Tokenizers and chat templates against transformers."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leco_jax.text.chat import encode_chat, render_chat
from leco_jax.text.tokenizer import load_tokenizer

pytestmark = pytest.mark.parity

CONVERSATIONS = [
    [{"role": "user", "content": "hi "}],
    [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "3 + 4?\n"},
        {"role": "assistant", "content": "7<|im_end|>"},
        {"role": "user", "content": "café"},
    ],
]


@pytest.fixture(scope="module")
def pair(tmp_path_factory, byte_level_core, byte_level):
    transformers = pytest.importorskip("transformers")
    directory = tmp_path_factory.mktemp("tokenizer")
    byte_level_core.save(str(directory / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "unk_token": "<|endoftext|>",
        "clean_up_tokenization_spaces": False,
        "chat_template": byte_level.chat_template,
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    return load_tokenizer(directory), transformers.AutoTokenizer.from_pretrained(directory)


@given(text=st.one_of(st.text(max_size=40), st.text("Step 12:\n pens<|im_end|>", max_size=60)))
def test_ids_and_text(pair, text):
    ours, theirs = pair
    ids = ours.encode(text, allow_special=True)
    assert ids == theirs(text, add_special_tokens=False)["input_ids"]
    assert ours.decode(ids) == theirs.decode(ids)
    assert ours.decode(ids, skip_special=True) == theirs.decode(ids, skip_special_tokens=True)


@pytest.mark.parametrize("messages", CONVERSATIONS)
@pytest.mark.parametrize("add_generation_prompt", [True, False])
def test_chat(pair, messages, add_generation_prompt):
    ours, theirs = pair
    options = {"add_generation_prompt": add_generation_prompt}
    text = theirs.apply_chat_template(messages, tokenize=False, **options)
    assert render_chat(ours, messages, **options) == text
    ids = theirs.apply_chat_template(messages, return_dict=False, **options)
    assert encode_chat(ours, messages, **options) == ids
