import dataclasses
import importlib
from pathlib import Path

import pytest

from leco_jax.evaluation.experiment import run_experiment
from leco_jax.evaluation.experiment_config import experiment_config
from leco_jax.evaluation.methods import METHODS, method_options
from leco_jax.reasoning.leco import LecoConfig, preset_rules
from leco_jax.reasoning.self_consistency import SelfConsistencyConfig
from leco_jax.scoring.presets import PRESETS

CONFIGS = Path(__file__).parents[3] / "configs"


def _fields(config):
    return {
        (name, key) if isinstance(value, dict) else name
        for name, value in config.to_dict().items()
        for key in (value if isinstance(value, dict) else [None])
    }


def test_the_default_config_holds_every_option_of_every_method():
    config = experiment_config()
    assert method_options("cot", config) is None
    assert method_options("leco", config) == LecoConfig(policy="avoid")
    assert method_options("self_consistency", config) == SelfConsistencyConfig()
    for name, method in METHODS.items():
        if method.options is not None:
            known = {field.name for field in dataclasses.fields(method.options)}
            assert set(config[name]) - {"preset"} == known, name


def test_options_come_from_the_config():
    config = experiment_config()
    config.self_consistency.samples = 3
    config.self_consistency.temperature = 1.0
    config.leco.max_rethinks = 5
    assert method_options("self_consistency", config) == SelfConsistencyConfig(
        samples=3, temperature=1.0
    )
    passes = {name: m.passes(method_options(name, config)) for name, m in METHODS.items()}
    assert passes == {"cot": 1, "leco": 6, "self_consistency": 1}


def test_a_preset_sets_the_rules_that_nobody_chose():
    config = experiment_config()
    config.leco.preset = "official_code"
    options = method_options("leco", config)
    assert (options.cut_rule, options.final_rule) == ("earlier_of_two_weakest", "weighted_vote")
    config.leco.final_rule = "last"
    options = method_options("leco", config)
    assert (options.cut_rule, options.final_rule) == ("earlier_of_two_weakest", "last")
    assert all(preset_rules(preset) for preset in PRESETS)
    config.leco.preset = "luck"
    with pytest.raises(ValueError, match="preset='luck' is none of paper, official_code"):
        method_options("leco", config)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("leco_*.py")), ids=lambda p: p.stem)
def test_every_config_of_an_experiment_has_its_fields_and_no_others(path):
    config = importlib.import_module(f"configs.{path.stem}").get_config()
    assert _fields(config) == _fields(experiment_config())
    for name in config.methods:
        method_options(name, config)


def _without(name):
    config = experiment_config()
    config.methods = ("self_consistency",)
    if name.endswith(".temperature"):
        del config.self_consistency.temperature
    else:
        del config[name]
    return config


def _with(section, **values):
    config = experiment_config()
    config.methods = ("cot", "leco", "self_consistency")
    with config.unlocked():
        (config[section] if section else config).update(values)
    return config


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (_with("", methods=("luck",)), "'luck' is none of cot, leco, self_consistency"),
        (_with("", methods=()), "config.methods is empty"),
        (_with("", methods=("cot", "cot")), "names one of them twice"),
        (_with("", prompt="poem"), "config.prompt='poem' is none of chat, few_shot, question"),
        (_with("leco", policy="luck"), "config.leco: policy='luck'"),
        (_with("self_consistency", samples=0), "config.self_consistency: samples must be at least"),
        (_with("self_consistency", temperature=0.0), "config.self_consistency: temperature must"),
        (_without("self_consistency"), "config.self_consistency is missing"),
        (_without("self_consistency.temperature"), "config.self_consistency lacks temperature"),
    ],
)
def test_what_is_wrong_is_named_before_anything_is_written(config, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        run_experiment(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
