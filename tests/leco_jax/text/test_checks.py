import pytest

from leco_jax.text.checks import CHECKS, Failure, find_check, repeats, unfinished

LINE = "The bags hold 5 * 7 = 35 apples."  # nine words


def test_the_third_occurrence_of_eight_words_is_a_repetition():
    text = "".join(f"Step {i}: {LINE}\n" for i in range(1, 4))
    failure = repeats(text)
    assert text[failure.start :].startswith("The bags")
    assert text[: failure.start].count(LINE) == 1  # from the second one on
    assert repeats("".join(f"Step {i}: {LINE}\n" for i in range(1, 3))) is None
    assert repeats(f"{LINE} " * 3) is not None
    assert repeats("so " * 9) is None
    assert repeats("so " * 10) is not None
    assert repeats("") is None


@pytest.mark.parametrize(
    ("text", "fails"),
    [
        ("Step 1: 2 + 2 = 4\nStep 2: The answer is \\boxed{4}.", False),
        ("2 + 2 = 4\n#### 4", False),
        ("The answer is 4.", False),
        ("Step 1: 2 + 2 = 4\nStep 2: So she", True),
        ("", True),
    ],
)
def test_a_chain_without_an_answer_is_unfinished(text, fails):
    failure = unfinished(text)
    assert (failure is not None) is fails
    if fails and text:
        assert text[failure.start :] == "Step 2: So she"


def test_checks_are_found_by_name_or_where_they_are_written():
    assert all(find_check(name) is check for name, check in CHECKS.items())
    assert find_check("leco_jax.text.checks:repeats") is repeats
    for wrong in ("luck", "leco_jax.text.checks:luck", "no_such_module:f", ":", ""):
        with pytest.raises(ValueError, match="there is no check"):
            find_check(wrong)
    assert Failure(0, 1).truth is None
