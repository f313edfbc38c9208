"""Configs defined once: dataclass -> ConfigDict -> dataclass, and what is refused in one line."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Literal

import pytest

from leco_jax.configuration import as_json, build, check, config_dict, internal


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimizer:
    learning_rate: float = 1e-5
    schedule: Literal["constant", "cosine"] = "cosine"
    moment_dtype: str | None = None
    steps: int | None = None
    seed: int = internal(0)

    def __post_init__(self):
        check(self)
        if self.learning_rate < 0:
            raise ValueError("learning_rate must not be negative")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    task: str
    flag: bool = False
    targets: tuple[str, ...] = ("a", "b")
    sizes: tuple[int, ...] | None = None
    optimizer: Optimizer = Optimizer()
    other: Optimizer = Optimizer(learning_rate=1.0)
    many: Mapping[str, Optimizer] = dataclasses.field(
        default_factory=lambda: {"dpo": Optimizer(), "orpo": Optimizer(steps=3)}
    )


def test_a_config_comes_back_as_it_was_changed():
    config = config_dict(Config)
    assert config.is_locked
    assert config.optimizer.is_locked
    assert config.task is None
    assert config.targets == ("a", "b")
    assert "seed" not in config.optimizer
    config.task = "x"
    config.flag = True
    config.sizes = (1, 2)
    config.optimizer.steps = 7
    config.optimizer.learning_rate = 1  # an int where a float is
    config.many.orpo.moment_dtype = "bfloat16"
    with pytest.raises(TypeError):
        config.optimizer.steps = "seven"
    built = build(Config, config)
    assert built == Config(
        task="x",
        flag=True,
        sizes=(1, 2),
        optimizer=Optimizer(steps=7, learning_rate=1.0),
        many={"dpo": Optimizer(), "orpo": Optimizer(steps=3, moment_dtype="bfloat16")},
    )
    assert built.other.learning_rate == 1.0
    assert build(Config, as_json(built)) == built
    assert build(Config, config_dict(built)) == built
    partly = build(Config, {"task": "x", "other": {"steps": 2}})
    assert partly.other == Optimizer(learning_rate=1.0, steps=2)
    assert as_json(built)["sizes"] == [1, 2]
    assert "seed" not in as_json(built)["optimizer"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "config.task is not set and has no default"),
        ({"task": 3}, "config.task is 3, a int: it must be of type str"),
        ({"task": "x", "flog": True}, "config has no field 'flog'; did you mean 'flag'?"),
        ({"task": "x", "flag": None}, "config.flag is not set and has no default"),
        ({"task": "x", "targets": ["a", 1]}, "config.targets[1] is 1, a int"),
        ({"task": "x", "optimizer": {"steps": True}}, "config.optimizer.steps is True, a bool"),
        (
            {"task": "x", "optimizer": {"schedule": "cosin"}},
            "config.optimizer.schedule='cosin' is not one of constant, cosine",
        ),
        (
            {"task": "x", "optimizer": {"learning_rate": float("nan")}},
            "config.optimizer.learning_rate=nan is not a finite number",
        ),
        (
            {"task": "x", "optimizer": {"learning_rate": -1.0}},
            "config.optimizer: learning_rate must not be negative",
        ),
        ({"task": "x", "optimizer": 3}, "config.optimizer is 3: it must be a group of fields"),
        ({"task": "x", "many": {"dop": {}}}, "config.many has no part 'dop'; did you mean 'dpo'?"),
        ({"task": "x", "optimizer": {"zz": 1}}, "config.optimizer has no field 'zz'; known: lear"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(values, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}") as error:
        build(Config, values)
    assert "\n" not in str(error.value)


def test_a_dataclass_checks_its_own_fields():
    with pytest.raises(ValueError, match="schedule='x' is not one of constant, cosine"):
        Optimizer(schedule="x")
    with pytest.raises(ValueError, match="learning_rate=inf is not a finite number"):
        Optimizer(learning_rate=float("inf"))
