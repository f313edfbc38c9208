"""DeepConf and reflective confidence on a model that takes one of three ways by chance."""

import dataclasses

import pytest

from leco_jax.decoding.engine import Engine
from leco_jax.decoding.tasks import run_tasks
from leco_jax.decoding.watch import LOW_CONFIDENCE
from leco_jax.reasoning.deepconf import DeepConfConfig, deepconf
from leco_jax.reasoning.reflective import ReflectiveConfig, reflective_confidence
from leco_jax.reasoning.self_consistency import SelfConsistencyConfig, self_consistency
from tests.leco_jax.reasoning.ways import READER, UNSURE, run_on_ways, ways_model, ways_question

OPTIONS = {"stats": ("logprob", "topk_logprob"), "topk": 2, "chunk": 1, "slots": 48}
ALL = {"samples": 40, "temperature": 1.0, "warm_up": 12, "window": 2}


@pytest.fixture(scope="module")
def model():
    return ways_model(UNSURE)


@pytest.fixture(scope="module")
def plain(model):
    """The same samples without a floor."""
    config = SelfConsistencyConfig(samples=40, temperature=1.0)
    found, engine = run_on_ways(self_consistency, model, [ways_question()], config, **OPTIONS)
    return found["0"].rounds, engine


def _unsure(rounds):
    return ["count" in one.text for one in rounds]


@pytest.fixture(scope="module")
def percentile(plain):
    """The unsure ones of the warm-up have the lowest windows: the floor lies just above them."""
    number = sum(_unsure(plain[0][:12]))
    assert 0 < number < 12
    return 100 * (number - 0.5) / 11


@pytest.mark.heavy
def test_chains_that_fall_below_the_warm_up_are_ended_and_do_not_vote(model, plain, percentile):
    config = DeepConfConfig(**ALL, percentile=percentile, consensus=None, wave=28)
    found, engine = run_on_ways(deepconf, model, [ways_question()], config, **OPTIONS)
    result = found["0"]
    before, others = plain
    assert result.rounds[:12] == before[:12]
    for own, whole in zip(result.rounds[12:], before[12:], strict=True):
        if "count" in whole.text:  # ended with the first window that shows it
            assert (own.finish, own.sampled, own.answer) == (LOW_CONFIDENCE, 2, None)
        else:
            assert own == whole
    assert engine.counters.sampled < others.counters.sampled
    # Those of the warm-up that would have been ended do not vote: they turned the vote.
    answers = [one.answer for one in result.rounds if "count" not in one.text]
    assert result.answer == max(set(answers), key=answers.count)
    assert (result.stopped, result.cost.calls, result.cost.rounds) == ("samples", 40, 2)


@pytest.mark.heavy
def test_drawing_ends_with_the_wave_in_which_the_votes_agree(model, percentile):
    config = DeepConfConfig(**ALL, percentile=percentile, wave=4, consensus=0.5)
    found, _ = run_on_ways(deepconf, model, [ways_question()], config, **OPTIONS)
    assert found["0"].stopped == "stable"
    assert len(found["0"].rounds) in range(12, 40, 4)


@pytest.mark.heavy
def test_a_chain_of_low_confidence_goes_on_with_a_reflection(model, plain, percentile):
    config = ReflectiveConfig(**ALL, percentile=percentile, reflection="P")
    found, _ = run_on_ways(reflective_confidence, model, [ways_question()], config, **OPTIONS)
    result = found["0"]
    rounds = iter(result.rounds)
    assert [next(rounds) for _ in range(12)] == plain[0][:12]
    for whole in plain[0][12:]:
        own = next(rounds)
        if "count" in whole.text:
            assert (own.finish, own.sampled) == (LOW_CONFIDENCE, 2)
            again = next(rounds)
            assert (again.kept, again.appended) == (2, 1)
            assert again.text.startswith(own.text + "P")
            assert again.finish != LOW_CONFIDENCE
        else:
            assert own == whole
    assert next(rounds, None) is None
    assert result.cost.rounds == 3


def test_a_floor_needs_its_figure_captured(model):
    engine = Engine(model, slots=2, max_length=32)
    config = DeepConfConfig(samples=3, warm_up=2)
    for method in (deepconf, reflective_confidence):
        own = config if method is deepconf else ReflectiveConfig(samples=3, warm_up=2)
        (outcome,) = run_tasks(engine, [(0, method(engine, READER, ways_question(), own))])
        assert "topk_logprob" in str(outcome.error)
    assert config.stats == ("topk_logprob",)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"warm_up": 64}, "warm_up=64 must be less than samples=64"),
        ({"warm_up": 0}, "warm_up=0 must be at least 1"),
        ({"percentile": 101.0}, "percentile=101.0 must lie in"),
        ({"window": 0}, "window=0 must be at least 1"),
        ({"wave": 0}, "wave=0 must be at least 1"),
        ({"consensus": 1.5}, "consensus=1.5 must lie in"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        DeepConfConfig(**options)
    assert dataclasses.replace(DeepConfConfig(), consensus=None).consensus is None
