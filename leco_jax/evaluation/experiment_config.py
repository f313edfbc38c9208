"""An experiment's config, every field with its default, and the methods that it can name."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import ml_collections

from leco_jax.configuration import check, config_dict, part
from leco_jax.datasets.registry import ReadingOptions
from leco_jax.decoding.engine import Engine
from leco_jax.decoding.programs import MARGIN
from leco_jax.decoding.request import Sampling
from leco_jax.decoding.tasks import Task
from leco_jax.reasoning.acts import ActConfig, act
from leco_jax.reasoning.adaptive import AdaptiveConfig, adaptive_self_consistency
from leco_jax.reasoning.chain_reader import ChainReader
from leco_jax.reasoning.checking import Checks
from leco_jax.reasoning.correct import CorrectConfig, correct
from leco_jax.reasoning.cot import chain_of_thought
from leco_jax.reasoning.cot_decoding import CotDecodingConfig, cot_decoding
from leco_jax.reasoning.deepconf import DeepConfConfig, deepconf
from leco_jax.reasoning.fork import ForkConfig, fork
from leco_jax.reasoning.leco import LecoConfig, leco
from leco_jax.reasoning.leco_samples import LecoSamplesConfig, leco_samples
from leco_jax.reasoning.question import MethodConfig, Question, Result
from leco_jax.reasoning.rci import RciConfig, rci
from leco_jax.reasoning.reflective import ReflectiveConfig, reflective_confidence
from leco_jax.reasoning.self_consistency import SelfConsistencyConfig, self_consistency
from leco_jax.scoring.types import STATS

# Each makes a method's task for one question. A method's options are the config's part of its name;
# some are there several times with other options, so that one run has them all.
METHODS: dict[str, Callable[[Engine, ChainReader, Question, Any], Task[Result]]] = {
    "cot": lambda engine, reader, question, _: chain_of_thought(engine, reader, question),
    "leco": leco,
    "leco_early_stop": leco,
    "leco_average": leco,
    "leco_divergence": leco,
    "leco_transition": leco,
    "leco_samples": leco_samples,
    "self_consistency": self_consistency,
    "adaptive": adaptive_self_consistency,
    "deepconf": deepconf,
    "reflective": reflective_confidence,
    "rci": rci,
    "cot_decoding": cot_decoding,
    "fork": fork,
    "fork_checked": fork,
    "act_stop": act,
    "act_reflect": act,
    "act_roll_back": act,
    "act_fork": act,
    "correct": correct,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelSource:
    """The model: `name` is one known by name, a directory or a .gguf file."""

    name: str = "smollm2-135m-instruct"
    dtype: str = "float32"


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataSource(ReadingOptions):
    """The problems.

    Attributes:
      name: a data set or a .jsonl file; "word_problems" comes with the package, "gsm8k" needs
        `dir` or the internet, the other public ones need `dir`.
      split: one of its splits.
      limit: at most so many problems, from the front; None: all.
    """

    name: str = "word_problems"
    split: str = "test"
    limit: int | None = None

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
      slots: chains that each replica of the model decodes together.
      chunk: tokens between two looks at them.
      capture: whose distribution the statistics are of: "raw", the model's, or "processed", the
        one that is sampled from.
      stats: statistics that are captured and stored beside those that the methods ask for, such as
        "topk_logprob", "self_certainty" and "margin", for rules over stored chains.
      stats_of: methods whose chains store them; none named: all.
    """

    slots: int = 16
    chunk: int = 8
    capture: Literal["raw", "processed"] = "raw"
    stats: tuple[str, ...] = ()
    stats_of: tuple[str, ...] = ()

    def __post_init__(self):
        known = (*STATS, MARGIN)
        for name in self.stats:
            if name not in known:
                raise ValueError(f"stats: {name!r} is not one of {', '.join(known)}")
        for name in ("slots", "chunk"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshOptions:
    """The devices; they may change while a run is interrupted.

    Attributes:
      tensor: devices that share each matrix of one replica of the model. There are as many replicas
        as the devices allow; where one has more devices than a process, all devices are one.
    """

    tensor: int = 1

    def __post_init__(self):
        if self.tensor < 1:
            raise ValueError(f"tensor={self.tensor} must be at least 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExperimentConfig:
    """All that `run_experiment` reads.

    Attributes:
      seed: of all random numbers.
      methods: names in `METHODS`, in the order of the table.
      prompt: "chat", "few_shot" (eight worked examples before the question), "few_shot_complex"
        (eight with the most steps) or "question" (nothing else).
      leco: its `preset`, `tau` and `heading_tokens` also say which step scores all methods' results
        have. `leco_early_stop` has it stop where no step is weak (ours: the paper's own rule is not
        known); `leco_average` and so on cut by one part of the score. Their policy is set for each.
      fork: forks by confidence alone.
      fork_checked: forks of the chains that a check flags, until one passes.
      act_stop, act_reflect, act_roll_back, act_fork: the same trigger, four acts.
    """

    seed: int = 0
    methods: tuple[str, ...] = ("cot", "leco")
    prompt: Literal["chat", "few_shot", "few_shot_complex", "question"] = "chat"
    model: ModelSource = part(ModelSource)
    data: DataSource = part(DataSource)
    generation: Generation = part(Generation)
    leco: LecoConfig = part(LecoConfig, policy="avoid")
    leco_early_stop: LecoConfig = part(
        LecoConfig, policy="avoid", checks=Checks(confidence="step_score", below=1.7)
    )
    leco_average: LecoConfig = part(LecoConfig, policy="avoid", cut_by="average")
    leco_divergence: LecoConfig = part(LecoConfig, policy="avoid", cut_by="divergence")
    leco_transition: LecoConfig = part(LecoConfig, policy="avoid", cut_by="transition")
    leco_samples: LecoSamplesConfig = part(LecoSamplesConfig)
    self_consistency: SelfConsistencyConfig = part(SelfConsistencyConfig)
    adaptive: AdaptiveConfig = part(AdaptiveConfig, samples=40)
    deepconf: DeepConfConfig = part(DeepConfConfig)
    reflective: ReflectiveConfig = part(ReflectiveConfig)
    rci: RciConfig = part(RciConfig)
    cot_decoding: CotDecodingConfig = part(CotDecodingConfig)
    fork: ForkConfig = part(ForkConfig)
    fork_checked: ForkConfig = part(
        ForkConfig, checks=Checks(names=("arithmetic",), gate=True, filter=True)
    )
    act_stop: ActConfig = part(ActConfig, act="stop")
    act_reflect: ActConfig = part(ActConfig, act="reflect")
    act_roll_back: ActConfig = part(ActConfig, act="roll_back")
    act_fork: ActConfig = part(ActConfig, act="fork")
    correct: CorrectConfig = part(CorrectConfig)
    engine: EngineOptions = part(EngineOptions)
    mesh: MeshOptions = part(MeshOptions)

    def __post_init__(self):
        check(self)
        if not self.methods:
            raise ValueError(f"methods is empty: name some of {', '.join(METHODS)}")
        for method in self.methods:
            if method not in METHODS:
                raise ValueError(f"methods: {method!r} is not one of {', '.join(METHODS)}")
        if len(set(self.methods)) < len(self.methods):
            raise ValueError(f"methods={self.methods!r} names one of them twice")
        for method in self.methods:
            options = self.options(method)
            if isinstance(options, ForkConfig) and options.bounds and self.engine.capture != "raw":
                raise ValueError(
                    f"{method}.settled=True reckons with the model's own probabilities: set "
                    f'engine.capture="raw", or {method}.settled=False'
                )

    def options(self, method: str) -> MethodConfig:
        """A method's options."""
        return getattr(self, method, MethodConfig())


def experiment_config() -> ml_collections.ConfigDict:
    """The defaults, for files in configs/ to change."""
    return config_dict(ExperimentConfig)
