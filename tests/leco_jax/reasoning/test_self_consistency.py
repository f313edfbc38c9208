"""Self-consistency on a model that takes one of two ways by chance."""

import dataclasses

import pytest

from leco_jax.decoding.engine import Engine
from leco_jax.decoding.request import Sampling
from leco_jax.decoding.tasks import run_tasks
from leco_jax.reasoning.cot import chain_of_thought
from leco_jax.reasoning.self_consistency import SelfConsistencyConfig, self_consistency
from tests.leco_jax.reasoning.ways import (
    READER,
    TOKENIZER,
    run_on_ways,
    ways_model,
    ways_question,
)


@pytest.fixture(scope="module")
def model():
    return ways_model()


def _run(model, questions, config, **options):
    return run_on_ways(self_consistency, model, questions, config, **options)


@pytest.mark.heavy
def test_the_majority_corrects_what_greedy_decoding_gets_wrong(model):
    engine = Engine(model, slots=2, max_length=32, stop_ids=TOKENIZER.eos_ids, chunk=2)
    greedy = [(0, chain_of_thought(engine, READER, ways_question()))]
    assert next(run_tasks(engine, greedy)).result.answer == "5"

    config = SelfConsistencyConfig(samples=41, temperature=1.0)
    results, engine = _run(model, [ways_question()], config)
    result = results["0"]
    answers = [r.answer for r in result.rounds]
    assert len(answers) == 41
    assert 0 < answers.count("5") < answers.count("4")
    assert (result.answer, result.correct) == ("4", True)
    assert result.first_correct == (answers[0] == "4")
    assert (result.method, result.stopped, result.independent) == (
        "self_consistency", "samples", True,
    )  # fmt: skip
    assert result.settings == dataclasses.asdict(config) | {"seed": 0, "sample": 0}
    assert result.settings["samples"] == 41
    assert result.rounds[0].steps[0].text.startswith("Step 1: ")
    assert engine.counters.sampled == sum(r.sampled for r in result.rounds) == 41 * 4
    assert engine.counters.prefilled == 1  # one prompt, its last token decoded, for all samples
    assert engine.counters.reused == 40


@pytest.mark.heavy
def test_a_sample_depends_on_its_number_and_problem_alone(model):
    config = SelfConsistencyConfig(samples=12, temperature=1.0)
    alone, _ = _run(model, [ways_question(3)], config, slots=4)
    questions = [ways_question(i) for i in range(6)]
    together, _ = _run(model, questions, config, slots=4)
    assert together["3"] == alone["3"]
    texts = {key: [r.text for r in result.rounds] for key, result in together.items()}
    assert len({tuple(t) for t in texts.values()}) > 1  # chance differs from problem to problem

    fewer, _ = _run(model, [ways_question(3)], dataclasses.replace(config, samples=5), slots=4)
    assert fewer["3"].rounds == alone["3"].rounds[:5]
    later, _ = _run(model, [ways_question(3, sample=5)], dataclasses.replace(config, samples=7))
    assert later["3"].rounds == alone["3"].rounds[5:]
    other, _ = _run(model, [ways_question(3, seed=1)], config, slots=4)
    assert other["3"].rounds != alone["3"].rounds


def test_the_questions_own_truncation_stays(model):
    narrow = ways_question(sampling=Sampling(top_k=1))
    results, _ = _run(model, [narrow], SelfConsistencyConfig(samples=6, temperature=5.0))
    assert {r.answer for r in results["0"].rounds} == {"5"}


def test_answers_that_cannot_be_read_and_gold_that_is_unknown(model):
    short = dataclasses.replace(ways_question(gold=None).request, max_new_tokens=1)
    question = dataclasses.replace(ways_question(gold=None), request=short)
    results, _ = _run(model, [question], SelfConsistencyConfig(samples=3))
    result = results["0"]
    assert (result.answer, result.correct, result.first_correct) == (None, None, None)
    assert [r.finish for r in result.rounds] == ["length"] * 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 0}, "samples=0 must be at least 1"),
        ({"samples": 2.5}, "samples is 2.5, a float"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SelfConsistencyConfig(**options)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_samples_need_a_temperature(temperature):
    with pytest.raises(ValueError, match="temperature="):
        SelfConsistencyConfig(temperature=temperature)
