import datetime

import pytest

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
    with pytest.raises(ValueError, match="is no jinja2"):
        rendered(byte_level, "{% if %}")
    # A template from the internet may not reach Python's insides or change what it is given.
    with pytest.raises(ValueError, match="refuses"):
        rendered(byte_level, "{{ messages.__class__.__mro__ }}")
    with pytest.raises(ValueError, match="refuses"):
        rendered(byte_level, "{{ messages.append(1) }}")
