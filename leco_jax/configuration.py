"""Configs defined once: frozen dataclasses, and the `ConfigDict` that files and flags change.

A program's config is a frozen dataclass whose parts are the dataclasses that the code takes. Config
files change the locked `ml_collections.ConfigDict` made of it (`config_dict`); the launcher makes
the dataclass again (`build`), which finds wrong names, types and values.

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class TrainingConfig:
        seed: int = 0
        optimizer: OptimizerConfig = part(OptimizerConfig)

    config = config_dict(TrainingConfig)      # in configs/*.py
    config.optimizer.learning_rate = 1e-4
    training = build(TrainingConfig, config)  # in the launcher

Types of fields: bool, int, float, str, `Literal`, tuples of these; any of them `| None`; another
dataclass; `Mapping[str, another dataclass]`, with its names in the default. Imports no JAX.
"""

import dataclasses
import difflib
import functools
import json
import math
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import ml_collections

T = TypeVar("T")
_GROUPS = (Mapping, ml_collections.ConfigDict)


def internal(default: Any) -> Any:
    """A dataclass field that the program sets; not part of the config that users see."""
    return dataclasses.field(default=default, metadata={"internal": True})


def part(config_type: type[T], **defaults: Any) -> T:
    """A dataclass field that is another config, with some defaults of its own."""
    factory: Any = functools.partial(config_type, **defaults)
    return dataclasses.field(default_factory=factory)


def config_dict(config: Any) -> ml_collections.ConfigDict:
    """Makes the locked ConfigDict of a config: a dataclass (its defaults count) or an instance.

    None, and a field without a default, become a placeholder of the field's type.
    """
    made = ml_collections.ConfigDict()
    for name, annotation in _fields(config).items():
        kind, _ = _split(annotation)
        value = _default(config, name) if isinstance(config, type) else getattr(config, name)
        if _is_part(kind):
            made[name] = config_dict(kind if value is None else value)
        elif isinstance(value, Mapping):
            made[name] = ml_collections.ConfigDict({k: config_dict(v) for k, v in value.items()})
        elif value is None:
            made[name] = ml_collections.config_dict.placeholder(_flag_type(kind))
        else:
            made[name] = value
    return made.lock()


def as_json(config: Any) -> dict[str, Any]:
    """Gives a config's fields as JSON values, for files; `build` reads them again."""
    return json.loads(json.dumps({name: _shown(getattr(config, name)) for name in _fields(config)}))


def build(config_type: type[T], values: Mapping[str, Any], *, name: str = "config") -> T:
    """Makes a dataclass from a ConfigDict or from JSON values; what is missing has its default.

    Raises:
        ValueError: in one line, the first field that does not exist (and the one most like it), has
            a value of another type or one that the dataclass refuses, or is not set and must be.
    """
    if isinstance(values, config_type):
        return values
    fields = _fields(config_type)
    if not isinstance(values, _GROUPS):
        raise ValueError(f"{name} is {values!r}: it must be a group of fields")
    for key in values:
        if key not in fields:
            raise ValueError(f"{name} has no field {key!r}{nearest(key, fields)}")
    made: dict[str, Any] = {}
    for key, annotation in fields.items():
        field, default = f"{name}.{key}", _default(config_type, key)
        value = values.get(key, default)
        kind, optional = _split(annotation)
        if _is_part(kind):
            made[key] = build(kind, _over(default, value), name=field)
        elif isinstance(default, Mapping):
            part = type(next(iter(default.values())))
            for unknown in set(value) - set(default):
                raise ValueError(f"{field} has no part {unknown!r}{nearest(unknown, default)}")
            made[key] = {k: build(part, v, name=f"{field}.{k}") for k, v in value.items()}
        elif value is None and not optional:
            raise ValueError(f"{field} is not set and has no default")
        else:
            made[key] = value if value is None else _checked(value, kind, field)
    try:
        return config_type(**made)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def check(config: Any) -> None:
    """Checks the type of every field of a dataclass; for `__post_init__`.

    Raises:
        ValueError: the type is another, the value not one of its `Literal`, or a float not finite.
    """
    for name, annotation in _fields(config).items():
        value, (kind, optional) = getattr(config, name), _split(annotation)
        if not _is_part(kind) and not isinstance(value, Mapping):
            if value is None and optional:
                continue
            _checked(value, kind, name)


def at_least(config: Any, **least: float) -> None:
    """Raises ValueError for a field below its least value; for `__post_init__`."""
    for name, value in least.items():
        if getattr(config, name) < value:
            raise ValueError(f"{name}={getattr(config, name)} must be at least {value}")


def nearest(name: str, known: Iterable[str]) -> str:
    """Gives "; did you mean 'NAME'?" for the known name most like `name`, or what is known."""
    known = [str(other) for other in known]
    close = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"


def _fields(config: Any) -> dict[str, Any]:
    """The names of a dataclass's fields that users see, and their annotations."""
    hints = typing.get_type_hints(config if isinstance(config, type) else type(config))
    return {
        field.name: hints[field.name]
        for field in dataclasses.fields(config)
        if not field.metadata.get("internal")
    }


def _default(config_type: type, name: str) -> Any:
    """A field's default; None if it has none."""
    field = next(field for field in dataclasses.fields(config_type) if field.name == name)
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return None if field.default is dataclasses.MISSING else field.default


def _is_part(kind: Any) -> bool:
    return dataclasses.is_dataclass(kind)


def _over(default: Any, values: Any) -> Any:
    """What is missing in a part's values, from the part's default."""
    if values is None or default is None or isinstance(values, type(default)):
        return values or {}
    if not isinstance(values, _GROUPS):
        return values
    return {name: getattr(default, name) for name in _fields(default)} | dict(values.items())


def _split(annotation: Any) -> tuple[Any, bool]:
    """An annotation without its None, and whether it had one."""
    if typing.get_origin(annotation) not in (types.UnionType, typing.Union):
        return annotation, False
    kinds = [kind for kind in typing.get_args(annotation) if kind is not type(None)]
    return kinds[0], len(kinds) < len(typing.get_args(annotation))


def _flag_type(kind: Any) -> type:
    if typing.get_origin(kind) is typing.Literal:
        return type(typing.get_args(kind)[0])
    return typing.get_origin(kind) or kind


def _checked(value: Any, kind: Any, name: str) -> Any:
    """The value as its field's type has it: an int may stand for a float, a list for a tuple."""
    if typing.get_origin(kind) is typing.Literal:
        allowed = typing.get_args(kind)
        if value not in allowed:
            raise ValueError(f"{name}={value!r} is not one of {', '.join(map(str, allowed))}")
        return value
    flag_type = _flag_type(kind)
    if flag_type is tuple and isinstance(value, list | tuple):
        inner = typing.get_args(kind)[0]
        return tuple(_checked(item, inner, f"{name}[{i}]") for i, item in enumerate(value))
    if flag_type is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, flag_type) or (flag_type is int and isinstance(value, bool)):
        given = "None" if value is None else f"{value!r}, a {type(value).__name__}"
        raise ValueError(f"{name} is {given}: it must be of type {flag_type.__name__}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name}={value} is not a finite number")
    return value


def _shown(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return as_json(value)
    return {key: _shown(v) for key, v in value.items()} if isinstance(value, Mapping) else value
