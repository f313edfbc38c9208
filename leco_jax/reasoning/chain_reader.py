"""Reads an ended chain: its text, its answer, its steps and their scores."""

import dataclasses
from typing import Any, NamedTuple

from leco_jax.decoding.request import Chain
from leco_jax.reasoning.result import Round
from leco_jax.reasoning.scored_chain import score_chain
from leco_jax.scoring.presets import StepPreset
from leco_jax.text.answers import extract_answer, format_answer
from leco_jax.text.tokenizer import Tokenizer


class Reading(NamedTuple):
    """A pass and its answer as a value of the question's kind (None: none could be read)."""

    round: Round
    answer: Any


@dataclasses.dataclass(frozen=True)
class ChainReader:
    """What it takes to read a chain.

    Attributes:
        tokenizer: of the model that wrote it.
        preset: which variant of the step scores.
    """

    tokenizer: Tokenizer
    preset: StepPreset

    def read(self, chain: Chain, *, kind: str, kept: int = 0, appended: int = 0) -> Reading:
        """Reads a chain that has ended.

        Args:
            chain: the chain.
            kind: kind of answer to look for.
            kept: tokens that it took over from the pass before.
            appended: tokens that were put after them.
        """
        text = self.tokenizer.decode(chain.tokens, skip_special=True, continuation=True)
        text += chain.tail.decode("utf-8", errors="replace")
        answer = extract_answer(text, kind=kind)
        steps = score_chain(chain.tokens, chain.stats, self.tokenizer, self.preset)
        return Reading(
            Round(
                text=text,
                answer=format_answer(answer, kind=kind),
                steps=steps,
                kept=kept,
                appended=appended,
                sampled=chain.sampled,
                finish=str(chain.finish),
            ),
            answer,
        )
