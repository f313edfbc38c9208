"""From the problems of a data set to questions: prompts in tokens, as the config asks for them."""

import dataclasses
import functools
import zlib
from collections.abc import Callable, Sequence

from leco_jax.datasets.problem import Problem
from leco_jax.decoding.request import Request
from leco_jax.evaluation.experiment_config import ExperimentConfig
from leco_jax.reasoning.question import Question
from leco_jax.text import prompts
from leco_jax.text.chat import encode_chat, render_chat
from leco_jax.text.tokenizer import Tokenizer

Encoder = Callable[[str], list[int]]  # from a question's text to its prompt


def _chat(tokenizer: Tokenizer, kind: str) -> Encoder:
    """Instructions and the question, for a model with a chat template."""
    system = prompts.system_prompt(kind)
    try:
        asked = prompts.chat_messages("?", system=system)
        takes_system = system in render_chat(tokenizer, asked)
    except ValueError:  # some templates refuse a system message, some leave it out
        takes_system = False
    if takes_system:
        return lambda question: encode_chat(
            tokenizer, prompts.chat_messages(question, system=system)
        )
    # As the makers of such templates advise: the instructions stand before the question.
    return lambda question: encode_chat(
        tokenizer,
        prompts.chat_messages(f"{system}\n\n{question.strip()}", system=None),
    )


def _few_shot(tokenizer: Tokenizer, kind: str, *, complex_ones: bool = False) -> Encoder:
    """Worked examples with answers of the kind, and the question."""
    prefix = prompts.few_shot_prefix(prompts.demonstrations_of(kind, complex_ones=complex_ones))
    examples = tokenizer.encode(prefix, add_bos=tokenizer.wants_bos)
    return lambda question: (
        examples + tokenizer.encode(prompts.few_shot_question(question), continuation=True)
    )


def _question(tokenizer: Tokenizer, _: str) -> Encoder:
    """The question alone, for models trained on the layout of the worked examples."""
    return lambda question: tokenizer.encode(
        prompts.few_shot_prompt(question, ()), add_bos=tokenizer.wants_bos
    )


PROMPTS: dict[str, Callable[[Tokenizer, str], Encoder]] = {
    "chat": _chat,
    "few_shot": _few_shot,
    "few_shot_complex": functools.partial(_few_shot, complex_ones=True),
    "question": _question,
}


def make_questions(
    problems: Sequence[Problem], tokenizer: Tokenizer, config: ExperimentConfig
) -> list[Question]:
    """Writes the prompts of a data set.

    Args:
      problems: the problems.
      tokenizer: the model's.
      config: `prompt`, `generation` and `seed` are read.
    """
    kinds = {problem.kind for problem in problems}
    encoders = {kind: PROMPTS[config.prompt](tokenizer, kind) for kind in kinds}
    stop = () if config.prompt == "chat" else (prompts.FEW_SHOT_STOP,)
    return [
        Question(
            id=problem.id,
            request=Request(
                prompt=tuple(encoders[problem.kind](problem.question)),
                max_new_tokens=config.generation.max_new_tokens,
                sampling=config.generation.sampling,
                seed=config.seed,
                problem=zlib.crc32(problem.id.encode()),
                stop=stop,
            ),
            gold=problem.answer,
            kind=problem.kind,
            text=problem.question,
        )
        for problem in problems
    ]


def common_prefix(rows: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The tokens that all prompts begin with, at least one left over for each."""
    if not rows:
        return ()
    first, last = min(rows), max(rows)  # the two that differ earliest
    shortest = min(map(len, rows)) - 1
    length = 0
    while length < shortest and first[length] == last[length]:
        length += 1
    return first[:length]


def without_prefix(question: Question, length: int) -> Question:
    """The question with so many tokens of its prompt left to the engine's shared prefix."""
    request = dataclasses.replace(question.request, prompt=question.request.prompt[length:])
    return dataclasses.replace(question, request=request)
