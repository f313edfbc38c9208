"""An experiment's config, every field with its default, and the methods that it can name."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import ml_collections

from leco_jax.configuration import check, config_dict, part
from leco_jax.decoding.engine import Engine
from leco_jax.decoding.request import Sampling
from leco_jax.decoding.tasks import Task
from leco_jax.reasoning.chain_reader import ChainReader
from leco_jax.reasoning.checking import Checks
from leco_jax.reasoning.correct import CorrectConfig, correct
from leco_jax.reasoning.cot import chain_of_thought
from leco_jax.reasoning.fork import ForkConfig, fork
from leco_jax.reasoning.leco import LecoConfig, leco
from leco_jax.reasoning.question import MethodConfig, Question, Result
from leco_jax.reasoning.self_consistency import SelfConsistencyConfig, self_consistency

# Each makes a method's task for one question. A method's options are the config's part of its name.
METHODS: dict[str, Callable[[Engine, ChainReader, Question, Any], Task[Result]]] = {
    "cot": lambda engine, reader, question, _: chain_of_thought(engine, reader, question),
    "leco": leco,
    "self_consistency": self_consistency,
    "fork": fork,
    "fork_checked": fork,  # the same with other options, so that one run has both
    "correct": correct,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelSource:
    """The model: `name` is one known by name, a directory or a .gguf file."""

    name: str = "smollm2-135m-instruct"
    dtype: str = "float32"


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataSource:
    """The problems.

    Attributes:
      name: a data set or a .jsonl file; "word_problems" comes with the package, "gsm8k" needs
        `dir` or the internet.
      split: one of its splits.
      dir: where its source files lie.
      limit: at most so many problems, from the front; None: all.
      skip_bad_gold: leave out a file's problems whose gold answer cannot be read.
    """

    name: str = "word_problems"
    split: str = "test"
    dir: str | None = None
    limit: int | None = None
    skip_bad_gold: bool = False

    def __post_init__(self):
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit={self.limit} must be at least 1, or None for all problems")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Generation(Sampling):
    """How chains of thought, and LeCo's first passes, are sampled.

    Attributes:
      max_new_tokens: most tokens of a pass.
      truncated: what a chain that reached them counts as, see `ChainReader`.
    """

    max_new_tokens: int = 256
    truncated: Literal["unanswered", "read"] = "unanswered"

    @property
    def sampling(self) -> Sampling:
        """The part that the engine takes."""
        return Sampling(temperature=self.temperature, top_k=self.top_k, top_p=self.top_p)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """The engine.

    Attributes:
      slots: chains decoded together.
      chunk: tokens between two looks at them.
      capture: whose distribution the statistics are of: "raw", the model's, or "processed", the
        one that is sampled from.
    """

    slots: int = 16
    chunk: int = 8
    capture: Literal["raw", "processed"] = "raw"

    def __post_init__(self):
        for name in ("slots", "chunk"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExperimentConfig:
    """All that `run_experiment` reads.

    Attributes:
      seed: of all random numbers.
      methods: names in `METHODS`, in the order of the table.
      prompt: "chat", "few_shot" (eight worked examples before the question) or "question" (nothing
        else).
      leco: its `preset` also says which step scores all methods' results have.
      fork: forks by confidence alone.
      fork_checked: forks of the chains that a check flags, until one passes.
    """

    seed: int = 0
    methods: tuple[str, ...] = ("cot", "leco")
    prompt: Literal["chat", "few_shot", "question"] = "chat"
    model: ModelSource = part(ModelSource)
    data: DataSource = part(DataSource)
    generation: Generation = part(Generation)
    leco: LecoConfig = part(LecoConfig, policy="avoid")
    self_consistency: SelfConsistencyConfig = part(SelfConsistencyConfig)
    fork: ForkConfig = part(ForkConfig)
    fork_checked: ForkConfig = part(
        ForkConfig, checks=Checks(names=("arithmetic",), gate=True, filter=True)
    )
    correct: CorrectConfig = part(CorrectConfig)
    engine: EngineOptions = part(EngineOptions)

    def __post_init__(self):
        check(self)
        if not self.methods:
            raise ValueError(f"methods is empty: name some of {', '.join(METHODS)}")
        for method in self.methods:
            if method not in METHODS:
                raise ValueError(f"methods: {method!r} is not one of {', '.join(METHODS)}")
        if len(set(self.methods)) < len(self.methods):
            raise ValueError(f"methods={self.methods!r} names one of them twice")

    def options(self, method: str) -> MethodConfig:
        """A method's options."""
        return getattr(self, method, MethodConfig())


def experiment_config() -> ml_collections.ConfigDict:
    """The defaults, for files in configs/ to change."""
    return config_dict(ExperimentConfig)
