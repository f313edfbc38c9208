"""Self-consistency on a model that takes one of two ways by chance."""

import dataclasses
from fractions import Fraction

import pytest

from leco_jax.decoding.engine import Engine
from leco_jax.decoding.request import Request, Sampling
from leco_jax.decoding.tasks import run_tasks
from leco_jax.decoding.watch import LOW_CONFIDENCE
from leco_jax.reasoning.chain_reader import ChainReader
from leco_jax.reasoning.cot import chain_of_thought
from leco_jax.reasoning.question import Question
from leco_jax.reasoning.self_consistency import SelfConsistencyConfig, self_consistency
from leco_jax.scoring.presets import PRESETS
from tests.leco_jax.reasoning.scripted import Pieces, scripted_model

# The likeliest first step leads to the wrong answer, but most ways lead to the right one.
PIECES = [
    "P", "Q", "Step 1: add", "Step 1: count", "Step 1: look", "\n", "\r",
    "Step 2: The answer is \\boxed{5}.", "Step 2: The answer is \\boxed{4}.",
]  # fmt: skip
P, Q, ADD, COUNT, LOOK, NL5, NL4, FIVE, FOUR, EOS = range(len(PIECES) + 1)
TABLE = {
    P: {Q: 0.9},
    Q: {ADD: 0.4, COUNT: 0.3, LOOK: 0.29999},
    ADD: {NL5: 0.99999},
    COUNT: {NL4: 0.99999},
    LOOK: {NL4: 0.99999},
    NL5: {FIVE: 0.99999},
    NL4: {FOUR: 0.99999},
    FIVE: {EOS: 0.99999},
    FOUR: {EOS: 0.99999},
}
TOKENIZER = Pieces(PIECES)
READER = ChainReader(TOKENIZER, PRESETS["paper"])


@pytest.fixture(scope="module")
def model():
    return scripted_model(len(PIECES) + 1, TABLE)


def _question(problem=0, *, gold=4, **request):
    return Question(
        id=str(problem),
        request=Request(prompt=(P, Q), max_new_tokens=8, problem=problem, **request),
        gold=None if gold is None else Fraction(gold),
    )


def _run(model, questions, config, **options):
    engine = Engine(
        model,
        **{"slots": 16, "max_length": 32, "stop_ids": TOKENIZER.eos_ids, "chunk": 2} | options,
    )
    tasks = [(q.id, self_consistency(engine, READER, q, config)) for q in questions]
    outcomes = list(run_tasks(engine, tasks))
    assert all(o.error is None for o in outcomes)
    assert not engine.busy
    return {o.key: o.result for o in outcomes}, engine


@pytest.mark.heavy
def test_the_majority_corrects_what_greedy_decoding_gets_wrong(model):
    engine = Engine(model, slots=2, max_length=32, stop_ids=TOKENIZER.eos_ids, chunk=2)
    greedy = [(0, chain_of_thought(engine, READER, _question()))]
    assert next(run_tasks(engine, greedy)).result.answer == "5"

    config = SelfConsistencyConfig(samples=41, temperature=1.0)
    results, engine = _run(model, [_question()], config)
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
    alone, _ = _run(model, [_question(3)], config, slots=4)
    questions = [_question(i) for i in range(6)]
    together, _ = _run(model, questions, config, slots=4)
    assert together["3"] == alone["3"]
    texts = {key: [r.text for r in result.rounds] for key, result in together.items()}
    assert len({tuple(t) for t in texts.values()}) > 1  # chance differs from problem to problem

    fewer, _ = _run(model, [_question(3)], dataclasses.replace(config, samples=5), slots=4)
    assert fewer["3"].rounds == alone["3"].rounds[:5]
    later, _ = _run(model, [_question(3, sample=5)], dataclasses.replace(config, samples=7))
    assert later["3"].rounds == alone["3"].rounds[5:]
    other, _ = _run(model, [_question(3, seed=1)], config, slots=4)
    assert other["3"].rounds != alone["3"].rounds


def test_the_questions_own_truncation_stays(model):
    narrow = _question(sampling=Sampling(top_k=1))
    results, _ = _run(model, [narrow], SelfConsistencyConfig(samples=6, temperature=5.0))
    assert {r.answer for r in results["0"].rounds} == {"5"}


def test_answers_that_cannot_be_read_and_gold_that_is_unknown(model):
    short = dataclasses.replace(_question(gold=None).request, max_new_tokens=1)
    question = dataclasses.replace(_question(gold=None), request=short)
    results, _ = _run(model, [question], SelfConsistencyConfig(samples=3))
    result = results["0"]
    assert (result.answer, result.correct, result.first_correct) == (None, None, None)
    assert [r.finish for r in result.rounds] == ["length"] * 3


# The way of COUNT is written without much confidence from its second token on.
UNSURE = {COUNT: {NL4: 0.55, NL5: 0.44999}}


@pytest.mark.heavy
def test_chains_that_fall_below_the_warm_up_are_ended_and_do_not_vote():
    model = scripted_model(len(PIECES) + 1, TABLE | UNSURE)
    options = {"stats": ("logprob", "topk_logprob"), "topk": 2, "chunk": 1}
    config = SelfConsistencyConfig(samples=40, temperature=1.0)
    plain, before = _run(model, [_question()], config, **options)
    is_unsure = ["count" in r.text for r in plain["0"].rounds]
    # The unsure ones of twelve have the lowest windows: the threshold lies just above them.
    percentile = 100 * (sum(is_unsure[:12]) - 0.5) / 11
    assert any(is_unsure[:12])
    assert not all(is_unsure[:12])

    config = dataclasses.replace(config, warm_up=12, percentile=percentile, window=2)
    found, engine = _run(model, [_question()], config, **options)
    rounds = found["0"].rounds
    assert rounds[:12] == plain["0"].rounds[:12]
    for own, whole, unsure in zip(rounds[12:], plain["0"].rounds[12:], is_unsure[12:], strict=True):
        if unsure:  # ended with the first window that shows it, and so before an answer
            assert (own.finish, own.sampled, own.answer) == (LOW_CONFIDENCE, 2, None)
        else:
            assert own == whole
    assert engine.counters.sampled < before.counters.sampled
    # Those of the warm-up that would have been ended do not vote: they turned the vote.
    answers = [r.answer for r, unsure in zip(rounds, is_unsure, strict=True) if not unsure]
    assert found["0"].answer == max(set(answers), key=answers.count)


@pytest.mark.heavy
def test_a_warm_up_with_windows_longer_than_the_chains_ends_none(model):
    plain, _ = _run(model, [_question()], SelfConsistencyConfig(samples=8, temperature=1.0))
    config = SelfConsistencyConfig(samples=8, temperature=1.0, warm_up=3, window=9)
    found, _ = _run(model, [_question()], config, stats=("logprob", "topk_logprob"))
    assert found["0"].rounds == plain["0"].rounds
    assert found["0"].answer == plain["0"].answer


def test_a_warm_up_needs_its_figure_captured(model):
    engine = Engine(model, slots=2, max_length=32)
    config = SelfConsistencyConfig(samples=3, warm_up=2)
    (outcome,) = run_tasks(engine, [(0, self_consistency(engine, READER, _question(), config))])
    assert "topk_logprob" in str(outcome.error)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"warm_up": 10}, "warm_up=10 must be 0"),
        ({"warm_up": -1}, "warm_up=-1"),
        ({"percentile": 101.0}, "percentile=101.0 must lie in"),
        ({"window": 0}, "window=0 must be at least 1"),
        ({"samples": 0}, "samples=0 must be at least 1"),
        ({"samples": 2.5}, "samples is 2.5, a float"),
    ],
)
def test_a_warm_up_that_makes_no_sense_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SelfConsistencyConfig(**options)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_samples_need_a_temperature(temperature):
    with pytest.raises(ValueError, match="temperature="):
        SelfConsistencyConfig(temperature=temperature)
