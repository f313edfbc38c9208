"""Chat templates: jinja2 in a sandbox, with the helpers that published templates expect."""

from __future__ import annotations

import datetime
import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import jinja2
import jinja2.ext

from leco_jax.text import template_sandbox
from leco_jax.text.tokenizer_base import Tokenizer


def render_chat(
    tokenizer: Tokenizer,
    messages: Sequence[Mapping[str, Any]],
    *,
    add_generation_prompt: bool = True,
    **variables: Any,
) -> str:
    """Renders messages (`{"role": ..., "content": ...}` each) with the tokenizer's chat template.

    Encode the text with `allow_special=True` and without BOS, which the template writes where the
    model wants it. `add_generation_prompt` ends it with the header of the assistant's turn;
    `variables` are further template variables (`tools`, `documents`, a template's own switches).

    Raises:
      ValueError: there is no template, or it is invalid, refuses the messages, fails, or goes
        beyond a limit of `template_sandbox`; the message is one line.
    """
    if tokenizer.chat_template is None:
        raise ValueError(
            "this tokenizer has no chat template; use a few-shot prompt, or put the model's "
            "chat_template.jinja beside its tokenizer"
        )
    names = {
        "bos_token": tokenizer.token_text(tokenizer.bos_id),
        "eos_token": tokenizer.token_text(tokenizer.eos_ids[0] if tokenizer.eos_ids else None),
        "pad_token": tokenizer.token_text(tokenizer.pad_id),
        "unk_token": tokenizer.token_text(tokenizer.unk_id),
    }
    values = {
        "messages": [dict(message) for message in messages],
        "add_generation_prompt": add_generation_prompt,
        "tools": None,
        "documents": None,
    }
    template = _compile(tokenizer.chat_template)
    try:
        return template_sandbox.render(template, values | names | variables)
    except template_sandbox.TemplateLimitError as error:
        raise ValueError(f"the chat template goes beyond a limit: {error}") from None
    except jinja2.TemplateError as error:
        raise ValueError(f"the chat template refuses these messages: {_line(error)}") from error
    except Exception as error:  # an expression of the template may raise anything
        raise ValueError(f"the chat template fails: {_line(error)}") from error


def encode_chat(
    tokenizer: Tokenizer,
    messages: Sequence[Mapping[str, Any]],
    *,
    add_generation_prompt: bool = True,
    **variables: Any,
) -> list[int]:
    """Returns the token ids of a rendered conversation.

    A message that spells a control token's name forges that token; clean untrusted text first.
    """
    text = render_chat(
        tokenizer, messages, add_generation_prompt=add_generation_prompt, **variables
    )
    return tokenizer.encode(text, allow_special=True)


@functools.lru_cache(maxsize=16)
def _compile(template: str) -> jinja2.Template:
    environment = template_sandbox.LimitedEnvironment(
        filters={"tojson": _to_json},
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[jinja2.ext.loopcontrols, _GenerationBlock],
    )
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = _strftime_now
    try:
        return environment.from_string(template)
    except Exception as error:  # deep nesting raises RecursionError
        raise ValueError(f"the chat template is not valid jinja2: {_line(error)}") from error


def _line(error: Exception) -> str:
    lines = str(error).splitlines() or [""]
    name = "" if isinstance(error, jinja2.TemplateError) else f"{type(error).__name__}: "
    return f"{name}{lines[0][:200]}"


class _GenerationBlock(jinja2.ext.Extension):
    """`{% generation %}...{% endgeneration %}` marks the assistant's text; adds nothing."""

    tags = {"generation"}  # noqa: RUF012 - jinja2's own protocol

    def parse(self, parser: Any) -> Any:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # jinja2's own filter escapes HTML, which would change a prompt.
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _strftime_now(format: str) -> str:
    return datetime.datetime.now().strftime(format)
