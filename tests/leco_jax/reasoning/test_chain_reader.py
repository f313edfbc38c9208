"""Steps that are scored while a chain is written, against the whole chain's."""

import dataclasses
import json

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers, trainers

from leco_jax.decoding.request import Chain, Request
from leco_jax.reasoning.chain_reader import ChainReader, rounded, score_chain
from leco_jax.scoring.presets import PRESETS
from leco_jax.text.huggingface_tokenizer import HuggingFaceTokenizer
from leco_jax.text.tokenizer_config import TokenizerSettings

CORPUS = [
    f"Step {i}: The shop sold {i} pens.\nStep{i}. So {i} ) is\n\nStep back {i} : é\r\n  Step {i} )"
    for i in range(1, 30)
]
T = 24


def train(*, use_regex):
    """A byte-level BPE like SmolLM2's; without the regex its tokens cross labels and lines."""
    core = tokenizers.Tokenizer(models.BPE())
    parts = [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)]
    if use_regex:
        parts.insert(0, pre_tokenizers.Digits(individual_digits=True))
    core.pre_tokenizer = pre_tokenizers.Sequence(parts)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=["<eos>", "<user>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(CORPUS, trainer)
    return HuggingFaceTokenizer(core, TokenizerSettings(eos="<eos>"))


@pytest.fixture(scope="module", params=[True, False], ids=["words", "sprawling"])
def tokenizer(request):
    return train(use_regex=request.param)


FRAGMENTS = st.sampled_from(
    ["Step", " ", "1", " 12", ":", ".", ")", "\n", "\r", " sold pens", "\t", " back", "é"]
    * 2  # more often than the longer ones
    + ["Step 3: The", "\nStep 4.", "  Step 5 )", "<eos>", "<user>"]
)


def draw_row(data, tokenizer):
    """Tokens of a made-up text, or any tokens at all."""
    if data.draw(st.booleans()):
        text = "".join(data.draw(st.lists(FRAGMENTS, max_size=12)))
        return tokenizer.encode(text, allow_special=True)[:T]
    return data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=T))


@settings(max_examples=150)
@given(data=st.data())
@pytest.mark.parametrize("preset", ["paper", "official_code"])
def test_closed_steps_are_those_of_the_whole_chain(tokenizer, preset, data):
    reader = ChainReader(tokenizer, PRESETS[preset])
    row = draw_row(data, tokenizer)
    noise = np.random.default_rng(data.draw(st.integers(0, 99)))
    stats = {name: (-noise.exponential(size=len(row))).tolist() for name in reader.preset.stats}
    whole = score_chain(row, stats, tokenizer, reader.preset)
    breaks = [
        t for t, i in enumerate(row)
        if i not in tokenizer.special_ids and {10, 13} & set(tokenizer.token_bytes(i))
    ]  # fmt: skip
    chain = Chain(Request(prompt=(1,), max_new_tokens=1))
    chunk = data.draw(st.integers(1, 8))
    for end in range(0, len(row) + chunk, chunk):
        chain.tokens = row[:end]
        chain.stats = {name: values[:end] for name, values in stats.items()}
        last = max((t for t in breaks if t < end), default=-1)
        closed = [step for step in whole if step.tokens[1] <= last + 1]
        got = reader.closed_steps(chain)
        assert [dataclasses.replace(s, **_near(s)) for s in got] == [
            dataclasses.replace(s, **_near(s)) for s in closed
        ]
        fresh = max(end - chunk, 0)
        assert reader.closed_steps(chain, fresh) == (got if last >= fresh else [])


def _near(step):
    names = ("average", "divergence", "transition", "score")
    return {name: pytest.approx(getattr(step, name), abs=1e-6) for name in names}


def test_every_float_of_a_row_is_rounded_and_nothing_else():
    row = {"a": [1.23456789, {"b": (0.1 + 0.2, -1e-9)}], "n": 3, "s": "1.23456789", "t": None}
    result = rounded(row)
    assert result == {"a": [1.23457, {"b": [0.3, 0.0]}], "n": 3, "s": "1.23456789", "t": None}
    assert "-0" not in json.dumps(result)
    assert rounded(True) is True
    assert rounded(float("inf")) == float("inf")
