"""Which implementation runs: an explicit request is strict, "auto" takes what fits and says so."""

from leco_jax.scoring import hidden_xla, xla
from leco_jax.scoring.partials import Partials
from leco_jax.scoring.types import Options


def sums_from_logits(logits, valid, options: Options) -> Partials:
    """Sums over the vocabulary by the implementation that the options name."""
    return xla.sums_from_logits(logits, valid, options)


def sums_from_hidden(hidden, unembed, columns, valid, options: Options, layout: str):
    """Sums, target logits and top ids by the implementation that the options name."""
    return hidden_xla.sums_from_hidden(hidden, unembed, columns, valid, options, layout)
