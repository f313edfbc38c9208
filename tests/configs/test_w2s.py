"""The weak-to-strong configs hold what they say, on the hardware that they name."""

from pathlib import Path

import pytest

from configs import (
    w2s_demo,
    w2s_llama2_gsm8k,
    w2s_llama2_math,
    w2s_llama3_olympic,
    w2s_smollm2,
)
from leco_jax.configuration import build
from w2s_jax.pipeline.pipeline_config import PipelineConfig, check

CONFIGS = Path(__file__).parents[2] / "configs"
DEVICES = {
    w2s_demo: 1,
    w2s_smollm2: 1,
    w2s_llama2_gsm8k: 4,
    w2s_llama2_math: 4,
    w2s_llama3_olympic: 4,
}


def test_every_config_is_looked_at():
    assert {path.stem for path in CONFIGS.glob("w2s_*.py")} == {
        module.__name__.removeprefix("configs.") for module in DEVICES
    }


@pytest.mark.parametrize(("module", "devices"), DEVICES.items())
def test_it_passes_the_check_on_its_devices_and_trains_on_whole_answers(module, devices):
    config = module.get_config()
    for part in ("weak", "strong"):
        config[part].model = config[part].model or "directory"
    check(build(PipelineConfig, config), devices=devices)
    for training in (config.weak.sft, config.strong.sft, *config.preference.values()):
        assert training.data.length > config.generation.max_new_tokens
    if devices > 1:
        # Sixteen chips want a larger batch, or a tensor axis.
        with pytest.raises(ValueError, match=r"batch=8 is not a multiple of 16: data x fsdp = 16"):
            check(build(PipelineConfig, config), devices=16)
        for training in (config.strong.sft, *config.preference.values()):
            assert (training.model.param_dtype, training.lora.rank) == ("bfloat16", 8)
