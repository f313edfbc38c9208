"""The methods that an experiment can run, by the names that configs and results have for them."""

import dataclasses
from collections.abc import Callable
from typing import Any

from leco_jax.decoding.engine import Engine
from leco_jax.decoding.tasks import Task
from leco_jax.reasoning.chain_reader import ChainReader
from leco_jax.reasoning.cot import chain_of_thought
from leco_jax.reasoning.leco import LecoConfig, leco, preset_rules
from leco_jax.reasoning.question import Question, Result
from leco_jax.reasoning.self_consistency import SelfConsistencyConfig, self_consistency


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method:
    """One method.

    Attributes:
        task: makes its task for one question, given its options.
        options: the dataclass of its options, read from the config's section of the method's name;
            None: it has none.
        passes: how many passes one chain of it may take, one after another.
        left_open: values of the options that its section of the config leaves open (None).
        stats: statistics that the engine has to capture, beside those of the step scores.
        watches_steps: whether the engine has to score steps while they are written.
    """

    task: Callable[[Engine, ChainReader, Question, Any], Task[Result]]
    options: type | None = None
    passes: Callable[[Any], int] = lambda options: 1
    left_open: Callable[[Any], dict[str, Any]] = lambda section: {}
    stats: Callable[[Any], tuple[str, ...]] = lambda options: ()
    watches_steps: Callable[[Any], bool] = lambda options: False


METHODS = {
    "cot": Method(
        task=lambda engine, reader, question, options: chain_of_thought(engine, reader, question)
    ),
    "leco": Method(
        task=leco,
        options=LecoConfig,
        passes=lambda options: 1 + options.max_rethinks,
        left_open=lambda section: preset_rules(section.preset),
        watches_steps=lambda options: options.online_margin is not None,
    ),
    "self_consistency": Method(
        task=self_consistency,
        options=SelfConsistencyConfig,
        stats=lambda options: options.stats,
    ),
}  # fmt: skip


def method_options(name: str, config: Any) -> Any:
    """A method's options as the config gives them, None for a method without.

    Raises:
        ValueError: there is no such method or no such section, or an option is missing or says
            something impossible.
    """
    if name not in METHODS:
        raise ValueError(f"config.methods: {name!r} is none of {', '.join(METHODS)}.")
    options = METHODS[name].options
    if options is None:
        return None
    if name not in config:
        raise ValueError(f"config.{name} is missing: the method of that name needs its options.")
    fields = [field.name for field in dataclasses.fields(options)]
    missing = [field for field in fields if field not in config[name]]
    if missing:
        raise ValueError(f"config.{name} lacks {', '.join(missing)}.")
    values = {field: config[name][field] for field in fields}
    try:
        for field, value in METHODS[name].left_open(config[name]).items():
            values[field] = value if values[field] is None else values[field]
        return options(**values)
    except ValueError as error:
        raise ValueError(f"config.{name}: {error}") from None
