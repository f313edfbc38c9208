"""A config refuses what no model can be."""

import pytest

from leco_jax.models.architectures import PRESETS, preset
from leco_jax.models.config import ModelConfig, RopeConfig
from leco_jax.models.weights import weight_table

TINY = PRESETS["tiny"]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("num_layers", 0, "num_layers=0"),
        ("num_kv_heads", 3, "num_heads=4 is not a multiple of num_kv_heads=3"),
        ("head_width", 7, "head_width=7 must be even"),
        ("activation", "relu", "'relu'"),
        ("norms", "none", "norms 'none' is not one of before, after, both"),
        ("global_every", 2, "global_every=2 without a sliding_window"),
        ("local_rope_theta", 1e4, "local_rope_theta=10000.0 without a sliding_window"),
        ("attention_soft_cap", 0.0, "attention_soft_cap=0.0"),
        ("score_width", 1.5, "score_width=1.5"),
        ("no_rope_every", 0, "no_rope_every=0"),
        ("qk_norm", "all", "qk_norm 'all' is not one of none, head, projection"),
        ("sliding_window", 0, "sliding_window=0"),
        ("logit_soft_cap", -1.0, "logit_soft_cap=-1.0"),
        ("valid_vocab", 257, "valid_vocab=257 lies outside 1..256"),
        ("dtype", "int32", "dtype='int32'"),
    ],
)
def test_bad_field_is_named(field, value, message):
    with pytest.raises(ValueError, match=message):
        TINY.replace(**{field: value})


@pytest.mark.parametrize("bad", [{"scaling": "longrope"}, {"theta": 0.0}, {"factor": -2.0}])
def test_bad_rope(bad):
    with pytest.raises(ValueError, match="rope"):
        RopeConfig(**bad)


def test_every_nth_layer_is_global_and_has_the_rope_of_its_own():
    config = TINY.replace(num_layers=5, sliding_window=3, global_every=2, local_rope_theta=100.0)
    assert config.layer_windows == (3, None, 3, None, 3)
    local = RopeConfig(theta=100.0)
    assert config.layer_ropes == (local, config.rope, local, config.rope, local)
    config = TINY.replace(num_layers=5, no_rope_every=2)
    assert config.layer_ropes == (TINY.rope, None, TINY.rope, None, TINY.rope)
    assert TINY.layer_windows == (None, None)
    assert TINY.replace(sliding_window=3).layer_windows == (3, 3)


def test_configs_are_hashable_and_equal_by_value():
    assert hash(TINY) == hash(ModelConfig(**vars(TINY)))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [  # as counted from the published checkpoints
        ("smollm2_135m", 134_515_008),
        ("llama2_7b", 6_738_415_616),
        ("llama2_13b", 13_015_864_320),
        ("llama2_70b", 68_976_648_192),
        ("llama3_8b", 8_030_261_248),
        ("llama3_70b", 70_553_706_496),
        ("mistral_7b", 7_241_732_096),
        ("gemma_2b", 2_506_172_416),
        ("gemma2_2b", 2_614_341_888),
        ("gemma2_27b", 27_227_128_320),
        ("gemma3_1b", 999_885_952),
        ("olmo2_7b", 7_298_617_344),
        ("smollm3_3b", 3_075_098_624),
        ("phi3_mini", 3_821_079_552),
        ("phi4", 14_659_507_200),
        ("qwen2_7b", 7_615_616_512),
        ("qwen25_7b", 7_615_616_512),
        ("qwen25_500m", 494_032_768),
        ("llama31_8b", 8_030_261_248),
        ("llama31_70b", 70_553_706_496),
        ("llama32_1b", 1_235_814_400),
        ("mistral_7b_v03", 7_248_023_552),
        ("qwen3_600m", 596_049_920),
        ("qwen3_8b", 8_190_735_360),
    ],
)
def test_presets_have_the_published_number_of_parameters(name, parameters):
    def count(shape):
        total = 1
        for size in shape:
            total *= size
        return total

    assert sum(count(w.shape) for w in weight_table(preset(name)).values()) == parameters


def test_unknown_preset_lists_those_there_are():
    with pytest.raises(ValueError, match=r"'llama9'.*gemma_2b.*tiny"):
        preset("llama9")


def test_preset_with_changes():
    assert preset("tiny", num_layers=5) == TINY.replace(num_layers=5)
