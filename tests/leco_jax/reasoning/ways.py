"""A scripted model that takes one of three ways by chance, and what runs a method on it."""

from fractions import Fraction

from leco_jax.decoding.engine import Engine
from leco_jax.decoding.request import Request
from leco_jax.decoding.tasks import run_tasks
from leco_jax.reasoning.chain_reader import ChainReader
from leco_jax.reasoning.question import Question
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
# With this the way of COUNT is written without much confidence from its second token on.
UNSURE = {COUNT: {NL4: 0.55, NL5: 0.44999}}


def ways_model(table=None):
    return scripted_model(len(PIECES) + 1, TABLE | (table or {}))


def ways_question(problem=0, *, gold=4, **request):
    return Question(
        id=str(problem),
        request=Request(prompt=(P, Q), max_new_tokens=8, problem=problem, **request),
        gold=None if gold is None else Fraction(gold),
    )


def run_on_ways(method, model, questions, config, **options):
    """The results by problem, and the engine they ran on."""
    engine = Engine(
        model,
        **{"slots": 16, "max_length": 32, "stop_ids": TOKENIZER.eos_ids, "chunk": 2} | options,
    )
    tasks = [(q.id, method(engine, READER, q, config)) for q in questions]
    outcomes = list(run_tasks(engine, tasks))
    assert all(o.error is None for o in outcomes)
    assert not engine.busy
    return {o.key: o.result for o in outcomes}, engine
