"""A training run's config: what each field means stands with the dataclass that it belongs to."""

import dataclasses

import ml_collections

from leco_jax.configuration import at_least, check, config_dict, part
from leco_jax.models.lora import LoraConfig
from w2s_jax.training.data import Template
from w2s_jax.training.loop import RunConfig
from w2s_jax.training.objectives import Objective
from w2s_jax.training.optimizer import OptimizerConfig
from w2s_jax.training.train_step import StepConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class StartConfig:
    """The weights that training starts from.

    Attributes:
      name: a known model, a directory or a .gguf file; None or "": `preset` instead.
      preset: fresh weights of this shape (see `leco_jax.models.architectures`).
      tokenizer: with a preset: a tokenizer file or directory.
      checkpoint: workdir of an earlier run, whose trained weights this one goes on from.
      dtype: of matrix products.
      param_dtype: in which weights are kept and updated.
    """

    name: str | None = "smollm2-135m-instruct"
    preset: str | None = None
    tokenizer: str | None = None
    checkpoint: str | None = None
    dtype: str = "float32"
    param_dtype: str = "float32"


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig(Template):
    """The rows of training; the templates are `Template`'s.

    Attributes:
      source: a .jsonl file, or the name of a data set ("gsm8k", with question and solution).
      split: of a data set.
      dir: where a data set's files are; None: in the cache.
      limit: rows to read; None: all.
      chat: put the prompt into the tokenizer's chat template.
      length: positions of a row.
      batch: rows (pairs) of a train step.
      packed: several examples in a row (SFT).
    """

    source: str | None = None
    split: str = "train"
    dir: str | None = None
    limit: int | None = None
    chat: bool = False
    length: int = 512
    batch: int = 8
    packed: bool = False

    def __post_init__(self):
        check(self)
        at_least(self, length=1, batch=1)
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit={self.limit} must be at least 1, or None for all rows")


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeldOutConfig:
    """The rows of evaluation: some of training's, or a source of their own.

    Attributes:
      rows: rows kept from training.
      source: read as `DataConfig.source`, with its templates.
      split: of a data set.
      limit: rows to read from `source`; None: all.
    """

    rows: int = 0
    source: str | None = None
    split: str = "test"
    limit: int | None = None

    def __post_init__(self):
        if self.rows and self.source:
            raise ValueError("give either rows or source, not both")
        at_least(self, rows=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshConfig:
    """Devices along each mesh axis; -1: all that are left (see `leco_jax.models.sharding`)."""

    data: int = 1
    fsdp: int = -1
    tensor: int = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """All that `launchers/sft.py` and `launchers/dpo.py` know.

    Attributes:
      seed: of the data's order, of fresh weights and adapters, and of dropout.
      reference: where a preference loss finds its reference: "frozen", "lora_off", "stored" (see
        `StepConfig`) or "none"; "auto": "none" if the objective has no use for one, else "lora_off"
        with LoRA and "stored" without.
    """

    seed: int = 0
    model: StartConfig = part(StartConfig)
    lora: LoraConfig = part(LoraConfig, rank=0)
    data: DataConfig = part(DataConfig)
    held_out: HeldOutConfig = part(HeldOutConfig)
    objective: Objective = part(Objective)
    reference: str = "auto"
    optimizer: OptimizerConfig = part(OptimizerConfig)
    step: StepConfig = part(StepConfig)
    run: RunConfig = part(RunConfig)
    mesh: MeshConfig = part(MeshConfig)


def training_config() -> ml_collections.ConfigDict:
    """Gives every field of a `TrainingConfig` with its default, for files in configs/."""
    return config_dict(TrainingConfig)
