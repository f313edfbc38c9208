"""The generation engine: a queue of requests and a fixed number of slots that decode together.

One thread, one loop. `submit`, `resume` and `cancel` return at once; `step` fills free slots,
decodes a chunk of tokens for every row, and returns the chains that ended; as `begin_step` and
`end_step` it leaves the host free while the device decodes. A chain's tokens (in
float32) depend on its own request and on the number of slots, not on the other rows. The same holds
for its statistics except for their last digits: the cache is as long as the longest chain in it,
and its length sets the order in which attention sums.

    engine = Engine(model, slots=16, stop_ids=tokenizer.eos_ids)
    chain = engine.submit(Request(prompt=tuple(ids), max_new_tokens=256))
    while not chain.done:
        engine.step()
"""

import collections
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from leco_jax.decoding import cache as kv
from leco_jax.decoding import programs
from leco_jax.decoding.request import (
    CANCELLED,
    Chain,
    Request,
    Sampling,
    Watch,
    token_ids,
    whole_number,
)
from leco_jax.decoding.row_cache import PromptChunks, RowCache, explained
from leco_jax.decoding.rows import Counters, cached_tokens, cut_at_stop_text, take_row, to_rows
from leco_jax.models.llama import Llama
from leco_jax.models.weights import unstack_layers
from leco_jax.shapes import power_of_two

_LEAST_PROMPT = 32  # lengths of prompts are rounded up to powers of two, from here on
_MAX_LENGTH = 2048


class Engine:
    """Batched generation with captured statistics, roll-back and a shared prefix."""

    def __init__(
        self,
        model: Llama,
        *,
        slots: int = 16,
        max_length: int | None = None,
        prefix: Sequence[int] = (),
        stats: tuple[str, ...] = ("logprob",),
        topk: int = 20,
        capture: str = "raw",
        stop_ids: Sequence[int] = (),
        token_bytes: Callable[[int], bytes] | None = None,
        chunk: int = 8,
        mesh: jax.sharding.Mesh | None = None,
    ):
        """Computes the prefix and allocates the cache.

        Args:
          model: its weights are read once, now. Stacked layers are copied: load a large model with
            `load_model(..., unstacked=True)`.
          slots: rows decoded together (`B`).
          max_length: most tokens of one row, prompt and answer without the prefix; default: 2048,
            or what the prefix leaves of the model's `max_positions`.
          prefix: token ids that precede every prompt; computed once.
          stats: statistics to capture for each token, see `programs.captured_stats`.
          topk: `k` of the top-k statistics.
          capture: whose statistics: `"raw"`, the model's distribution, or `"processed"`, the one
            after temperature and truncation.
          stop_ids: sampled tokens that end a chain.
          token_bytes: gives the bytes of a token; needed for stop texts.
          chunk: tokens decoded for every row in one `step`.
          mesh: what the weights and the rows are sharded over; None: the default device. With
            several processes, each runs its own engine on the same requests in the same order.

        Raises:
          ValueError: an option of the wrong type or out of range.
          OutOfMemoryError: the cache would not fit at its largest.
        """
        self.config = config = model.config
        prefix = self._checked_ids("prefix", prefix)
        stop_ids = token_ids("stop_ids", stop_ids)
        room = config.max_positions - len(prefix)
        max_length = min(_MAX_LENGTH, room) if max_length is None else max_length
        if room < 2 or whole_number("max_length", max_length, low=2) > room:
            raise ValueError(
                f"max_length={max_length} and a prefix of {len(prefix)} tokens need more than the "
                f"model's max_positions={config.max_positions}"
            )
        whole_number("slots", slots, low=1)
        whole_number("chunk", chunk, low=1)
        if capture not in ("raw", "processed"):
            raise ValueError(f'capture={capture!r} must be "raw" or "processed"')
        self.counters = Counters()
        self.max_length = max_length
        self._params = unstack_layers(model.adapted())
        self._stats = stats
        self._chunk = chunk
        self._options = {"stats": stats, "topk": topk, "capture": capture, "steps": chunk}
        self._stop_ids = frozenset(stop_ids)
        self._stop_array = jnp.asarray(sorted(stop_ids) or [-1], jnp.int32)
        self._token_bytes = token_bytes
        self._queue: collections.deque[Chain] = collections.deque()
        self._cancelled: list[Chain] = []  # since the last step
        self._decoded: programs.Decoded | None = None  # of a step that has begun
        self._rows: list[Chain | None] = [None] * slots
        self._poisoned: set[int] = set()  # rows whose slots may hold NaN
        self._cache = RowCache(config, rows=slots, longest=max_length + chunk, mesh=mesh)
        self._prompts = PromptChunks(spare=self._cache.largest)
        self._prefix_length = 0
        self._prefix: kv.Cache | None = None
        if prefix:
            with explained(config, rows=slots, slots=self._cache.largest):
                chunk_cache = self._run_prefill(prefix, len(prefix))
            self._prefix = jax.tree.map(lambda x: x[0], chunk_cache)
            self._prefix_length = len(prefix)

    def submit(self, request: Request) -> Chain:
        """Queues a request; requests with the same prompt share its prefill.

        Raises:
          ValueError: the prompt holds an id outside the vocabulary, the request cannot fit, or it
            has stop texts and the engine no `token_bytes`.
        """
        self._checked_ids("prompt", request.prompt)
        self._check_room(request, len(request.prompt))
        if request.stop and self._token_bytes is None:
            raise ValueError("stop texts need an engine with token_bytes")
        chain = Chain(
            request,
            stats={name: [] for name in self._stats},
            sampling=request.sampling,
            watch=self._checked(request.watch),
        )
        self._enqueue(chain)
        return chain

    def resume(
        self,
        chain: Chain,
        *,
        keep: int,
        append: Sequence[int] = (),
        sampling: Sampling | None = None,
        forbid: Sequence[int] = (),
        watch: Watch | None = None,
    ) -> None:
        """Cuts an ended chain after `keep` tokens and continues it, in a new round.

        Args:
          chain: an ended chain.
          keep: number of tokens to keep, counted after the prompt.
          append: tokens to put after them.
          sampling: how tokens are chosen from here on; default: as before.
          forbid: tokens that may not be the first one sampled.
          watch: of this round; that of the round before does not go on.

        Raises:
          ValueError: the chain still runs or cannot fit, or an option is wrong.
        """
        if not chain.done:
            raise ValueError("only a chain that has ended can be resumed")
        whole_number("keep", keep, low=0, high=len(chain.tokens))
        append = self._checked_ids("append", append)
        forbid = self._checked_ids("forbid", forbid)
        if sampling is not None and not isinstance(sampling, Sampling):
            raise ValueError(f"sampling={sampling!r} must be a Sampling")
        watch = self._checked(watch)
        self._check_room(chain.request, len(chain.request.prompt) + keep + len(append))
        self.counters.discarded += len(chain.tokens) - keep
        chain.watch = watch
        if chain in self._rows and self._rows.index(chain) in self._poisoned:
            self._cache.clear(self._rows.index(chain), len(chain.request.prompt) + keep - 1)
        chain.cut(keep, finish=None)
        chain.round += 1
        chain.sampled = 0
        chain.appended = list(append)
        chain.tail = b""
        chain.forbid = forbid
        chain.sampling = chain.sampling if sampling is None else sampling
        if chain not in self._rows:
            self._enqueue(chain)

    def release(self, chain: Chain) -> None:
        """Frees the slot of a held chain."""
        if not chain.done:
            raise ValueError("only a chain that has ended can be released; cancel a running one")
        self.cancel(chain)

    def cancel(self, chain: Chain) -> None:
        """Ends a chain, waiting, running or held, and frees its slot at once; it keeps its tokens.

        Its `finish` is `"cancelled"` unless it had ended before. The next `step` returns it among
        the chains that ended. ValueError if it is another engine's.
        """
        if chain in self._queue:
            self._queue.remove(chain)
            self._prompts.forget(chain.request.prompt + tuple(chain.tokens))
        elif chain in self._rows:
            self._free(self._rows.index(chain))
        elif not chain.done:
            raise ValueError("the chain is not one of this engine's")
        if not chain.done:
            chain.finish = CANCELLED
            self._cancelled.append(chain)

    @property
    def cache_shape(self) -> tuple[int, ...]:
        """`[B, K, S, H]` of each layer's values; `S` follows the longest row."""
        return self._cache.arrays["v"][0].shape

    @property
    def busy(self) -> bool:
        """Whether a chain waits or runs."""
        return bool(self._queue or self._cancelled) or any(c and not c.done for c in self._rows)

    @property
    def waiting(self) -> int:
        """Chains that wait for a slot."""
        return len(self._queue)

    @property
    def slots(self) -> int:
        """Rows decoded together."""
        return len(self._rows)

    @property
    def free(self) -> int:
        """Slots without a chain."""
        return self._rows.count(None)

    def step(self) -> list[Chain]:
        """Decodes one chunk; returns the chains that ended in it or were cancelled before it."""
        self.begin_step()
        return self.end_step()

    def begin_step(self) -> None:
        """Fills free slots and starts to decode a chunk; `end_step` has to be called next."""
        self._admit()
        if any(c and not c.done for c in self._rows):
            longest = max(cached_tokens(c) for c in self._rows if c is not None)
            self._cache.fit(longest + self._chunk + 1)
            self._cache.arrays, self._decoded = self._decode(programs.decode)
            self.counters.row_steps += self._chunk * self.slots

    def end_step(self) -> list[Chain]:
        """Waits for the chunk; returns what `step` does."""
        cancelled = [chain for chain in self._cancelled if chain.done]  # not resumed meanwhile
        self._cancelled = []
        decoded, self._decoded = self._decoded, None
        return cancelled if decoded is None else cancelled + self._harvest(jax.device_get(decoded))

    def lowered(self) -> dict[str, jax.stages.Lowered]:
        """The programs at their current shapes, to be compiled and read: "decode" and "insert"."""
        chunk = self._run_prefill((0,), _LEAST_PROMPT)
        with self._cache.on_mesh():
            insert = kv.insert.lower(self._cache.arrays, chunk, np.int32(0))
        return {"decode": self._decode(programs.decode.lower), "insert": insert}

    def _decode(self, call: Callable) -> Any:
        with self._cache.on_mesh():
            return call(
                self._params,
                self._cache.arrays,
                self._prefix,
                to_rows(self._rows, chunk=self._chunk),
                self._stop_array,
                config=self.config,
                prefix_length=self._prefix_length,
                **self._options,
            )

    def _checked_ids(self, name: str, ids: Sequence[int]) -> tuple[int, ...]:
        vocab_size = self.config.valid_vocab or self.config.vocab_size
        return token_ids(name, ids, vocab_size=vocab_size)

    def _check_room(self, request: Request, given: int) -> None:
        need = given + request.max_new_tokens
        if need > self.max_length:
            raise ValueError(
                f"{given} tokens and {request.max_new_tokens} new ones need {need} slots, but "
                f"the engine has max_length={self.max_length}: raise it, or ask for fewer tokens"
            )

    def _checked(self, watch: Watch | None) -> Watch | None:
        if watch is not None:
            missing = set(watch.stats) - set(self._stats)
            if missing:
                raise ValueError(
                    f"{type(watch).__name__} needs the statistics {sorted(missing)}, which this "
                    f"engine does not capture: Engine(stats={(*self._stats, *sorted(missing))})"
                )
        return watch

    # Slots

    def _enqueue(self, chain: Chain) -> None:
        self._prompts.expect(chain.request.prompt + tuple(chain.tokens))
        self._queue.append(chain)

    def _admit(self) -> None:
        """Moves waiting chains into free slots; a held chain loses its slot if all are held."""
        if self._queue and None not in self._rows and all(c and c.done for c in self._rows):
            self._free(0)  # resuming it costs a second prefill; keeping it, a deadlock
        for row, occupant in enumerate(self._rows):
            if occupant is None and self._queue:
                chain = self._queue.popleft()
                self._rows[row] = chain
                self._place(chain, row)

    def _place(self, chain: Chain, row: int) -> None:
        prompt = chain.request.prompt + tuple(chain.tokens)
        chunk = self._prompts.take(prompt)
        count = len(prompt) - 1  # the last token is fed by `decode`
        if not count:
            return
        if chunk is None:
            chunk = self._run_prefill(prompt[:-1], power_of_two(count, least=_LEAST_PROMPT))
            again = self._prompts.put(prompt, chunk) or chain.round > 0
            self.counters.prefilled += count
            self.counters.prefilled_twice += count if again else 0
        else:
            self.counters.reused += count
        self._cache.insert(chunk, row, tokens=count + self._chunk + 1)

    def _free(self, row: int) -> None:
        self._rows[row] = None
        if row in self._poisoned:
            self._poisoned.remove(row)
            self._cache.clear(row, 0)

    def _run_prefill(self, tokens: Sequence[int], bucket: int) -> kv.Cache:
        padded = np.zeros((1, bucket), np.int32)
        padded[0, : len(tokens)] = tokens
        with self._cache.on_mesh():
            return programs.prefill(
                self._params,
                self._prefix,
                padded,
                config=self.config,
                prefix_length=self._prefix_length,
            )

    def _harvest(self, decoded: programs.Decoded) -> list[Chain]:
        """Appends the decoded tokens to their chains and returns the chains that ended."""
        running = [(row, c) for row, c in enumerate(self._rows) if c is not None and not c.done]
        fresh = {}
        for row, chain in running:
            before = len(chain.tokens)
            given, sampled = take_row(chain, decoded, row, stop_ids=self._stop_ids)
            self.counters.given += given
            self.counters.sampled += sampled
            fresh[chain] = before + given
            if not decoded.finite[:, row].all():
                self._poisoned.add(row)
            if chain.request.stop and self._token_bytes is not None:
                before = len(chain.tokens)
                cut_at_stop_text(chain, fresh[chain], self._token_bytes)
                self.counters.discarded += before - len(chain.tokens)
        self._ask_watches([chain for _, chain in running if not chain.done], fresh)
        ended = [(row, c) for row, c in running if c.done and c.finish != CANCELLED]
        for row, chain in ended:
            if not chain.request.hold:
                self._free(row)
        return [chain for _, chain in ended]

    def _ask_watches(self, chains: list[Chain], fresh: dict[Chain, int]) -> None:
        for chain in chains:
            if chain.watch is None or chain.done:  # another chain's watch may have cancelled it
                continue
            verdict = chain.watch.look(chain, fresh[chain])
            if verdict is not None:
                finish, keep = verdict
                self.counters.discarded += len(chain.tokens) - keep
                chain.cut(keep, finish=finish)
