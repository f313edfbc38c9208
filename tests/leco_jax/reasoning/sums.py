"""A scripted model that writes one sum and its answer, and what runs a method on it."""

from fractions import Fraction

from leco_jax.decoding.engine import Engine
from leco_jax.decoding.request import Request
from leco_jax.decoding.tasks import run_tasks
from leco_jax.reasoning.chain_reader import ChainReader
from leco_jax.reasoning.question import Question
from leco_jax.scoring.presets import PRESETS
from tests.leco_jax.reasoning.scripted import Pieces, scripted_model

PIECES = [
    "Q", "Step 1:", " 2 +", " 2 =", " 5", " 4", "\n", "\n\n", "\r",
    "Step 2: The answer is \\boxed{5}.", "Step 2: The answer is \\boxed{4}.",
    "Step 2:", " hmm", " well", " so",
]  # fmt: skip
(
    Q, ONE, PLUS, EQUALS, FIVE, FOUR, NL5, NL4, NL, SAYS5, SAYS4, TWO, HMM, WELL, SO, EOS,
) = range(len(PIECES) + 1)  # fmt: skip
TOKENIZER = Pieces(PIECES)
# Sure of a false sum: 0.8 for "2 + 2 = 5", 0.15 for what is right.
TABLE = {
    Q: {ONE: 0.99},
    ONE: {PLUS: 0.99},
    PLUS: {EQUALS: 0.99},
    EQUALS: {FIVE: 0.8, FOUR: 0.15},
    FIVE: {NL5: 0.99},
    FOUR: {NL4: 0.99},
    NL5: {SAYS5: 0.99},
    NL4: {SAYS4: 0.99},
    SAYS5: {EOS: 0.99},
    SAYS4: {EOS: 0.99},
}
# Two weak tokens: "hmm" (0.6) in a first step, at 1, and the result of the sum (0.5), at 6.
WEAK = {
    Q: {TWO: 0.99},
    TWO: {HMM: 0.6, WELL: 0.3},
    HMM: {NL: 0.99},
    WELL: {NL: 0.99},
    NL: {ONE: 0.99},
    EQUALS: {FIVE: 0.5, FOUR: 0.45},
}
WRONG = "Step 1: 2 + 2 = 5\nStep 2: The answer is \\boxed{5}."
RIGHT = "Step 1: 2 + 2 = 4\n\nStep 2: The answer is \\boxed{4}."


def run_on_sum(method, config, *, table=None, gold=4, slots=2):
    """The result of a method on the one question, and the engine it ran on."""
    reader = ChainReader(TOKENIZER, PRESETS["paper"], stored=config.stored)
    engine = Engine(
        scripted_model(len(PIECES) + 1, TABLE | (table or {})), slots=slots, max_length=200,
        chunk=2, stop_ids=TOKENIZER.eos_ids, stats=(*reader.preset.stats, *config.stats),
        topk=reader.preset.topk,
    )  # fmt: skip
    request = Request(prompt=(Q,), max_new_tokens=24)
    question = Question(id="0", request=request, gold=Fraction(gold), text="2 + 2?")
    (outcome,) = run_tasks(engine, [(0, method(engine, reader, question, config))])
    assert outcome.error is None
    assert not engine.busy
    assert engine.counters.prefilled_twice == 0
    return outcome.result, engine
