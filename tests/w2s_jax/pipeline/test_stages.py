import json

import pytest

from leco_jax.configuration import build
from tests.w2s_jax.pipeline.tiny_config import get_config
from w2s_jax.pipeline import curate
from w2s_jax.pipeline.curate import rows_of
from w2s_jax.pipeline.graph import Graph, StageError, Work
from w2s_jax.pipeline.pipeline_config import PipelineConfig, Stage2Config
from w2s_jax.pipeline.problems import load_pool
from w2s_jax.pipeline.run import plan, run_pipeline
from w2s_jax.pipeline.stages import PipelineStages


def graph_of(config):
    config = build(PipelineConfig, config)
    return Graph(PipelineStages(config, 0, load_pool(config.data)).build())


@pytest.fixture(scope="module")
def graph():
    return graph_of(get_config())


def test_the_paper_s_stages_are_there_and_each_student_starts_from_the_base(graph):
    names = list(graph.stages)
    for number in (1, 2):
        for which in ("weak", "icl", "hybrid"):
            # Needs data alone: no earlier student.
            assert graph.stages[f"{which}_ft_{number}"].needs == (f"select_{number}",)
    assert graph.stages["strong_answers_1"].needs == ("splits", "demonstrations")
    # The second round's answers are the first one's students', without examples.
    assert graph.stages["weak_answers_2"].needs == ("splits", "weak_ft_1")
    assert graph.stages["strong_answers_2"].needs == ("splits", "icl_ft_1")
    assert graph.stages["select_1"].needs == ("weak_answers", "strong_answers_1", "demonstrations")
    assert graph.stages["select_2"].needs == ("weak_answers_2", "strong_answers_2")
    assert graph.stages["samples"].needs == ("splits", "hybrid_ft_2")
    # Pairs take the weak model's own answers, not the second round's.
    assert graph.stages["pairs"].needs == ("weak_answers", "samples")
    assert graph.stages["m_pro_dpo"].needs == ("pairs", "hybrid_ft_2")
    assert names[-1] == "table"


def changed_keys(**changes):
    before, config = get_config(), get_config()
    with config.unlocked():
        config.update_from_flattened_dict(changes)
    one, other = (graph_of(c).keys for c in (before, config))
    return {name for name in one if one[name] != other[name]}


@pytest.mark.heavy
def test_a_changed_pair_rule_changes_preference_training_and_nothing_before_it():
    assert changed_keys(**{"stage2.pairs_per_question": 2}) == {
        "votes", "pairs", "m_pro_dpo", "m_pro_orpo", "eval_m_pro_dpo", "eval_m_pro_orpo", "table",
    }  # fmt: skip


@pytest.mark.heavy
def test_batch_shapes_and_watching_change_no_key():
    assert changed_keys(**{
        "generation.slots": 3, "generation.chunk": 5, "generation.tensor": 2,
        "strong.sft.run.log_every": 7, "strong.sft.run.checkpoint_every": 7,
        "strong.sft.run.keep_last": 7, "strong.sft.run.eval_every": 7,
        "strong.sft.step.remat": "full", "strong.sft.step.stats": ("entropy",),
        "strong.sft.step.accumulate": 2, "strong.sft.mesh.tensor": 2,
        "preference.dpo.run.tensorboard": True, "preference.simpo.optimizer.learning_rate": 9.0,
    }) == set()  # fmt: skip


@pytest.mark.heavy
def test_the_dtype_of_answers_redoes_no_training_from_the_same_data():
    changed = changed_keys(**{"strong.dtype": "bfloat16"})
    assert {"strong_answers_1", "eval_full_weak", "samples"} <= changed
    assert not {"full_weak", "ceiling", "weak", "splits"} & changed


@pytest.mark.heavy
def test_what_training_sees_is_in_its_key():
    for name, value in (
        ("data.batch", 2), ("run.num_steps", 3), ("model.dtype", "bfloat16"), ("lora.rank", 4),
        ("held_out.rows", 2), ("optimizer.warmup_steps", 1),
    ):  # fmt: skip
        assert {"full_weak", "hybrid_ft_1"} <= changed_keys(**{f"strong.sft.{name}": value}), name


@pytest.mark.heavy
def test_a_changed_learning_rate_of_the_weak_model_leaves_the_ceiling_alone():
    changed = changed_keys(**{"weak.sft.optimizer.learning_rate": 0.5})
    assert {"weak", "weak_answers", "select_1", "m_pro_dpo", "full_weak"} <= changed
    assert not {"splits", "ceiling", "eval_ceiling"} & changed


def test_the_plan_bounds_tokens(tmp_path):
    lines = {line.stage: line for line in plan(get_config(), tmp_path)}
    assert all(line.state == "to do" for line in lines.values())
    # Twelve questions of at most 128 new tokens, four samples each, and the prompts once, but for
    # one at each of three fillings of the slots.
    assert 12 * 4 * 128 + 12 * 20 < lines["samples"].cost.tokens < 12 * 4 * 128 + 15 * 120
    assert lines["splits"].cost.tokens == 0
    # Steps x pairs x two rows x length; DPO's reference reads them too.
    assert lines["m_pro_orpo"].cost.tokens == 2 * 8 * 2 * 256
    assert lines["m_pro_dpo"].cost.tokens == 2 * lines["m_pro_orpo"].cost.tokens
    assert lines["hybrid_ft_1"].cost.tokens == 2 * 8 * 256
    assert not list(tmp_path.iterdir())


@pytest.mark.heavy
def test_training_by_epochs_is_bounded_by_whole_batches_and_stored_references(tmp_path):
    config = get_config()
    for training in (config.strong.sft, config.preference.dpo):
        training.run.num_steps, training.run.epochs = None, 3
    lines = {line.stage: line for line in plan(config, tmp_path)}
    # Hybrid: 24 rows are 3 batches of 8. DPO: 12 pairs are 2 batches, read once by the reference.
    assert lines["hybrid_ft_1"].cost.tokens == 3 * 3 * 8 * 256
    assert lines["m_pro_dpo"].cost.tokens == (3 + 1) * 2 * 8 * 2 * 256
    config.preference.dpo.reference = "frozen"
    lines = {line.stage: line for line in plan(config, tmp_path)}
    assert lines["m_pro_dpo"].cost.tokens == (3 + 3) * 2 * 8 * 2 * 256


def answers(directory, texts, *, model):
    directory.mkdir()
    with (directory / "answers.jsonl").open("w") as file:
        for name, text in texts.items():
            row = {"id": name, "question": f"{name}?", "response": text, "model": model,
                   "gold": "1", "mean_logprob": -1.0, "step_score": None}  # fmt: skip
            file.write(json.dumps(row) + "\n")
    return directory


def test_an_empty_selection_names_stage_and_counts(tmp_path):
    weak = answers(tmp_path / "weak", {"a": "1", "b": "none"}, model="w")
    strong = answers(tmp_path / "strong", {"a": "2", "b": "2"}, model="s")
    stage = curate.select_stage(
        "select_1", weak="weak", strong="strong", shown=None, pad_to=0, seed=0, kind="number"
    )
    with pytest.raises(StageError, match=r"'select_1'.*Of 2, 1 have no readable weak.*1 disagree"):
        stage.run(Work(tmp_path, {"weak": weak, "strong": strong}, lambda: False))


def test_demonstrations_among_the_kept_questions_are_counted(tmp_path):
    weak = answers(tmp_path / "weak", {"a": "1", "b": "2", "c": "3"}, model="w")
    strong = answers(tmp_path / "strong", {"a": "1", "b": "2", "c": "4"}, model="s")
    shown = tmp_path / "shown"
    shown.mkdir()
    (shown / "demonstrations.jsonl").write_text('{"id": "b"}\n{"id": "c"}\n')
    stage = curate.select_stage(
        "select_1", weak="weak", strong="strong", shown="shown", pad_to=0, seed=0, kind="number"
    )
    inputs = {"weak": weak, "strong": strong, "shown": shown}
    found = stage.run(Work(tmp_path, inputs, lambda: False))
    # c is one too, and was not kept.
    assert (found["kept"], found["demonstrations"]) == (2, 1)
    # Where no examples stood in front there is nothing to count.
    later = curate.select_stage(
        "select_2", weak="weak", strong="strong", shown=None, pad_to=0, seed=0, kind="number"
    )
    assert "demonstrations" not in later.run(Work(tmp_path, inputs, lambda: False))
    assert [row["id"] for row in rows_of(tmp_path / "weak.jsonl")] == ["a", "b"]


def test_no_pairs_is_a_clear_stop(tmp_path):
    weak = answers(tmp_path / "weak_answers", {"a": "1"}, model="w")
    samples = answers(tmp_path / "samples", {"a": "1"}, model="s")
    stage = curate.pairs_stage(
        Stage2Config(threshold=0.25).pair_rule(seed=0), confidence="step_score", kind="number"
    )
    with pytest.raises(StageError, match=r"'pairs': no pair is left \(questions 1.*no_negatives 1"):
        stage.run(Work(tmp_path, {"weak_answers": weak, "samples": samples}, lambda: False))


def test_demonstrations_are_drawn_from_all_answers_that_say_something(tmp_path):
    texts = {str(i): f"answer {i}" for i in range(6)} | {"silent": ""}
    weak = answers(tmp_path / "weak_answers", texts, model="w")
    drawn = set()
    for seed in range(20):
        stage = curate.demonstrations_stage(count=4, seed=seed)
        stage.run(Work(tmp_path, {"weak_answers": weak}, lambda: False))
        rows = rows_of(tmp_path / "demonstrations.jsonl")
        assert len({row["id"] for row in rows}) == 4
        drawn |= {row["id"] for row in rows}
    assert drawn == {str(i) for i in range(6)}
    stage = curate.demonstrations_stage(count=7, seed=0)
    with pytest.raises(StageError, match="7 are asked for, and the weak model gave 6"):
        stage.run(Work(tmp_path, {"weak_answers": weak}, lambda: False))


def test_a_rule_s_thresholds_can_be_replaced():
    def thresholds(**options):
        rule = Stage2Config(**options).pair_rule(seed=1)
        return rule.threshold, rule.weak_rejected_threshold, rule.seed

    assert thresholds() == (0.6, 0.8, 1)
    assert thresholds(rule="paper") == (0.6, 0.6, 1)
    for threshold in (0.5, 0.7):
        assert thresholds(rule="paper", threshold=threshold) == (threshold, threshold, 1)
    assert thresholds(threshold=0.5) == (0.5, 0.8, 1)
    assert thresholds(threshold=0.9) == (0.9, 0.9, 1)


def test_a_stage_alone_needs_its_inputs(tmp_path):
    with pytest.raises(StageError, match="'weak' needs splits first"):
        run_pipeline(get_config(), tmp_path, stage="weak")
    assert run_pipeline(get_config(), tmp_path, stage="splits") is None
    rows = {n: rows_of(tmp_path / "seed0" / "splits" / f"{n}.jsonl") for n in
            ("gold", "questions", "test")}  # fmt: skip
    assert {name: len(found) for name, found in rows.items()} == {
        "gold": 8, "questions": 12, "test": 6,
    }  # fmt: skip
    ids = [row["id"] for found in rows.values() for row in found]
    assert len(set(ids)) == len(ids)


def test_seeds_must_differ(tmp_path):
    config = get_config()
    config.seeds = (1, 1)
    with pytest.raises(ValueError, match=r"seeds=\(1, 1\)"):
        plan(config, tmp_path)
