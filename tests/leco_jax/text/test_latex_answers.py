import time

import pytest

from leco_jax.text import latex_answers
from leco_jax.text.answers import answers_equal, read_answer
from leco_jax.text.gold import BadGoldError, read_gold
from leco_jax.text.latex_answers import normal_form
from leco_jax.text.latex_process import Comparer

needs_math_verify = pytest.mark.skipif(
    not latex_answers.has_math_verify(), reason="needs the extra `latex`"
)


@pytest.mark.parametrize(
    ("text", "form"),
    [
        (r"$\dfrac12$", r"\frac{1}{2}"),
        (r"\frac\pi4", r"\frac{\pi}{4}"),
        (r"\tfrac{8\pi}5", r"\frac{8\pi}{5}"),
        (r"4 \sqrt 3", r"4\sqrt{3}"),
        (r"\left( 3, \frac{\pi}{2} \right)", r"(3,\frac{\pi}{2})"),
        (r"x = 5", "5"),
        ("f(x)=x^{2}", "x^2"),
        ("y = 2x + 3", "2x+3"),
        ("x^2 + y^2 = 13", "x^2+y^2=13"),
        (r"x \in [1, 2]", "[1,2]"),
        (r"99\pi \text{ square inches}", r"99\pi"),
        (r"5\text{ cm}^2", "5"),
        (r"\text{(E)}", "E"),
        (r"12\text{ and }13", "12,13"),
        (r"7, -2, \text{ and } -5", "7,-2,-5"),
        ("3 or 4", "3,4"),
        (r"10,\!000", "10000"),
        (r"10{,}000", "10000"),
        (r"\$5.50", "5.50"),
        (r"50\%", "50"),
        (r"90^\circ", "90"),
        (r"2\cos 15^{\circ}", r"2\cos15"),
        (r"\text{Evelyn}", "Evelyn"),
        (r"2516_{8}", "2516_8"),
        (r"152A_{11}", "152A_{11}"),
        (r"\cot x", r"\cot x"),
        ("5.", "5"),
        (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}"),
        (r"\{1, 2\}", r"\{1,2\}"),
        (r"\mathrm{Red}", "Red"),
        (r"\leftarrow", r"\leftarrow"),
        (r"9\text{ a.m.}", "9a.m"),
    ],
)
def test_normal_form(text, form):
    assert normal_form(text) == form


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    # Reading needs no math-verify.
    monkeypatch.setattr(latex_answers, "has_math_verify", lambda: True)


@pytest.mark.parametrize(
    ("response", "value"),
    [
        (r"So $x=2$ and \boxed{\frac{1}{2}} it is.", r"\frac{1}{2}"),
        (r"#### $3\sqrt{2}$", r"3\sqrt{2}"),
        ("The answer is $5$.", "5"),
        (r"The answer is $\$ 5$.", "5"),
        (r"The answer is $11,\! 111$.", "11111"),  # the published program keeps the dollars
        (r"The answer is $\{1, 2\}$, as said.", r"\{1,2\}"),
        ("The answer is 12 apples.", "12apples"),  # compared as the number 12
        (r"So we get $a+b$ or $\frac{7}{2}$", r"\frac{7}{2}"),
        ("It is 3 + 4 = 7.", "7"),
        ("No idea", None),
        (r"\boxed{}", None),
        ("\\boxed{" + "1+" * 200 + "1}", None),
    ],
)
def test_reading(response, value):
    answer = read_answer(response, kind="latex")
    assert answer.value == value
    assert (answer.problem is None) == (value is not None)


def test_a_bad_gold_answer_is_refused():
    for text in (r"\frac{1}{2", "}{", "", "$ $"):
        with pytest.raises(BadGoldError, match=r"the gold answer .*(empty|braces)"):
            read_gold(text, kind="latex")


def test_without_the_extra_the_message_names_it(monkeypatch):
    monkeypatch.setattr(latex_answers, "has_math_verify", lambda: False)
    with pytest.raises(
        ModuleNotFoundError, match=r"extra `latex`.*pip install 'leco-jax\[latex\]'"
    ):
        read_gold("5", kind="latex")


def equal(a, b):
    a, b = (read_gold(text, kind="latex") for text in (a, b))
    return answers_equal(a, b, kind="latex")


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (r"\frac12", "0.5", True),
        ("0.50", "1/2", True),
        (r"1{,}000", "1000", True),
        ("x = 5", "5", True),
        ("12", r"12\text{ apples}", True),
        ("0.33", r"\frac13", False),
        (r"2516_8", r"2516_9", False),
        (r"2516_8", "2516", False),
        ("(1,2)", "1,2", False),
        ("3:1", "3", False),
        (r"\text{Evelyn}", "evelyn", True),
        ("a", "A", False),
        (r"\text{(B)}", "B", True),
        ("B", "C", False),
        (r"50\%", "50", True),
        (r"\text{even}", "odd", False),
    ],
)
def test_equality_that_needs_no_other_process(a, b, same, monkeypatch):
    monkeypatch.setattr(latex_answers, "COMPARER", None)
    assert equal(a, b) is equal(b, a) is same


@needs_math_verify
@pytest.mark.heavy
def test_equality_by_math_verify():
    pairs = [
        (r"3\sqrt2", r"\sqrt{18}", True),
        ("x^2+2x+1", "(x+1)^2", True),
        ("2,1", r"\{1, 2\}", True),
        (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix}2/2\\2\end{pmatrix}", True),
        ("(1,2)", "(2,1)", False),
        ("(1,2)", "[1,2]", False),
        ("x+1", "y+1", False),
        (r"\frac{\pi}{3}", r"\frac{\pi}{4}", False),
        (r"__import__('os')", "1", False),
    ]
    assert [equal(a, b) for a, b, _ in pairs] == [same for *_, same in pairs]
    assert [equal(b, a) for a, b, _ in pairs] == [same for *_, same in pairs]


@needs_math_verify
@pytest.mark.heavy
def test_a_comparison_has_a_limit_and_the_next_one_works():
    comparer = Comparer()
    started = time.monotonic()
    assert not comparer.equal("9^{9^{9^{9}}}", r"8^{9^{9^{9}}}", limit_seconds=1)
    assert time.monotonic() - started < 100
    assert comparer.equal("x+1", "1+x", limit_seconds=60)
    comparer.close()


def test_long_texts_take_no_time():
    for text in ("$" * 100_000, r"\frac" * 40_000, "{" * 200_000, r"\text{a" * 30_000):
        assert read_answer(text, kind="latex").value is None or len(text) < 300
