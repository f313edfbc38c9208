"""A training run's config: what each field means stands with the dataclass that it belongs to."""

import dataclasses

import ml_collections

from leco_jax.configuration import at_least, check, config_dict, part
from leco_jax.models.lora import LoraConfig
from leco_jax.models.sharding import mesh_sizes
from w2s_jax.training.data import Template
from w2s_jax.training.loop import RunConfig
from w2s_jax.training.objectives import Objective
from w2s_jax.training.optimizer import OptimizerConfig
from w2s_jax.training.train_step import StepConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class StartConfig:
    """The weights that training starts from."""

    # a known model, a directory or a .gguf file; None or "": `preset` instead
    name: str | None = "smollm2-135m-instruct"
    preset: str | None = None  # fresh weights of this shape (see `leco_jax.models.architectures`)
    tokenizer: str | None = None  # with a preset: a tokenizer file or directory
    # workdir of an earlier run, whose trained weights this one goes on from
    checkpoint: str | None = None
    dtype: str = "float32"  # of matrix products
    param_dtype: str = "float32"  # in which weights are kept and updated


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig(Template):
    """The rows of training; the templates are `Template`'s."""

    # a .jsonl file, or the name of a data set ("gsm8k", with question and solution)
    source: str | None = None
    split: str = "train"  # of a data set
    dir: str | None = None  # where a data set's files are; None: in the cache
    limit: int | None = None  # rows to read; None: all
    chat: bool = False  # put the prompt into the tokenizer's chat template
    length: int = 512  # positions of a row
    batch: int = 8  # rows (pairs) of a train step
    packed: bool = False  # several examples in a row (SFT)

    def __post_init__(self):
        check(self)
        at_least(self, length=1, batch=1)
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit={self.limit} must be at least 1, or None for all rows")


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeldOutConfig:
    """The rows of evaluation: some of training's, or a source of their own."""

    rows: int = 0  # rows kept from training
    source: str | None = None  # read as `DataConfig.source`, with its templates
    split: str = "test"  # of a data set
    limit: int | None = None  # rows to read from `source`; None: all

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
    """All that `launchers/sft.py` and `launchers/dpo.py` know."""

    seed: int = 0  # of the data's order, of fresh weights and adapters, and of dropout
    model: StartConfig = part(StartConfig)
    lora: LoraConfig = part(LoraConfig, rank=0)
    data: DataConfig = part(DataConfig)
    held_out: HeldOutConfig = part(HeldOutConfig)
    objective: Objective = part(Objective)
    # where a preference loss finds its reference: "frozen", "lora_off", "stored" (see `StepConfig`)
    # or "none"; "auto": "none" if the objective has no use for one, else "lora_off" with LoRA and
    # "stored" without
    reference: str = "auto"
    optimizer: OptimizerConfig = part(OptimizerConfig)
    step: StepConfig = part(StepConfig)
    run: RunConfig = part(RunConfig)
    mesh: MeshConfig = part(MeshConfig)

    def check_devices(self, count: int) -> None:
        """Raises a ValueError if `count` devices are not a mesh, or cannot share out a batch."""
        data, fsdp, _ = mesh_sizes(**dataclasses.asdict(self.mesh), count=count)
        least = data * fsdp * self.step.accumulate
        if self.data.batch % least:
            raise ValueError(
                f"data.batch={self.data.batch} is not a multiple of {least}: data x fsdp = "
                f"{data * fsdp} of {count} devices, times step.accumulate={self.step.accumulate}. "
                "Give a multiple, or mesh.tensor a part of the devices"
            )


def training_config() -> ml_collections.ConfigDict:
    """Gives every field of a `TrainingConfig` with its default, for files in configs/."""
    return config_dict(TrainingConfig)
