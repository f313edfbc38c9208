"""Scores of chains that were written elsewhere: read from JSONL, teacher-forced, batch by batch."""

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from leco_jax import scoring
from leco_jax.models import transformer
from leco_jax.models.attention import causal_attend
from leco_jax.models.config import ModelConfig
from leco_jax.models.loading import LoadedModel
from leco_jax.reasoning.chain_reader import score_chain
from leco_jax.scoring.presets import StepPreset
from leco_jax.scoring.types import MAX_TOPK
from leco_jax.shapes import power_of_two
from leco_jax.storage.jsonl import parse_row
from leco_jax.text.chat import encode_chat
from leco_jax.text.tokenizer import Tokenizer

_WINDOW = 1024  # chains that are sorted by length, scored and handed on together
_STEP_FIELDS = ("text", "tokens", "average", "divergence", "transition", "score")


@dataclasses.dataclass(frozen=True, kw_only=True)
class GivenChain:
    """A response to a prompt, in tokens: prompt and response are tokenised apart and joined.

    Attributes:
      prompt: token ids.
      response: token ids.
      named: what tells it from the others in the output: its "line", and its "id" if it has one.
    """

    prompt: tuple[int, ...]
    response: tuple[int, ...]
    named: dict[str, Any]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.response)


class BadLine(NamedTuple):
    """A line that cannot be scored."""

    number: int
    reason: str


def read_chains(
    lines: Iterable[tuple[int, bytes]], tokenizer: Tokenizer, *, max_length: int
) -> tuple[list[GivenChain], list[BadLine]]:
    """Reads JSON lines of a prompt and a "response".

    The prompt is either the text "prompt", in which control tokens are ordinary text, or the list
    "messages", `{"role": str, "content": str}` each, which the chat template turns into the tokens
    that a chat model sees. "id" is kept for the output; further fields are ignored.

    Args:
      lines: numbered, as `storage.jsonl.numbered_lines` gives them.
      tokenizer: of the model that will score them; BOS is put before a text where it is
        customary.
      max_length: most tokens of prompt and response together.

    Returns:
      The good lines in order, and the bad ones.
    """
    chains: list[GivenChain] = []
    bad: list[BadLine] = []
    for number, line in lines:
        try:
            chains.append(_read_chain(number, line, tokenizer, max_length))
        except ValueError as error:
            bad.append(BadLine(number, str(error)))
    return chains, bad


def _read_chain(number: int, line: bytes, tokenizer: Tokenizer, max_length: int) -> GivenChain:
    row = parse_row(line, fields=("response",))
    prompt = _encode_prompt(row, tokenizer)
    response = tokenizer.encode(row["response"], continuation=True)
    if not prompt:
        raise ValueError("the prompt is empty: nothing predicts the response's first token")
    if not response:
        raise ValueError("the response is empty")
    if len(prompt) + len(response) > max_length:
        raise ValueError(
            f"there are {len(prompt) + len(response)} tokens; the model was made for {max_length}"
        )
    named = {"line": number} | ({"id": row["id"]} if "id" in row else {})
    return GivenChain(prompt=tuple(prompt), response=tuple(response), named=named)


def _encode_prompt(row: dict[str, Any], tokenizer: Tokenizer) -> list[int]:
    if ("prompt" in row) == ("messages" in row):
        raise ValueError('the row needs either the text "prompt" or the list "messages"')
    if "prompt" in row:
        if not isinstance(row["prompt"], str):
            raise ValueError('"prompt" must be a text')
        return tokenizer.encode(row["prompt"], add_bos=tokenizer.wants_bos)
    messages = row["messages"]
    fields = ("role", "content")
    if not (isinstance(messages, list) and messages) or not all(
        isinstance(m, dict) and all(isinstance(m.get(name), str) for name in fields)
        for m in messages
    ):
        raise ValueError('"messages" must be {"role": str, "content": str} each, at least one')
    return encode_chat(tokenizer, messages)


def score_chains(
    model: LoadedModel, chains: Sequence[GivenChain], preset: StepPreset, *, batch_tokens: int
) -> Iterator[dict[str, Any]]:
    """Scores chains by one forward pass each, in batches of similar length.

    Args:
      model: the model whose confidence is asked for.
      chains: what to score.
      preset: which variant of the step scores.
      batch_tokens: most tokens of a batch, padding included; a chain that is longer is a batch
        of its own.

    Yields:
      In the order of the chains, a window of them at a time: what names the chain,
      `token_logprobs` (nats, of the response's tokens), `sum_logprob` and `steps`.

    Raises:
      ValueError: a row's figures are not finite; the message names its line.
    """
    figures = token_figures(
        model, chains, stats=preset.stats, topk=preset.topk, batch_tokens=batch_tokens
    )
    for chain, stats in zip(chains, figures, strict=True):
        yield _row(chain, stats, model.tokenizer, preset)


def token_figures(
    model: LoadedModel,
    chains: Sequence[GivenChain],
    *,
    stats: tuple[str, ...],
    topk: int = MAX_TOPK,
    batch_tokens: int,
) -> Iterator[dict[str, np.ndarray]]:
    """Yields statistics `[T]` of each chain's response, in the order of the chains.

    Args:
      model: the model whose distribution they are of.
      chains: what to score.
      stats: names of `scoring.token_stats`.
      topk: of those of the largest probabilities.
      batch_tokens: most tokens of a batch, padding included; a chain that is longer is a batch
        of its own.

    Raises:
      ValueError: a chain's figures are not finite; the message names its line.
    """
    if batch_tokens < 1:
        raise ValueError(f"batch_tokens must be at least 1, not {batch_tokens}")
    for start in range(0, len(chains), _WINDOW):
        window = chains[start : start + _WINDOW]
        by_length = sorted(range(len(window)), key=lambda i: len(window[i]))
        done: dict[int, dict[str, np.ndarray]] = {}
        for batch in _batches([window[i] for i in by_length], batch_tokens):
            found = _score_batch(model, batch, stats, topk)
            for row, chain in enumerate(batch):
                own = {name: values[row, : len(chain.response)] for name, values in found.items()}
                if not all(np.isfinite(values).all() for values in own.values()):
                    raise ValueError(
                        f"line {chain.named['line']}: the model's log-probabilities of this "
                        "response are not all finite: its weights or this dtype are broken"
                    )
                done[by_length[len(done)]] = own
        yield from (done[i] for i in range(len(window)))


def _row(
    chain: GivenChain, stats: dict[str, np.ndarray], tokenizer: Tokenizer, preset: StepPreset
) -> dict[str, Any]:
    return chain.named | {
        "token_logprobs": stats["logprob"].tolist(),
        "sum_logprob": float(np.sum(stats["logprob"], dtype=np.float64)),
        "steps": [
            {name: getattr(step, name) for name in _STEP_FIELDS}
            for step in score_chain(chain.response, stats, tokenizer, preset)
        ],
    }


def _batches(chains: Sequence[GivenChain], batch_tokens: int) -> Iterator[list[GivenChain]]:
    """Cuts chains sorted by length where the padded batch would grow too large."""
    batch: list[GivenChain] = []
    for chain in chains:
        length = power_of_two(len(chain), least=16)
        if batch and power_of_two(len(batch) + 1) * length > batch_tokens:
            yield batch
            batch = []
        batch.append(chain)
    if batch:
        yield batch


def _score_batch(
    model: LoadedModel, batch: Sequence[GivenChain], stats: tuple[str, ...], topk: int
) -> dict[str, np.ndarray]:
    """Statistics `[B, R]` of the responses' tokens, aligned at their first ones."""
    rows = power_of_two(len(batch))
    length = power_of_two(max(map(len, batch)), least=16)
    longest = power_of_two(max(len(c.response) for c in batch), least=16)
    tokens_BT = np.zeros((rows, length), np.int32)
    targets_BR = np.full((rows, longest), -1, np.int32)  # ignored by the scoring
    first_B = np.zeros(rows, np.int32)
    for b, chain in enumerate(batch):
        both = chain.prompt + chain.response
        tokens_BT[b, : len(both)] = both
        targets_BR[b, : len(chain.response)] = chain.response
        first_B[b] = len(chain.prompt) - 1
    out = _token_stats(
        model.params, tokens_BT, first_B, targets_BR, config=model.config, stats=stats, topk=topk
    )
    return {name: np.asarray(getattr(out, name)) for name in stats}


@functools.partial(jax.jit, static_argnames=("config", "stats", "topk"))
def _token_stats(
    params: Any,
    tokens_BT,
    first_B,
    targets_BR,
    *,
    config: ModelConfig,
    stats: tuple[str, ...],
    topk: int,
) -> scoring.TokenStats:
    positions_BT = jnp.broadcast_to(jnp.arange(tokens_BT.shape[1]), tokens_BT.shape)
    hidden_BTD, _ = transformer.forward(
        params, tokens_BT, positions_BT, config=config, attend=causal_attend(positions_BT, config)
    )
    # Only what predicts a response's token meets the vocabulary.
    index_BR = first_B[:, None] + jnp.arange(targets_BR.shape[1])
    index_BR = jnp.minimum(index_BR, tokens_BT.shape[1] - 1)
    hidden_BRD = jnp.take_along_axis(hidden_BTD, index_BR[..., None], axis=1)
    return scoring.token_stats_from_hidden(
        hidden_BRD,
        transformer.unembedding(params),
        targets_BR,
        stats=stats,
        soft_cap=config.logit_soft_cap,
        valid_vocab=config.valid_vocab,
        topk=topk,
    )
