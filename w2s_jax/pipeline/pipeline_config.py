"""A pipeline's config: every field with its meaning, default and limits; configs/ change some."""

import dataclasses
from collections.abc import Mapping

import jax
import ml_collections

from leco_jax.configuration import at_least, config_dict, part
from leco_jax.models.sharding import mesh_sizes
from w2s_jax.curation import PAIR_RULES, VOTE_METHODS, PairRule, pair_rule
from w2s_jax.pipeline.curate import CONFIDENCES
from w2s_jax.pipeline.generate import GenerationConfig
from w2s_jax.pipeline.problems import ProblemsConfig
from w2s_jax.training.job_config import TrainingConfig
from w2s_jax.training.objectives import PREFERENCE, Objective


@dataclasses.dataclass(frozen=True, kw_only=True)
class SupervisedConfig:
    """One of the two models."""

    # a known name, a Hugging Face directory or a .gguf file; has to be set
    model: str | None = None
    dtype: str = "float32"  # of weights and products when it answers
    # its fine-tuning; the pipeline itself sets model, data, seed and objective
    sft: TrainingConfig = part(TrainingConfig)

    @property
    def base(self) -> str:
        """The model; `check` has seen that it is set."""
        return self.model or ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage1Config:
    """Supervised rounds on the answers of the weak and the strong model."""

    rounds: int = 2  # of answering, selecting and fine-tuning
    demonstrations: int = 4  # worked examples drawn from the weak answers, wrong ones included
    # fill the selected set up with disagreeing answers (published for MATH); 0: do not
    pad_to: int = 0

    def __post_init__(self):
        at_least(self, rounds=1, demonstrations=0, pad_to=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage2Config:
    """Preference training on pairs of weak and strong answers."""

    # preference losses; each gives a model of its own
    objectives: tuple[str, ...] = ("dpo", "orpo")
    samples: int = 10  # answers of M_plus to a question
    temperature: float = 1.0  # of the samples
    rule: str = "official_code"  # thresholds by name, of `PAIR_RULES`
    threshold: float | None = None  # in place of the rule's; None: the rule's
    weak_rejected_threshold: float | None = None  # likewise
    pairs_per_question: int = PairRule.pairs_per_question  # 1 to 3
    vote: str = PairRule.vote  # how confidence is taken from samples, of `VOTE_METHODS`
    confidence: str = "step_score"  # what a vote but "count" weighs samples by, of `CONFIDENCES`
    vote_temperature: float = PairRule.temperature  # of "cisc"

    def __post_init__(self):
        at_least(self, samples=1)
        known = {"rule": PAIR_RULES, "vote": VOTE_METHODS, "confidence": CONFIDENCES}
        for name, names in known.items():
            if getattr(self, name) not in names:
                raise ValueError(f"{name}={getattr(self, name)!r} is not one of {', '.join(names)}")
        names = self.objectives
        if not names or len(set(names)) < len(names) or not set(names) <= set(PREFERENCE):
            raise ValueError(
                f"objectives={names}: give one or more of {', '.join(PREFERENCE)}, each once"
            )
        self.pair_rule(seed=0)

    def pair_rule(self, *, seed: int) -> PairRule:
        """The named rule, with its own thresholds where some are given."""
        return pair_rule(
            self.rule,
            threshold=self.threshold,
            weak_rejected_threshold=self.weak_rejected_threshold,
            pairs_per_question=self.pairs_per_question,
            vote=self.vote,
            temperature=self.vote_temperature,
            seed=seed,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """How models are measured."""

    samples: int = 10  # for pass@k of M_plus and the last models; 0: greedy answers alone
    temperature: float = 1.0  # of the samples
    resamples: int = 10_000  # of the bootstrap

    def __post_init__(self):
        at_least(self, samples=0, resamples=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PipelineConfig:
    """All that `launchers/w2s.py` knows."""

    seeds: tuple[int, ...] = (0,)  # the whole pipeline runs once for each
    data: ProblemsConfig = part(ProblemsConfig)
    weak: SupervisedConfig = part(SupervisedConfig)
    strong: SupervisedConfig = part(SupervisedConfig)
    stage1: Stage1Config = part(Stage1Config)
    stage2: Stage2Config = part(Stage2Config)
    # training by the name of its loss; the pipeline itself sets model, data and seed
    preference: Mapping[str, TrainingConfig] = dataclasses.field(
        default_factory=lambda: {
            name: TrainingConfig(objective=Objective(name=name)) for name in PREFERENCE
        }
    )
    generation: GenerationConfig = part(GenerationConfig)
    evaluation: EvaluationConfig = part(EvaluationConfig)

    def __post_init__(self):
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds={self.seeds}: give at least one, each once")


def w2s_config() -> ml_collections.ConfigDict:
    """Gives every field of a `PipelineConfig` with its default, for files in configs/."""
    return config_dict(PipelineConfig)


def check(config: PipelineConfig, *, devices: int | None = None) -> None:
    """Refuses a config with which some stage would fail on so many devices (None: those there are).

    Raises:
      ValueError: a model is not set, or a mesh or batch does not fit; the message names it.
    """
    for name, part_ in (("weak", config.weak), ("strong", config.strong)):
        if not part_.model:
            raise ValueError(
                f"{name}.model is not set: --config.{name}.model=NAME, a known model, a Hugging "
                "Face directory or a .gguf file"
            )
    try:
        _check_devices(config, jax.device_count() if devices is None else devices)
    except ValueError as error:
        hint = "; --dry_run --devices=N plans for other hosts" if devices is None else ""
        raise ValueError(f"{error}{hint}") from None


def _check_devices(config: PipelineConfig, devices: int) -> None:
    trained = {"weak.sft": config.weak.sft, "strong.sft": config.strong.sft}
    trained |= {f"preference.{name}": config.preference[name] for name in config.stage2.objectives}
    for name, training in trained.items():
        try:
            training.check_devices(devices)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    try:
        mesh_sizes(data=-1, tensor=config.generation.tensor, count=devices)
    except ValueError as error:
        raise ValueError(f"generation.tensor={config.generation.tensor}: {error}") from None
