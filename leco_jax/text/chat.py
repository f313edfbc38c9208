"""Chat templates: jinja2 in a sandbox, with the helpers that published templates expect."""

from __future__ import annotations

import datetime
import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import jinja2
import jinja2.ext
import jinja2.sandbox

from leco_jax.text.tokenizer import Tokenizer


def render_chat(
    tokenizer: Tokenizer,
    messages: Sequence[Mapping[str, Any]],
    *,
    add_generation_prompt: bool = True,
    **variables: Any,
) -> str:
    """Renders messages with the tokenizer's chat template.

    Args:
      tokenizer: its `chat_template` is used; none is an error.
      messages: `{"role": ..., "content": ...}` each.
      add_generation_prompt: end with the header of the assistant's turn.
      **variables: further template variables (`tools`, `documents`, a template's own switches).

    Returns:
      The text of the conversation; encode it with `allow_special=True` and without BOS, which the
      template writes itself where the model wants it.
    """
    if tokenizer.chat_template is None:
        raise ValueError(
            "This tokenizer has no chat template. Use a few-shot prompt, or put the model's "
            "chat_template.jinja beside its tokenizer."
        )
    names = {
        "bos_token": tokenizer.token_text(tokenizer.bos_id),
        "eos_token": tokenizer.token_text(tokenizer.eos_ids[0] if tokenizer.eos_ids else None),
        "pad_token": tokenizer.token_text(tokenizer.pad_id),
        "unk_token": tokenizer.token_text(tokenizer.unk_id),
    }
    try:
        return _compile(tokenizer.chat_template).render(
            messages=[dict(message) for message in messages],
            add_generation_prompt=add_generation_prompt,
            **(names | {"tools": None, "documents": None} | variables),
        )
    except jinja2.TemplateError as error:
        raise ValueError(f"The chat template refuses these messages: {error}") from error


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
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[jinja2.ext.loopcontrols, _GenerationBlock],
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = _strftime_now
    try:
        return environment.from_string(template)
    except jinja2.TemplateError as error:
        raise ValueError(f"The chat template is no jinja2: {error}") from error


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
