"""Prefilled prompts: kept while chains wait for them, and the latest ones for chains to come."""

import collections

from leco_jax.decoding.cache import Cache

Prompt = tuple[int, ...]


class PromptChunks:
    """Chunks of the cache by prompt, so that chains with the same one prefill it once.

    A chunk is kept as long as a queued chain needs it. After that the latest ones stay, as many as
    together are no longer than `spare` tokens, padding included: the samples of a problem may be
    asked for one after another.
    """

    def __init__(self, *, spare: int):
        """Starts without any; `spare` bounds the chunks that nobody waits for."""
        self._spare = spare
        self._waiting: collections.Counter[Prompt] = collections.Counter()
        self._chunks: dict[Prompt, Cache] = {}  # the latest used one last
        self._seen: set[int] = set()  # hashes of all prompts that were ever here

    def expect(self, prompt: Prompt) -> None:
        """Notes that one more queued chain will need the prompt."""
        self._waiting[prompt] += 1

    def forget(self, prompt: Prompt) -> None:
        """Notes that one queued chain needs the prompt no longer."""
        self._waiting[prompt] -= 1
        if not self._waiting[prompt]:
            del self._waiting[prompt]

    def take(self, prompt: Prompt) -> Cache | None:
        """Hands a queued chain its chunk; None: it has to be computed, and `put` here."""
        self.forget(prompt)
        chunk = self._chunks.pop(prompt, None)
        if chunk is not None:
            self._keep(prompt, chunk)
        return chunk

    def put(self, prompt: Prompt, chunk: Cache) -> bool:
        """Adds a chunk; true if the same prompt had been here before."""
        again = hash(prompt) in self._seen
        self._seen.add(hash(prompt))
        self._keep(prompt, chunk)
        return again

    def _keep(self, prompt: Prompt, chunk: Cache) -> None:
        self._chunks[prompt] = chunk
        room = self._spare
        for other in reversed(list(self._chunks)):
            if other in self._waiting:
                continue
            room -= self._chunks[other]["v"][0].shape[2]
            if room < 0:
                del self._chunks[other]
