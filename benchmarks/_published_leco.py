"""LeCo the way the published programs run it: one problem at a time, nothing kept between rounds.

Each round re-encodes the whole text, generates at batch 1, and scores the chain in a pass of its
own. What is decided from the scores is the library's own code, so that only the work differs.
"""

from __future__ import annotations

import dataclasses

from benchmarks._transformers import TorchModel
from leco_jax.reasoning.chain_reader import score_chain
from leco_jax.reasoning.leco import LecoConfig
from leco_jax.reasoning.question import Question
from leco_jax.reasoning.selection import converged, cut_step, final_answer
from leco_jax.scoring.presets import PRESETS
from leco_jax.text.answers import extract_answer


@dataclasses.dataclass
class Work:
    """Tokens that went through the model."""

    prefilled: int = 0
    prefilled_twice: int = 0
    sampled: int = 0
    scored: int = 0
    discarded: int = 0


class PublishedLeco:
    """LeCo with policy `avoid` over `transformers`."""

    def __init__(self, peer: TorchModel, config: LecoConfig):
        if config.policy != "avoid" or config.online_margin is not None or not config.freeze_kept:
            raise ValueError("only avoid with freeze_kept and no online_margin is written here")
        self._peer = peer
        self._config = config.with_rules()
        self.work = Work()

    def answer(self, question: Question):
        """Answers one question; the value of the final answer."""
        prompt = list(question.request.prompt)
        tokens: list[int] = []
        answers: list = []
        frozen = 0
        place, forbid = -1, []  # tokens forbidden where the chain was cut last
        while True:
            seen = prompt + tokens
            self.work.prefilled += len(seen)
            self.work.prefilled_twice += len(seen) if answers else 0
            new = self._peer.generate_one(seen, question.request.max_new_tokens, forbid=forbid)
            self.work.sampled += len(new)
            tokens = tokens + new
            text = self._peer.tokenizer.decode(tokens, skip_special=True, continuation=True)
            answers.append(extract_answer(text, kind=question.kind))
            stopped = "no_candidate"
            if converged(answers, question.equal):
                stopped = "converged"
                break
            if len(answers) > self._config.max_rethinks:
                stopped = "rounds"
                break
            self.work.scored += len(prompt) + len(tokens)
            logprob = self._peer.logprobs(prompt, tokens)
            steps = score_chain(
                tokens, {"logprob": logprob}, self._peer.tokenizer, PRESETS["paper"]
            )
            cut = cut_step(
                steps, rule=self._config.cut_rule, first=frozen, exclude=self._config.exclude
            )
            if cut is None:
                break
            frozen, keep = cut, steps[cut].label_end
            forbid = (forbid if keep == place else []) + tokens[keep : keep + 1]
            place = keep
            self.work.discarded += len(tokens) - keep
            tokens = tokens[:keep]
        return final_answer(answers, question.equal, rule=self._config.final_rule, stopped=stopped)
