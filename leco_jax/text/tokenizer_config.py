"""What stands beside a Hugging Face tokenizer: token names, stop ids and the chat template."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenizerSettings:
    """The settings of tokenizer_config.json and its neighbours; None where they are silent."""

    bos: str | None = None
    eos: str | None = None
    pad: str | None = None
    unk: str | None = None
    add_bos: bool | None = None
    eos_ids: tuple[int, ...] = ()
    chat_template: str | None = None


def read_settings(directory: Path) -> TokenizerSettings:
    """Reads tokenizer_config.json, special_tokens_map.json, generation_config.json and templates.

    `chat_template.jinja` and tokenizer_config.json come before the others.
    """
    names = _read_json(directory / "special_tokens_map.json")
    config = _read_json(directory / "tokenizer_config.json")
    names |= {k: v for k, v in config.items() if k.endswith("_token") and v is not None}
    eos_ids = _read_json(directory / "generation_config.json").get("eos_token_id")
    add_bos = config.get("add_bos_token")
    return TokenizerSettings(
        bos=_token_name(names.get("bos_token")),
        eos=_token_name(names.get("eos_token")),
        pad=_token_name(names.get("pad_token")),
        unk=_token_name(names.get("unk_token")),
        add_bos=add_bos if isinstance(add_bos, bool) else None,
        eos_ids=_as_ids(eos_ids),
        chat_template=_chat_template(directory, config),
    )


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path} should hold a JSON object, not a {type(value).__name__}")
    return value


def _token_name(value: Any) -> str | None:
    # A name is a string, or an object with the string under "content".
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None


def _as_ids(value: Any) -> tuple[int, ...]:
    if value is None:
        return ()
    return tuple(value) if isinstance(value, list) else (int(value),)


def _chat_template(directory: Path, config: dict[str, Any]) -> str | None:
    file = directory / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    template = config.get("chat_template")
    if template is None:
        template = _read_json(directory / "chat_template.json").get("chat_template")
    if isinstance(template, list):  # several named templates
        named = {entry.get("name"): entry.get("template") for entry in template}
        template = named.get("default")
    return template
