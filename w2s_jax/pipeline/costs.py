"""What the stages of a pipeline take at most, in tokens and floating-point operations."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from leco_jax.datasets.problem import Problem
from leco_jax.models.config import ModelConfig
from leco_jax.text.tokenizer import Tokenizer
from w2s_jax.pipeline.graph import Cost
from w2s_jax.training.data import fill_template
from w2s_jax.training.metrics import train_flops_per_token
from w2s_jax.training.objectives import PREFERENCE, WITH_REFERENCE


class PromptTokens(NamedTuple):
    """Tokens of the prompts of a set of questions."""

    questions: int
    total: int
    longest: int


def prompt_tokens(problems: Sequence[Problem], template: str, tokenizer: Tokenizer) -> PromptTokens:
    """Counts the tokens of every problem's prompt, one more each for a BOS."""
    lengths = [
        len(tokenizer.encode(fill_template(template, {"question": p.question}))) + 1
        for p in problems
    ]
    return PromptTokens(len(lengths), sum(lengths), max(lengths))


def generation_cost(
    model: ModelConfig,
    prompts: PromptTokens,
    *,
    samples: int = 1,
    max_new_tokens: int,
    slots: int,
    prefix: int = 0,
) -> Cost:
    """Bounds generation: every answer as long as allowed, every token seeing a whole row.

    The samples of a question share its prompt; each time that all slots are filled anew, one
    prompt is computed again at the edge. The prefix, worked examples, is computed once.
    """
    answers = prompts.questions * samples
    again = answers // slots * prompts.longest
    tokens = prefix + prompts.total + again + answers * max_new_tokens
    seen = prefix + prompts.longest + max_new_tokens
    # Training is a forward pass and twice as much; its figure halves attention for causality.
    return Cost(tokens, tokens * train_flops_per_token(model, 2 * seen) / 3)


def training_cost(model: ModelConfig, config: Any, *, rows: int, objective: str) -> Cost:
    """Bounds training on `rows` examples or pairs: all as long as allowed, none packed.

    A pair is two rows; a reference model reads them too, once if its results are stored. Neither
    recomputed activations are counted, nor that LoRA needs no gradients of weights.
    """
    an_epoch = -(-rows // config.data.batch)
    steps = config.run.num_steps or config.run.epochs * an_epoch
    a_step = config.data.batch * config.data.length * (2 if objective in PREFERENCE else 1)
    tokens = steps * a_step
    read = 0
    if objective in WITH_REFERENCE:
        stored = config.reference == "stored" or (
            config.reference == "auto" and not config.lora.rank
        )
        read = (min(steps, an_epoch) if stored else steps) * a_step
    flops = train_flops_per_token(model, config.data.length)
    return Cost(tokens + read, (tokens + read / 3) * flops)
