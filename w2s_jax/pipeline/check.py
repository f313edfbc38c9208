"""A pipeline's config, looked over before a stage is built."""

import re
from typing import Any

import jax

from leco_jax.models.sharding import mesh_sizes
from w2s_jax.curation import PAIR_RULES, VOTE_METHODS
from w2s_jax.pipeline.curate import CONFIDENCES, pair_rule
from w2s_jax.pipeline.generate import PromptLayout
from w2s_jax.training.objectives import PREFERENCE

# Least value of each count.
_LEAST = {
    "stage1.rounds": 1,
    "stage1.demonstrations": 0,
    "stage1.pad_to": 0,
    "stage2.samples": 1,
    "generation.max_new_tokens": 1,
    "generation.slots": 1,
    "generation.chunk": 1,
    "evaluation.samples": 0,
    "evaluation.resamples": 1,
    "data.test_questions": 0,
}


def check(config: Any, *, devices: int | None = None) -> None:
    """Refuses a config with which some stage would fail.

    Args:
      config: see `w2s_jax.pipeline.pipeline_config.w2s_config`.
      devices: how many there will be; None: as many as there are.

    Raises:
      ValueError: a value is impossible; the message names it.
    """
    if not config.seeds or len(set(config.seeds)) < len(config.seeds):
        raise ValueError(f"seeds={tuple(config.seeds)}: give at least one, each once")
    for part in ("weak", "strong"):
        if not config[part].model:
            raise ValueError(
                f"{part}.model is empty: --config.{part}.model=NAME, a known model, a Hugging Face "
                "directory or a .gguf file"
            )
    for name, least in _LEAST.items():
        part, field = name.split(".")
        if config[part][field] < least:
            raise ValueError(f"{name}={config[part][field]} must be at least {least}")
    try:
        re.compile(config.data.remove)
    except re.error as error:
        raise ValueError(f"data.remove={config.data.remove!r} is no pattern: {error}") from None
    PromptLayout(config.data.prompt)
    _check_stage2(config.stage2)
    try:
        _check_devices(config, jax.device_count() if devices is None else devices)
    except ValueError as error:
        hint = "; --dry_run --devices=N plans for other hosts" if devices is None else ""
        raise ValueError(f"{error}{hint}") from None


def _check_stage2(stage2: Any) -> None:
    for name, known in (
        ("rule", PAIR_RULES), ("vote", VOTE_METHODS), ("confidence", CONFIDENCES)
    ):  # fmt: skip
        if stage2[name] not in known:
            raise ValueError(f"stage2.{name}={stage2[name]!r} is none of {', '.join(known)}")
    pair_rule(stage2, seed=0)
    wanted = tuple(stage2.objectives)
    if not wanted or len(set(wanted)) < len(wanted) or not set(wanted) <= set(PREFERENCE):
        raise ValueError(
            f"stage2.objectives={wanted}: give one or more of {', '.join(PREFERENCE)}, each once"
        )


def _check_devices(config: Any, devices: int) -> None:
    trained = {"weak.sft": config.weak.sft, "strong.sft": config.strong.sft}
    trained |= {f"preference.{name}": config.preference[name] for name in config.stage2.objectives}
    for name, training in trained.items():
        try:
            data, fsdp, _ = mesh_sizes(**training.mesh, count=devices)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        if training.data.batch % (data * fsdp):
            raise ValueError(
                f"{name}.data.batch={training.data.batch} cannot be spread over data x fsdp = "
                f"{data * fsdp} of {devices} devices: give a multiple, or mesh.tensor a part of "
                "them"
            )
    try:
        mesh_sizes(data=-1, tensor=config.generation.tensor, count=devices)
    except ValueError as error:
        raise ValueError(f"generation.tensor={config.generation.tensor}: {error}") from None
