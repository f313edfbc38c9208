"""Scores of chains that were written elsewhere: read from JSONL, teacher-forced, batch by batch."""

import collections
import contextlib
import dataclasses
import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

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

R = TypeVar("R")

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


class Replica(NamedTuple):
    """A model and the devices that it lies on; no mesh: the default device."""

    model: LoadedModel
    mesh: Mesh | None = None


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
    batches = make_batches(chains, batch_tokens)
    figures = _figures([Replica(model)], chains, batches, stats, topk)
    yield from in_order((number, own) for number, own, _ in figures)


def make_batches(chains: Sequence[GivenChain], batch_tokens: int) -> list[list[int]]:
    """The numbers of the chains of each batch, similar in length; a window after the other.

    `batch_tokens` is as for `score_chains`; ValueError if it is below 1.
    """
    if batch_tokens < 1:
        raise ValueError(f"batch_tokens must be at least 1, not {batch_tokens}")
    batches: list[list[int]] = []
    for start in range(0, len(chains), _WINDOW):
        window = range(start, min(start + _WINDOW, len(chains)))
        by_length = sorted(window, key=lambda i: len(chains[i]))
        batches += _cut(by_length, [len(chains[i]) for i in by_length], batch_tokens)
    return batches


def score_batches(
    replicas: Iterable[Replica],
    chains: Sequence[GivenChain],
    batches: Iterable[list[int]],
    preset: StepPreset,
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Scores batches, one on each replica at a time; yields each chain's number and row.

    A replica is asked for when those before it are busy, a batch when the one before it is under
    way.

    Raises:
      ValueError: a row's figures are not finite; the message names its line.
    """
    for i, own, replica in _figures(replicas, chains, batches, preset.stats, preset.topk):
        yield i, _row(chains[i], own, replica.model.tokenizer, preset)


def _figures(
    replicas: Iterable[Replica],
    chains: Sequence[GivenChain],
    batches: Iterable[list[int]],
    names: tuple[str, ...],
    topk: int,
) -> Iterator[tuple[int, dict[str, np.ndarray], Replica]]:
    """The number of each chain, its response's statistics `[T]`, and what computed them."""
    source, more = iter(batches), iter(replicas)
    running: collections.deque = collections.deque()
    free: list[Replica] = []
    following = next(source, None)
    while following is not None or running:
        unused = None
        if following is not None:
            unused = free.pop() if free else next(more, None)
        if following is not None and unused is not None:
            scores = _score_batch(unused, [chains[i] for i in following], names, topk)
            running.append((unused, following, scores))
            following = next(source, None)
            continue
        replica, numbers, scores = running.popleft()
        stats = {name: np.asarray(getattr(scores, name)) for name in names}
        free.append(replica)
        for row, i in enumerate(numbers):
            own = {name: values[row, : len(chains[i].response)] for name, values in stats.items()}
            if not all(np.isfinite(values).all() for values in own.values()):
                raise ValueError(
                    f"line {chains[i].named['line']}: the model's log-probabilities of this "
                    "response are not all finite: its weights or this dtype are broken"
                )
            yield i, own, replica


def in_order(rows: Iterable[tuple[int, R]]) -> Iterator[R]:
    """Rows by their numbers, 0 first; holds back those that come early."""
    early: dict[int, R] = {}
    following = 0
    for number, row in rows:
        early[number] = row
        while following in early:
            yield early.pop(following)
            following += 1


def by_window(numbered: tuple[int, Any]) -> int:
    """What the rows of `score_batches` rise in: their window, where the batches do."""
    return numbered[0] // _WINDOW


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


def _cut(numbers: list[int], lengths: list[int], batch_tokens: int) -> Iterator[list[int]]:
    """Cuts chains sorted by length where the padded batch would grow too large."""
    batch: list[int] = []
    for number, tokens in zip(numbers, lengths, strict=True):
        length = power_of_two(tokens, least=16)
        if batch and power_of_two(len(batch) + 1) * length > batch_tokens:
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch


def _score_batch(
    replica: Replica, batch: Sequence[GivenChain], stats: tuple[str, ...], topk: int
) -> scoring.TokenStats:
    """Statistics `[B, R]` of the responses' tokens, aligned at their first ones; not waited for."""
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
    model = replica.model
    on_mesh = contextlib.nullcontext() if replica.mesh is None else jax.set_mesh(replica.mesh)
    with on_mesh:
        return response_stats(
            model.params, tokens_BT, first_B, targets_BR,
            config=model.config, stats=stats, topk=topk,
        )  # fmt: skip


@functools.partial(jax.jit, static_argnames=("config", "stats", "topk"))
def response_stats(
    params: Any,
    tokens_BT,
    first_B,
    targets_BR,
    *,
    config: ModelConfig,
    stats: tuple[str, ...],
    topk: int,
) -> scoring.TokenStats:
    """Statistics `[B, R]` of responses' tokens: the compiled program of `score`.

    `tokens_BT` are prompts and responses, `first_B` the places of the prompts' last tokens, and
    `targets_BR` the responses, int32; a target of -1 is not scored.
    """
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
