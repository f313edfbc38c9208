"""What a pipeline's config may not say is refused before anything is loaded or run."""

import pytest

from leco_jax.configuration import build
from tests.w2s_jax.pipeline.tiny_config import get_config
from w2s_jax.pipeline.pipeline_config import PipelineConfig, check
from w2s_jax.pipeline.run import plan


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("stage1.rounds", 0, r"config.stage1: rounds=0 must be at least 1"),
        ("stage2.samples", 0, r"config.stage2: samples=0 must be at least 1"),
        ("evaluation.samples", -1, r"config.evaluation: samples=-1"),
        ("weak.model", "", r"weak.model is not set: --config.weak.model=NAME"),
        ("strong.model", "", r"strong.model is not set"),
        ("stage2.objectives", ("sft",), r"objectives=\('sft',\): give one or more of dpo"),
        ("stage2.objectives", (), r"objectives=\(\)"),
        ("stage2.objectives", ("dpo", "dpo"), r"each once"),
        ("stage2.rule", "other", r"stage2: rule='other' is not one of paper, official_code"),
        ("stage2.vote", "other", r"stage2: vote='other' is not one of count"),
        ("stage2.confidence", "other", r"stage2: confidence='other'"),
        ("data.remove", "(", r"data: remove='\(' is not a valid pattern"),
        ("data.prompt", "Question:", r"must hold \{question\}"),
        ("strong.sft.data.batch", 6, r"strong.sft: data.batch=6 is not a multiple .* 4 of 4"),
        ("preference.dpo.mesh.fsdp", 3, r"preference.dpo: mesh .* fsdp=3.* does not fit 4"),
        ("generation.tensor", 3, r"generation.tensor=3: .* does not fit 4 devices"),
    ],
)
def test_it_is_named(name, value, message):
    config = get_config()
    with config.unlocked(), config.ignore_type():
        config.update_from_flattened_dict({name: value})
    with pytest.raises(ValueError, match=message):
        check(build(PipelineConfig, config), devices=4)


def test_devices_that_are_not_there_can_be_planned_for():
    config = get_config()
    config.generation.tensor = 64
    with pytest.raises(ValueError, match=r"does not fit \d+ devices.*; --dry_run --devices=N"):
        check(build(PipelineConfig, config))
    for training in (config.weak.sft, config.strong.sft, *config.preference.values()):
        training.mesh.tensor = 64
    check(build(PipelineConfig, config), devices=64)


@pytest.mark.heavy
def test_relatives_of_dpo_are_stages_too(tmp_path):
    config = get_config()
    config.stage2.objectives = ("simpo", "ipo")
    stages = {line.stage: line for line in plan(config, tmp_path)}
    assert {"m_pro_simpo", "eval_m_pro_ipo"} <= set(stages)
    # IPO has a reference that reads the pairs too, SimPO has none.
    assert stages["m_pro_ipo"].cost.tokens == 2 * stages["m_pro_simpo"].cost.tokens


@pytest.mark.heavy
def test_a_plan_is_of_the_stages_that_would_run(tmp_path):
    def names(**chosen):
        return [line.stage for line in plan(get_config(), tmp_path, **chosen)]

    assert names(until="weak_answers") == ["splits", "weak", "weak_answers"]
    assert names(stage="pairs") == ["pairs"]
    assert len(names()) == 36
    with pytest.raises(ValueError, match="either a stage alone or a stage to run until"):
        names(stage="pairs", until="pairs")
    with pytest.raises(ValueError, match="no stage 'other'"):
        names(stage="other")
