import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers, trainers

from leco_jax.decoding.step_ids import step_parts
from leco_jax.text.huggingface_tokenizer import HuggingFaceTokenizer
from leco_jax.text.step_tables import NUM_STATES, step_tables
from leco_jax.text.steps import split_steps
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


@pytest.fixture(scope="module")
def tables(tokenizer):
    return step_tables(tokenizer, size=tokenizer.vocab_size + 5)


parts_on_device = jax.jit(step_parts, static_argnames=("label", "score_eos"))

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
def test_device_agrees_with_host(tokenizer, tables, data):
    rows = [draw_row(data, tokenizer) for _ in range(3)]
    label = data.draw(st.sampled_from(["exclude", "include"]))
    score_eos = data.draw(st.booleans())
    starts = [data.draw(st.integers(0, T - len(row))) for row in rows]
    # Slots outside a row hold anything, ids of the padded vocabulary included.
    noise = np.random.default_rng(data.draw(st.integers(0, 99)))
    tokens = noise.integers(0, tokenizer.vocab_size + 5, (len(rows), T), np.int32)
    for tokens_T, row, start in zip(tokens, rows, starts, strict=True):
        tokens_T[start : start + len(row)] = row
    lengths = np.array([s + len(row) for s, row in zip(starts, rows, strict=True)], np.int32)
    got = parts_on_device(
        tokens, lengths, tables, starts_B=np.array(starts), label=label, score_eos=score_eos
    )
    for b, (row, start) in enumerate(zip(rows, starts, strict=True)):
        want = split_steps(row, tokenizer, label=label, score_eos=score_eos)
        expected = np.full(T, -1)
        expected[start : start + len(row)] = want.step_ids
        np.testing.assert_array_equal(got.step_ids[b], expected)
        expected = np.zeros(T, bool)
        expected[start : start + len(row)] = want.in_label
        np.testing.assert_array_equal(got.in_label[b], expected)


def test_starts_default_to_zero(tokenizer, tables):
    ids = tokenizer.encode("Step 1: sold\nStep back")
    tokens = jnp.array([ids])
    got = step_parts(tokens, jnp.array([len(ids)]), tables).step_ids
    np.testing.assert_array_equal(got[0], split_steps(ids, tokenizer).step_ids)
    assert got.dtype == jnp.int32
    with pytest.raises(ValueError, match="'exclude' or 'include'"):
        step_parts(tokens, jnp.array([len(ids)]), tables, label="no")


def test_tables(tokenizer, tables):
    eos, user = (tokenizer.encode(t, allow_special=True)[0] for t in ("<eos>", "<user>"))
    assert tables.special.sum() == 2
    assert tables.special[[eos, user]].all()
    assert np.flatnonzero(tables.eos).tolist() == [eos]
    assert tables.line_break[tokenizer.encode("\n")].all()
    assert tables.after.shape == (tokenizer.vocab_size + 5, NUM_STATES)
    np.testing.assert_array_equal(tables.after[eos], np.arange(NUM_STATES))  # no text of its own
    assert not tables.line_break[-5:].any()


def test_tables_end_with_the_embedding(tokenizer, tables):
    small = step_tables(tokenizer, size=270)
    jax.tree.map(lambda few, all_: np.testing.assert_array_equal(few, all_[:270]), small, tables)
    assert len(step_tables(tokenizer, size=1).special) == 1  # where not even the EOS has a row
