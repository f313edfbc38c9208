import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leco_jax.text.steps import split_steps


def pieces_of(tokenizer, ids, wanted):
    return [tokenizer.token_bytes(i).decode() for i, w in zip(ids, wanted, strict=True) if w]


def split(tokenizer, text, **options):
    ids = tokenizer.encode(text, allow_special=True)
    return ids, split_steps(ids, tokenizer, **options)


def scored(tokenizer, text, **options):
    """The text that is scored in each step."""
    ids, steps = split(tokenizer, text, **options)
    return ["".join(pieces_of(tokenizer, ids, steps.step_ids == s)) for s in range(len(steps))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Step 1: The red pens\nStep 2: The blue pens", [" The red pens", " The blue pens"]),
        ("Step1: The pens", [" The pens"]),
        ("Step10: The pens", [" The pens"]),
        ("Step 12) pens", [" pens"]),
        ("Step 3. pens", [" pens"]),
        ("Step 4 pens", [" pens"]),
        ("Step 1 : pens", [" pens"]),
        ("  Step 1: pens", [" pens"]),
        ("Step back, please", ["Step back, please"]),
        ("Step", ["Step"]),
        ("Step : pens", ["Step : pens"]),
        ("step 1: pens", ["step 1: pens"]),
        ("**Step 1:** pens", ["**Step 1:** pens"]),
        ("The Step 1: pens", ["The Step 1: pens"]),
        ("Step 1:: pens", [": pens"]),
        ("Step 1:\nStep 2: pens", [" pens"]),
        ("Step 1\n", []),
        ("\n\nred\n\n\nblue\n", ["red", "blue"]),
        ("red\r\nblue", ["red", "blue"]),
        ("red<|im_end|>", ["red"]),
        ("red\n<|im_end|>", ["red"]),
        ("<|im_start|>Step 1: red", [" red"]),
        ("", []),
        ("\n", []),
    ],
)
def test_scored_text(byte_level, text, expected):
    assert scored(byte_level, text) == expected


def test_token_that_reaches_past_the_label_is_scored(sprawling):
    ids = sprawling.encode("Step 1: The shop sold")
    pieces = [sprawling.token_bytes(i) for i in ids]
    crossing = [p for p in pieces if (p.startswith(b":") and len(p) > 1) or b": T" in p]
    assert crossing, pieces
    assert scored(sprawling, "Step 1: The shop sold")[0].encode().startswith(crossing[0])


def test_label_included(byte_level):
    text = "Step 1: red pens\nblue"
    assert scored(byte_level, text, label="include") == ["Step 1: red pens", "blue"]
    ids, steps = split(byte_level, text, label="include")
    assert "".join(pieces_of(byte_level, ids, steps.in_label)) == "Step 1:"
    with pytest.raises(ValueError, match="'exclude' or 'include'"):
        split_steps(ids, byte_level, label="drop")


def test_eos_is_scored_only_on_request_and_after_a_scored_token(byte_level):
    assert scored(byte_level, "red<|im_end|>", score_eos=True) == ["red<|im_end|>"]
    assert scored(byte_level, "red\n<|im_end|>", score_eos=True) == ["red"]
    assert scored(byte_level, "<|im_end|>red<|im_start|>", score_eos=True) == ["red"]


def test_spans_texts_and_label_ends(byte_level):
    text = "\nStep 1: red pens.\n\nStep 2: blue"
    ids, steps = split(byte_level, text)
    assert steps.texts == ("Step 1: red pens.", "Step 2: blue")
    kept = byte_level.decode(ids[: steps.spans[1][0]])
    assert kept == "\nStep 1: red pens.\n\n"
    for (start, end), label_end, line in zip(
        steps.spans, steps.label_ends, ["Step 1: red pens.\n", "Step 2: blue"], strict=True
    ):
        assert byte_level.decode(ids[start:end]).startswith(line)
        assert byte_level.decode(ids[start:label_end]) in ("Step 1:", "Step 2:")


def test_text_of_a_line_that_begins_inside_a_token(sprawling):
    breaks = [i for i in range(sprawling.vocab_size) if b"\nStep" in sprawling.token_bytes(i)]
    assert breaks  # the fixture is there for this
    tail = sprawling.token_bytes(breaks[0]).rsplit(b"\n", 1)[1].decode()
    ids = [*sprawling.encode("red"), breaks[0], *sprawling.encode("!")]
    steps = split_steps(ids, sprawling)
    assert steps.texts[-1] == tail + "!"
    assert steps.step_ids[len(ids) - 2] == -1


FRAGMENTS = st.sampled_from(
    ["Step", " ", "1", " 12", ":", ".", ")", "\n", "\r\n", "\n\n", " red pens", "\t", "back", "é"]
)


@given(parts=st.lists(FRAGMENTS, max_size=20))
def test_invariants(byte_level, sprawling, parts):
    text = "".join(parts)
    for tokenizer in (byte_level, sprawling):
        ids, steps = split(tokenizer, text)
        lines = text.replace("\r", "\n").split("\n")
        assert all(line in lines for line in steps.texts)
        used = steps.step_ids[steps.step_ids >= 0]
        assert sorted(set(used.tolist())) == list(range(len(steps)))
        assert (np.diff(used) >= 0).all()
        for s, (start, end) in enumerate(steps.spans):
            inside = np.arange(len(ids))
            inside = (inside >= start) & (inside < end)
            assert ((steps.step_ids == s) <= inside).all()
        assert not (steps.in_label & (steps.step_ids >= 0)).any()
