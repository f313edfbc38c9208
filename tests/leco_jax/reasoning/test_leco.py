"""LeCo on a model whose every choice is written down here."""

import dataclasses
import math
from fractions import Fraction

import pytest

from leco_jax.decoding.engine import Engine
from leco_jax.decoding.request import Request, Sampling
from leco_jax.decoding.tasks import run_tasks
from leco_jax.reasoning.chain_reader import ChainReader
from leco_jax.reasoning.cot import chain_of_thought
from leco_jax.reasoning.leco import LecoConfig, leco
from leco_jax.reasoning.question import Question
from leco_jax.scoring.presets import PRESETS
from tests.leco_jax.reasoning.scripted import Pieces, scripted_model

# Sure of its first step, unsure in the second, where the runner-up leads to the right answer.
PIECES = [
    "Q", "Step 1:", " two", " pens", "\n", "Step 2 :", " guess", " wrong", " count", " right",
    "\n\n", "Step 3: The answer is \\boxed{5}.", "Step 4: The answer is \\boxed{4}.", "\r",
    "Step 3:", " so", " thus", "\n\r", "Step 2", ":",
]  # fmt: skip
(
    Q, ONE, TWO, PENS, NL, LABEL, GUESS, WRONG, COUNT, RIGHT, NL5, FIVE, FOUR, NL3, THREE, SO, THUS,
    NL4, STEP, COLON, EOS,
) = range(len(PIECES) + 1)  # fmt: skip
TABLE = {
    Q: {ONE: 0.99},
    ONE: {TWO: 0.95},
    TWO: {PENS: 0.95},
    PENS: {NL: 0.99},
    NL: {LABEL: 0.99},
    LABEL: {GUESS: 0.5, COUNT: 0.4},
    GUESS: {WRONG: 0.6},
    WRONG: {NL5: 0.99},
    NL5: {FIVE: 0.9},
    FIVE: {EOS: 0.99},
    STEP: {COLON: 0.9},
    COLON: {COUNT: 0.9},  # after the label as `reprompt` writes it
    COUNT: {RIGHT: 0.9},
    RIGHT: {NL3: 0.99},
    NL3: {THREE: 0.9},
    THREE: {SO: 0.3, THUS: 0.2},  # the weakest step of this way; both of its turns agree
    SO: {NL4: 0.9},
    THUS: {NL4: 0.9},
    NL4: {FOUR: 0.9},
    FOUR: {EOS: 0.99},
}
TOKENIZER = Pieces(PIECES)
FIRST = "Step 1: two pens\nStep 2 : guess wrong\n\nStep 3: The answer is \\boxed{5}."
SECOND = "Step 1: two pens\nStep 2 : count right\rStep 3: so\n\rStep 4: The answer is \\boxed{4}."


@pytest.fixture(scope="module")
def model():
    return scripted_model(len(PIECES) + 1, TABLE)


def _run(
    model, config=None, *, table=None, gold=4, stop_early=None, problems=1, preset="paper",
    truncated="read", **request,
):  # fmt: skip
    scripted = model if table is None else scripted_model(len(PIECES) + 1, TABLE | table)
    reader = ChainReader(TOKENIZER, PRESETS[preset], truncated)
    engine = Engine(
        scripted, slots=2, max_length=200, stop_ids=TOKENIZER.eos_ids, chunk=2,
        stats=reader.preset.stats, topk=reader.preset.topk,
    )  # fmt: skip
    tasks = []
    for i in range(problems):
        question = Question(
            id=str(i),
            request=Request(**{"prompt": (Q,), "max_new_tokens": 24, "problem": i} | request),
            gold=None if gold is None else Fraction(gold),
            text="How many?",
        )
        if config is None:
            tasks.append((i, chain_of_thought(engine, reader, question)))
        else:
            tasks.append((i, leco(engine, reader, question, config, stop_early=stop_early)))
    outcomes = list(run_tasks(engine, tasks))
    assert all(o.error is None for o in outcomes)
    assert not engine.busy
    assert engine.counters.prefilled_twice == 0
    results = [o.result for o in sorted(outcomes)]
    return (results if problems > 1 else results[0]), engine


@pytest.mark.heavy
def test_chain_of_thought_reads_answer_steps_and_scores(model):
    result, _ = _run(model)
    (only,) = result.rounds
    assert (only.text, only.answer, only.finish) == (FIRST, "5", "eos")
    assert (result.answer, result.correct, result.stopped) == ("5", False, "single")
    assert [s.text for s in only.steps] == [
        "Step 1: two pens", "Step 2 : guess wrong", "Step 3: The answer is \\boxed{5}.",
    ]  # fmt: skip
    # Two scored tokens of 0.95 each: average and transition 0.95, and no divergence.
    assert only.steps[0].score == pytest.approx(1.9, abs=1e-4)
    # 0.5 and 0.6: KL = ln 2 - H(5/11), to the power 0.3, plus one, in a logarithm.
    assert only.steps[1].average == pytest.approx(0.55, abs=1e-4)
    assert only.steps[1].divergence == pytest.approx(0.1763, abs=2e-4)


def test_avoid_keeps_the_label_and_takes_the_runner_up_until_two_answers_agree(model):
    result, engine = _run(model, LecoConfig(policy="avoid"))
    assert [r.answer for r in result.rounds] == ["5", "4", "4"]
    assert [r.cut for r in result.rounds] == [1, 2, None]
    assert [r.kept for r in result.rounds] == [0, 5, 9]
    assert [r.sampled for r in result.rounds] == [10, 8, 4]
    assert result.rounds[1].text == SECOND
    assert result.rounds[2].text == SECOND.replace("so", "thus")
    assert (result.answer, result.correct, result.first_correct) == ("4", True, False)
    assert result.stopped == "converged"
    assert result.settings["policy"] == "avoid"
    assert engine.counters.sampled == 22
    assert engine.counters.discarded == (10 - 5) + (13 - 9)


def test_rounds_say_in_characters_what_was_kept_and_appended_and_which_tokens_are_weak(model):
    def words(round_):
        kept, appended = round_.spans
        text = round_.text
        weak = [(text[start:end], round(p, 2)) for start, end, p in round_.weak_tokens]
        return text[:kept], text[kept:appended], weak

    first, second, _ = _run(model, LecoConfig(policy="avoid"))[0].rounds
    assert words(first) == ("", "", [(" guess", 0.5), (" wrong", 0.6)])
    assert words(second) == ("Step 1: two pens\nStep 2 :", "", [(" count", 0.4), (" so", 0.3)])
    _, second, *_ = _run(model, LecoConfig(policy="reprompt"))[0].rounds
    assert words(second)[:2] == ("Step 1: two pens\n", "Step 2:")


def test_reprompt_appends_the_next_label_and_goes_on(model):
    result, engine = _run(model, LecoConfig(policy="reprompt"))
    assert result.rounds[1].appended == 2
    assert result.rounds[1].kept == 4
    assert result.rounds[1].text == SECOND.replace("2 :", "2:")
    assert result.answer == "4"
    assert engine.counters.given == sum(r.appended for r in result.rounds)


def test_sample_draws_anew_in_every_round(model):
    table = {LABEL: {GUESS: 0.5, COUNT: 0.48}}
    results, _ = _run(
        model, LecoConfig(policy="sample", rethink_temperature=1.0), table=table, problems=12
    )
    seconds = {r.rounds[1].text for r in results}
    assert {FIRST, SECOND} <= seconds  # chance decides, and not the same way for all
    assert all(r.rounds[0].text == FIRST for r in results)  # the first pass stays greedy


def test_sample_keeps_the_truncation_of_the_question(model):
    table = {LABEL: {GUESS: 0.5, COUNT: 0.48}}
    result, _ = _run(
        model, LecoConfig(policy="sample", rethink_temperature=5.0), table=table,
        sampling=Sampling(top_k=1),
    )  # fmt: skip
    assert {r.text for r in result.rounds} == {FIRST}


@pytest.mark.heavy
def test_a_chain_that_ends_with_a_label_goes_on_after_it(model):
    # The label alone is a step where labels are scored, and the weakest one: nothing follows it.
    config = LecoConfig(policy="avoid", max_rethinks=1)
    result, _ = _run(
        model, config, table={NL: {LABEL: 0.3}}, preset="official_code", max_new_tokens=5
    )
    first, second = result.rounds
    assert (first.text, first.finish, first.cut) == ("Step 1: two pens\nStep 2 :", "length", 1)
    assert (second.kept, second.sampled) == (5, 5)
    assert second.text == FIRST


# Three ways after the second label, all of them weak: the cut stays there.
WEAK = {
    LABEL: {GUESS: 0.4, COUNT: 0.3, WRONG: 0.2},
    GUESS: {WRONG: 0.3}, WRONG: {NL5: 0.3}, COUNT: {RIGHT: 0.1}, RIGHT: {NL3: 0.3},
}  # fmt: skip


def test_avoid_remembers_what_it_forbade_while_the_cut_stands(model):
    result, _ = _run(model, LecoConfig(policy="avoid", max_rethinks=2), table=WEAK)
    assert [r.cut for r in result.rounds] == [1, 1, None]
    assert [r.text.splitlines()[1] for r in result.rounds] == [
        "Step 2 : guess wrong", "Step 2 : count right", "Step 2 : wrong",
    ]  # fmt: skip
    assert [r.answer for r in result.rounds] == ["5", "4", "5"]
    assert (result.stopped, result.answer) == ("rounds", "5")


def test_what_was_forbidden_after_text_that_is_gone_may_come_again(model):
    table = WEAK | {
        ONE: {TWO: 0.35, SO: 0.34}, SO: {PENS: 0.95},  # two ways to write the first step
        LABEL: {GUESS: 0.4, COUNT: 0.3, STEP: 0.2}, STEP: {COLON: 0.99}, COLON: {THUS: 0.99},
        NL3: {EOS: 0.9}, NL4: {EOS: 0.9}, NL5: {EOS: 0.9},  # no answers, which would agree
    }  # fmt: skip
    config = LecoConfig(policy="avoid", freeze_kept=False, max_rethinks=4)
    rounds = _run(model, config, table=table)[0].rounds
    assert [r.cut for r in rounds] == [1, 1, 0, 1, None]
    words = [r.text.splitlines()[1].removeprefix("Step 2 :") for r in rounds]
    assert words == [" guess wrong", " count right", "Step 2: thus", " guess wrong", " count right"]


def test_the_last_answer_is_the_last_that_could_be_read(model):
    table = WEAK | {NL3: {EOS: 0.9}}
    result, _ = _run(model, LecoConfig(policy="avoid", max_rethinks=1), table=table, gold=5)
    assert [r.answer for r in result.rounds] == ["5", None]
    assert (result.stopped, result.answer, result.correct) == ("rounds", "5", True)


def test_a_chain_that_was_cut_short_has_no_answer_if_so_asked(model):
    limit = {"max_new_tokens": 9, "gold": 5}  # all but the end-of-text token
    read, _ = _run(model, **limit)
    assert (read.rounds[0].finish, read.answer) == ("length", "5")
    cut, _ = _run(model, truncated="unanswered", **limit)
    assert (cut.answer, cut.correct) == (None, False)
    assert cut.rounds[0].steps == read.rounds[0].steps
    whole, _ = _run(model, truncated="unanswered", gold=5)
    assert whole.answer == "5"
    with pytest.raises(ValueError, match="truncated='maybe' is not one of unanswered, read"):
        ChainReader(TOKENIZER, PRESETS["paper"], truncated="maybe")


def test_a_round_has_its_log_probability_and_a_result_its_question(model):
    result, _ = _run(model)
    (only,) = result.rounds
    p = [0.99, 0.95, 0.95, 0.99, 0.99, 0.5, 0.6, 0.99, 0.9, 0.99]
    assert only.sum_logprob == pytest.approx(sum(map(math.log, p)), abs=1e-3)
    assert only.min_logprob == pytest.approx(math.log(0.5), abs=1e-4)
    assert result.question == "How many?"


def test_the_vote_of_the_published_program_can_be_had(model):
    config = LecoConfig(policy="avoid", final_rule="weighted_vote")
    result, _ = _run(model, config)
    assert result.answer == "4"  # 2 against 1.5


def test_nothing_to_cut_ends_it(model):
    config = LecoConfig(policy="avoid", exclude=("step",))
    result, _ = _run(model, config)
    assert (result.stopped, len(result.rounds), result.answer) == ("no_candidate", 1, "5")


def test_a_hook_can_stop_it_and_gold_may_be_unknown(model):
    seen = []

    def hook(rounds):
        seen.append(len(rounds))
        return len(rounds) == 2

    result, _ = _run(
        model, LecoConfig(policy="avoid"), gold=None, stop_early=hook,
    )  # fmt: skip
    assert result.correct is None
    assert (result.stopped, result.answer, seen) == ("hook", "4", [1, 2])


def test_an_answer_that_cannot_be_read_agrees_with_none(model):
    table = {NL5: {EOS: 0.9}, NL4: {EOS: 0.9}}
    result, _ = _run(model, LecoConfig(policy="avoid", max_rethinks=2), table=table)
    assert [r.answer for r in result.rounds] == [None] * 3
    assert (result.stopped, result.answer, result.correct) == ("rounds", None, False)


def test_many_problems_share_the_slots_and_do_not_disturb_each_other(model):
    alone, _ = _run(model, LecoConfig(policy="avoid"))
    together, _ = _run(model, LecoConfig(policy="avoid"), problems=7)
    for i, result in enumerate(together):
        assert dataclasses.replace(result, id="0") == dataclasses.replace(alone, id="0"), i


def test_online_cuts_the_weak_step_as_soon_as_it_is_closed(model):
    result, engine = _run(model, LecoConfig(policy="avoid", online_margin=0.3, max_rethinks=1))
    first, *_, last = result.rounds
    assert (first.finish, first.cut) == ("weak_step", 1)
    assert "boxed" not in first.text  # the wrong end was never written
    assert (result.answer, result.correct) == ("4", True)
    assert [r.finish for r in result.rounds[:-1]] == ["weak_step"] * (len(result.rounds) - 1)
    assert last.finish == "eos"  # the last pass has no watch, so there is an answer
    assert engine.counters.sampled == sum(r.sampled for r in result.rounds)


def test_online_with_a_margin_that_nothing_reaches_is_plain_leco(model):
    plain, _ = _run(model, LecoConfig(policy="avoid"))
    online, _ = _run(model, LecoConfig(policy="avoid", online_margin=5.0))
    assert online.rounds == plain.rounds


@pytest.mark.parametrize(
    "rules",
    [
        {"exclude": ("step",)},  # nothing may be cut
        {"exclude": ("guess", "so", "the answer is")},  # only strong steps may
        {"cut_rule": "earlier_of_two_weakest"},  # a step that does not stand out is the earlier one
    ],
)
def test_online_lets_a_chain_go_on_where_the_step_that_stands_out_is_not_to_be_cut(model, rules):
    plain, _ = _run(model, LecoConfig(policy="avoid", **rules))
    online, engine = _run(model, LecoConfig(policy="avoid", online_margin=0.3, **rules))
    assert online.rounds[0].finish == "eos"
    assert online.rounds[0] == plain.rounds[0]
    assert engine.counters.sampled == sum(r.sampled for r in online.rounds)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"policy": "luck"}, "policy='luck'"),
        ({"cut_rule": "first"}, "cut_rule='first'"),
        ({"rethink_temperature": 0.0}, "rethink_temperature=0.0"),
        ({"rethink_temperature": math.inf}, "rethink_temperature=inf"),
        ({"max_rethinks": 0}, "max_rethinks=0"),
        ({"max_rethinks": 2.5}, "max_rethinks is 2.5"),
        ({"online_margin": math.nan}, "online_margin=nan"),
        ({"online_margin": -0.1}, "online_margin=-0.1"),
        ({"exclude": ("",)}, r"exclude=\('',\)"),
        ({"exclude": "the answer is"}, "exclude is 'the answer is'"),
        ({"exclude": (3,)}, r"exclude\[0\] is 3, a int"),
    ],
)
def test_bad_options_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        LecoConfig(**{"policy": "sample"} | options)


def test_a_policy_must_be_named():
    with pytest.raises(TypeError, match="policy"):
        LecoConfig()
