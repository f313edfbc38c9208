"""Between chains, which the host keeps, and rows, which the device decodes; imports no jax."""

import dataclasses
from collections.abc import Callable, Sequence, Set
from typing import Any, NamedTuple

import numpy as np

from leco_jax.decoding.request import Chain
from leco_jax.shapes import power_of_two

_FORBIDDEN = 4  # width of `Rows.forbid`; a chain that forbids more widens it


class Rows(NamedTuple):
    """The state of each row before a chunk; the host builds it anew for every chunk."""

    token: Any  # `[B]` int32, the last known token, not yet in the cache
    length: Any  # `[B]` int32, tokens of the row in the cache (without the shared prefix)
    remaining: Any  # `[B]` int32, tokens still to come; 0 for an idle row
    forced: Any  # `[B, n]` int32, given tokens, which are fed and scored, not sampled
    num_forced: Any  # `[B]` int32, how many of them are real; the others are padding
    # temperature, top_k, top_p, forbid: sampling options, see `SamplingRows`; `forbid` applies to
    # the first sampled token
    temperature: Any
    top_k: Any
    top_p: Any
    forbid: Any
    key_ids: Any  # `[B, 4]` uint32: seed, problem, sample, round


class Decoded(NamedTuple):
    """What a chunk of n tokens gave; each field is `[n, B]`."""

    token: Any  # int32, the next token, given or sampled
    finite: Any  # bool, false where the logits held a NaN or no token was possible
    stats: dict[str, Any]  # the captured statistics by name, float32


@dataclasses.dataclass
class Counters:
    """What an engine did so far, in tokens: the cost of a method on any machine."""

    prefilled: int = 0  # prompt tokens whose keys and values were computed, without padding
    # those of them whose prompt had been prefilled before, or whose chain had lost its slot
    prefilled_twice: int = 0
    reused: int = 0  # prompt tokens taken over from a chain with the same prompt
    given: int = 0  # tokens appended by `resume`; they are fed while other rows decode
    sampled: int = 0  # tokens sampled
    discarded: int = 0  # tokens rolled back, or cut off with a stop text
    # tokens decoded over all rows, idle ones included; `sampled + given` of them were used
    row_steps: int = 0


def cached_tokens(chain: Chain) -> int:
    """Tokens of a chain that are in the cache: all known ones but the last."""
    return len(chain.request.prompt) + len(chain.tokens) - 1


def to_rows(chains: Sequence[Chain | None], *, chunk: int) -> Rows:
    """The rows of a chunk; empty slots and held chains are idle rows."""
    batch = len(chains)
    forbidden = power_of_two(max((len(c.forbid) for c in chains if c), default=0), least=_FORBIDDEN)
    rows = Rows(
        token=np.zeros(batch, np.int32),
        length=np.zeros(batch, np.int32),
        remaining=np.zeros(batch, np.int32),
        forced=np.zeros((batch, chunk), np.int32),
        num_forced=np.zeros(batch, np.int32),
        temperature=np.zeros(batch, np.float32),
        top_k=np.zeros(batch, np.int32),
        top_p=np.ones(batch, np.float32),
        forbid=np.full((batch, forbidden), -1, np.int32),
        key_ids=np.zeros((batch, 4), np.uint32),
    )
    for b, chain in enumerate(chains):
        if chain is None:
            continue
        request = chain.request
        rows.token[b] = chain.tokens[-1] if chain.tokens else request.prompt[-1]
        rows.length[b] = cached_tokens(chain)
        if chain.done:
            continue  # held: decoding writes the same values again into its last slot
        forced = chain.appended[:chunk]
        rows.remaining[b] = len(chain.appended) + request.max_new_tokens - chain.sampled
        rows.forced[b, : len(forced)] = forced
        rows.num_forced[b] = len(forced)
        rows.temperature[b] = chain.sampling.temperature
        rows.top_k[b] = chain.sampling.top_k
        rows.top_p[b] = chain.sampling.top_p
        rows.forbid[b, : len(chain.forbid)] = chain.forbid
        ids = (request.seed, request.problem, request.sample, chain.round)
        rows.key_ids[b] = [part & 0xFFFFFFFF for part in ids]
    return rows


def take_row(chain: Chain, decoded: Decoded, row: int, *, stop_ids: Set[int]) -> tuple[int, int]:
    """Appends a row's decoded tokens to its chain, up to the one that ends it.

    Returns:
      The numbers of given and of sampled tokens.
    """
    steps = len(decoded.token)
    given = min(len(chain.appended), steps)
    for i in range(given):
        if not decoded.finite[i, row]:
            chain.finish = "nan"
            return i, 0
        _add(chain, decoded, i, row)
    del chain.appended[:given]
    sampled = 0
    for i in range(given, steps):
        if not decoded.finite[i, row]:
            chain.finish = "nan"
            break
        _add(chain, decoded, i, row)
        chain.forbid = ()
        chain.sampled += 1
        sampled += 1
        if chain.tokens[-1] in stop_ids:
            chain.finish = "eos"
        elif chain.sampled == chain.request.max_new_tokens:
            chain.finish = "length"
        if chain.done:
            break
    return given, sampled


def _add(chain: Chain, decoded: Decoded, i: int, row: int) -> None:
    chain.tokens.append(int(decoded.token[i, row]))
    for name, values in chain.stats.items():
        values.append(float(decoded.stats[name][i, row]))


def cut_at_stop_text(chain: Chain, fresh: int, token_bytes: Callable[[int], bytes]) -> None:
    """Ends a chain at the first stop text that the tokens from `fresh` on complete."""
    pieces = [token_bytes(t) for t in chain.tokens]
    ends = np.cumsum([len(piece) for piece in pieces], dtype=np.int64)
    text = b"".join(pieces)
    scanned = int(ends[fresh - 1]) if fresh else 0
    stops = [stop.encode() for stop in chain.request.stop]
    hits = [text.find(stop, max(0, scanned - len(stop) + 1)) for stop in stops]
    hits = [at for at in hits if at >= 0]
    if not hits:
        return
    keep = int(np.searchsorted(ends, min(hits), side="right"))
    tail = text[int(ends[keep - 1]) if keep else 0 : min(hits)]
    chain.cut(keep, finish="stop")
    chain.tail = tail
