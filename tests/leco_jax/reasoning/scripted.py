"""A real model whose next token depends on the current one alone, as a table says.

Attention and MLP of the single layer add nothing, the embedding is the identity, and the
unembedding holds the logarithms of the table. Everything else is the library's own code.
"""

import jax
import jax.numpy as jnp
import numpy as np

from leco_jax.models.architectures import preset
from leco_jax.models.llama import Llama
from leco_jax.models.weights import init_params
from leco_jax.text.tokenizer import Tokenizer


class Pieces(Tokenizer):
    """A tokenizer of given texts, longest match first; the last piece is the EOS."""

    def __init__(self, pieces):
        eos = len(pieces)
        super().__init__([*(p.encode() for p in pieces), b"<eos>"], eos_ids=[eos])
        self._by_text = {p: i for i, p in reversed(list(enumerate(pieces)))}

    def _encode(self, text, allow_special, continuation):
        ids = []
        while text:
            piece = max((p for p in self._by_text if text.startswith(p)), key=len)
            ids.append(self._by_text[piece])
            text = text[len(piece) :]
        return ids

    def _write_vocabulary(self, directory):
        raise NotImplementedError


def scripted_model(vocab_size: int, table: dict[int, dict[int, float]]) -> Llama:
    """A model with P(next | current) = table[current][next]; what is left over is spread evenly."""
    config = preset("tiny").replace(
        vocab_size=vocab_size, width=vocab_size, num_layers=1, tied=False, norm_eps=1e-12
    )
    params = init_params(config, jax.random.key(0))
    params["layers"]["o_proj"] *= 0
    params["layers"]["down_proj"] *= 0
    params["embed"] = jnp.eye(vocab_size)
    params["final_norm"] = jnp.ones(vocab_size)
    p = np.full((vocab_size, vocab_size), 1 / vocab_size)  # [current, next]
    for current, following in table.items():
        p[current] = (1 - sum(following.values())) / (vocab_size - len(following))
        for token, probability in following.items():
            p[current, token] = probability
    # The norm of a one-hot vector has length sqrt(V).
    params["unembed"] = jnp.asarray(np.log(p).T / np.sqrt(vocab_size), jnp.float32)
    return Llama(config, params=params)
