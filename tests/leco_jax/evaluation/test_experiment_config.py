import ast
import dataclasses
import importlib
import inspect
import json
from pathlib import Path

import pytest

from leco_jax.configuration import as_json, build
from leco_jax.evaluation import experiment_config as module
from leco_jax.evaluation.experiment import run_experiment
from leco_jax.evaluation.experiment_config import METHODS, ExperimentConfig, experiment_config
from leco_jax.evaluation.questions import PROMPTS
from leco_jax.reasoning.checking import Checks
from leco_jax.reasoning.correct import CorrectConfig
from leco_jax.reasoning.fork import ForkConfig
from leco_jax.reasoning.leco import LecoConfig
from leco_jax.reasoning.self_consistency import SelfConsistencyConfig
from leco_jax.scoring.presets import PRESETS

CONFIGS = Path(__file__).parents[3] / "configs"


def test_the_defaults_are_those_of_the_dataclasses_that_the_methods_take():
    config = build(ExperimentConfig, experiment_config())
    assert config == ExperimentConfig()
    assert config.options("leco") == LecoConfig(policy="avoid")
    assert config.options("self_consistency") == SelfConsistencyConfig()
    assert {name: config.options(name).passes for name in METHODS} == {
        "cot": 1, "leco": 4, "leco_early_stop": 4, "leco_average": 4, "leco_divergence": 4,
        "leco_transition": 4, "leco_samples": 4, "self_consistency": 1, "adaptive": 1,
        "deepconf": 1, "reflective": 2, "rci": 5, "cot_decoding": 2, "fork": 2, "fork_checked": 2,
        "act_stop": 2, "act_reflect": 2, "act_roll_back": 2, "act_fork": 2, "correct": 5,
    }  # fmt: skip
    assert config.generation.truncated == "unanswered"
    assert build(ExperimentConfig, json.loads(json.dumps(as_json(config)))) == config


def test_no_default_is_written_twice():
    tree = ast.parse(inspect.getsource(module))
    here = [
        node.target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    ]
    taken = [LecoConfig, SelfConsistencyConfig, ForkConfig, CorrectConfig, module.Sampling]
    elsewhere = [field.name for config in taken for field in dataclasses.fields(config)]
    assert set(here) & set(elsewhere) == set()


def test_options_come_from_the_config():
    config = experiment_config()
    config.self_consistency.samples = 3
    config.leco.max_rethinks = 5
    config.leco.online_margin = 0.5
    config.generation.temperature = 0.5
    config.data.limit = 7
    config.fork.checks.names = ("repeats",)
    config.fork.checks.filter = True
    config.fork_checked.forks = 2
    made = build(ExperimentConfig, config)
    assert made.options("self_consistency") == SelfConsistencyConfig(samples=3)
    assert made.options("leco").passes == 6
    assert made.options("leco").online_margin == 0.5
    assert made.generation.sampling.temperature == 0.5
    assert made.data.limit == 7
    assert made.options("fork") == ForkConfig(checks=Checks(names=("repeats",), filter=True))
    gated = Checks(names=("arithmetic",), gate=True, filter=True)
    assert made.options("fork_checked") == ForkConfig(forks=2, checks=gated)


def test_a_preset_sets_the_rules_that_nobody_chose():
    options = LecoConfig(policy="avoid", preset="official_code").with_rules()
    assert (options.cut_rule, options.final_rule) == ("earlier_of_two_weakest", "weighted_vote")
    options = LecoConfig(policy="avoid", preset="official_code", final_rule="last").with_rules()
    assert (options.cut_rule, options.final_rule) == ("earlier_of_two_weakest", "last")
    assert all(LecoConfig(policy="avoid", preset=name).with_rules().cut_rule for name in PRESETS)


def test_tau_and_k_replace_those_of_the_preset():
    assert LecoConfig(policy="avoid").step_preset == PRESETS["paper"]
    own = LecoConfig(policy="avoid", preset="official_code", tau=0.5, heading_tokens=2).step_preset
    assert (own.tau, own.heading_tokens, own.label) == (0.5, 2, "include")


def test_forks_that_write_all_may_look_at_the_processed_distribution():
    config = ExperimentConfig(
        methods=("fork",),
        fork=ForkConfig(settled=False),
        engine=module.EngineOptions(capture="processed"),
    )
    assert not config.fork.bounds


def test_every_way_to_ask_can_be_configured():
    assert all(ExperimentConfig(prompt=name).prompt == name for name in PROMPTS)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("leco_*.py")), ids=lambda p: p.stem)
def test_every_config_of_an_experiment_can_be_built(path):
    config = build(ExperimentConfig, importlib.import_module(f"configs.{path.stem}").get_config())
    assert isinstance(config, ExperimentConfig)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"methods": ("luck",)}, "'luck' is not one of cot, leco, leco_early_stop"),
        ({"methods": ()}, "config: methods is empty"),
        ({"methods": ("cot", "cot")}, "names one of them twice"),
        ({"prompt": "poem"}, "config.prompt='poem' is not one of chat, few_shot, few_shot_c"),
        ({"data.limit": 0}, "config.data: limit=0 must be at least 1, or None"),
        ({"engine.chunk": 0}, "config.engine: chunk=0 must be at least 1"),
        ({"engine.capture": "cooked"}, "config.engine.capture='cooked' is not one of raw, proc"),
        ({"engine.stats": ("luck",)}, "stats: 'luck' is not one of logprob, entropy"),
        (
            {"engine.capture": "processed", "methods": ("cot", "fork_checked")},
            r"fork_checked\.settled=True reckons with the model's own probabilities",
        ),
        ({"leco.tau": 0.0}, r"config\.leco: tau=0\.0 must be above 0"),
        ({"generation.truncated": "maybe"}, "truncated='maybe' is not one of unanswered, read"),
        ({"generation.top_p": 0.0}, "config.generation: top_p=0.0"),
        ({"leco.policy": "luck"}, "config.leco.policy='luck'"),
        ({"leco.preset": "luck"}, "config.leco.preset='luck' is not one of paper, official_code"),
        ({"fork.checks.gate": True}, "config.fork.checks: gate=True needs a check"),
        ({"fork.forks": 0}, "config.fork: forks=0 must be at least 1"),
        ({"self_consistency.samples": 0}, "config.self_consistency: samples=0 must be at least"),
        ({"self_consistency.temperature": 0.0}, "config.self_consistency: temperature=0.0 must"),
    ],
)
def test_what_is_wrong_is_named_before_anything_is_written(fields, message, tmp_path):
    config = experiment_config()
    config.update_from_flattened_dict(fields)
    with pytest.raises(ValueError, match=message):
        run_experiment(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
