import datetime
import time

import pytest

from leco_jax.text import template_sandbox
from leco_jax.text.chat import encode_chat, render_chat
from leco_jax.text.huggingface_tokenizer import HuggingFaceTokenizer

MESSAGES = [{"role": "user", "content": " hi "}]


def rendered(byte_level, template, messages=MESSAGES, **options):
    tokenizer = HuggingFaceTokenizer(
        byte_level._core, bos_id=1, eos_ids=(2,), chat_template=template
    )
    return render_chat(tokenizer, messages, **options)


def test_conversation(byte_level):
    assert render_chat(byte_level, MESSAGES) == (
        "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    )
    text = render_chat(byte_level, MESSAGES, add_generation_prompt=False)
    assert text == "<|im_start|>user\nhi<|im_end|>\n"
    ids = encode_chat(byte_level, MESSAGES)
    assert (ids[0], ids.count(1), ids.count(2)) == (1, 2, 1)
    assert byte_level.decode(ids) == render_chat(byte_level, MESSAGES)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ bos_token }}|{{ eos_token }}|{{ pad_token }}", "<|im_start|>|<|im_end|>|<|im_end|>"),
        # Blocks leave no blank lines and no indentation behind.
        ("a\n  {% if true %}\nb\n  {% endif %}\nc", "a\nb\nc"),
        ("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "01"),
        (
            "{% for i in range(3) %}{% if i == 1 %}{% continue %}{% endif %}{{ i }}{% endfor %}",
            "02",
        ),
        ("{{ {'b': '<é>', 'a': 1} | tojson }}", '{"b": "<é>", "a": 1}'),
        ("{{ [1] | tojson(indent=1) }}", "[\n 1\n]"),
        ("{% generation %}x{{ messages[0].role }}{% endgeneration %}y", "xusery"),
        ("{{ 'set' if tools is not none else 'none' }}", "none"),
        ("{{ messages[0]['content'].strip() }}", "hi"),
    ],
)
def test_helpers_of_published_templates(byte_level, template, text):
    assert rendered(byte_level, template) == text


def test_today_and_own_variables(byte_level):
    year = str(datetime.datetime.now().year)
    assert rendered(byte_level, "{{ strftime_now('%Y') }}") in (year, str(int(year) + 1))
    assert rendered(byte_level, "{{ thinking }}", thinking=True) == "True"


def test_refusals(byte_level):
    with pytest.raises(ValueError, match=r"has no chat template.*chat_template\.jinja"):
        rendered(byte_level, None)
    with pytest.raises(ValueError, match="refuses these messages: roles must alternate"):
        rendered(byte_level, "{{ raise_exception('roles must alternate') }}")
    with pytest.raises(ValueError, match="is not valid jinja2"):
        rendered(byte_level, "{% if %}")
    # A template from the internet may not reach Python's insides or change what it is given.
    with pytest.raises(ValueError, match="refuses"):
        rendered(byte_level, "{{ messages.__class__.__mro__ }}")
    with pytest.raises(ValueError, match="refuses"):
        rendered(byte_level, "{{ messages.append(1) }}")


LOOP = "{% for i in range(99999) %}"
END = "{% endfor %}"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% for i in range(10**9) %}{% endfor %}", "a number of 1.0e.09 given to a function"),
        (LOOP * 3 + END * 3, "loops and calls|more than 1 s"),
        ("{{ 'a' * 10**9 }}", "more than 4,000,000 characters"),
        ("{{ [0] * 10**9 }}", "more than 4,000,000 characters"),
        ("{{ ([['a' * 1000] * 1000] * 1000) }}", "more than 4,000,000 characters"),
        ("{{ 10 ** 10000000 }}", "a power of"),
        ("{{ 'a'.center(10**9) }}", "given to a function"),
        ("{{ 'a' | center(10**9) }}", "given to a function"),
        ("{{ '%999999999d' % 1 }}", "too great a width"),
        ("{{ '%999999999d' | format(1) }}", "too great a width"),
        ("{{ '{:999999999}'.format(1) }}", "too great a width"),
        ("{% set x = 'a' * 10**6 %}{{ x.replace('a', x) }}", "characters combined"),
        (
            "{% set n = namespace(x='a') %}" + LOOP + "{% set n.x = n.x ~ n.x %}" + END,
            "more than 4,000,000 characters",
        ),
        (
            "{% set n = namespace(x=9) %}" + LOOP + "{% set n.x = n.x * n.x %}" + END,
            "more than 3,000 digits",
        ),
        (LOOP + "x" * 1000 + END, "more than 4,000,000 characters"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "fails: RecursionError"),
        (
            "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}"
            "{{ f(60) }}",
            "loops and calls|more than 1 s",
        ),
        ("{{ lipsum(n=10**6) }}", "refuses these messages"),
        ("{{ messages + 1 }}", "fails: TypeError"),
        ("{{ 1 // 0 }}", "fails: ZeroDivisionError"),
        ("{% include 'x' %}", "fails: TypeError: no loader"),
        ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "is not valid jinja2: RecursionError"),
        ("{{ raise_exception('a\nb') }}", "refuses these messages: a$"),
    ],
)
def test_a_template_has_limits_and_an_error_is_one_line(byte_level, template, message, monkeypatch):
    monkeypatch.setattr(template_sandbox, "SECONDS", 1.0)
    started = time.monotonic()
    with pytest.raises(ValueError, match=message) as caught:
        rendered(byte_level, template)
    assert "\n" not in str(caught.value)
    assert time.monotonic() - started < 10


def test_a_long_conversation_stays_within_the_limits(byte_level):
    messages = [{"role": "user", "content": "many words " * 100}] * 500
    assert len(render_chat(byte_level, messages)) > 500_000
