"""Figures of a written chain, from the statistics that its round stores."""

import math
from typing import Any, Literal

import numpy as np

from leco_jax.decoding.programs import MARGIN
from leco_jax.text.answer_regions import last_boxed

Part = Literal["mean", "tail", "bottom", "least"]
_BOTTOM = 0.1  # share of the windows; DeepConf


def mean_statistic(chain: Any, name: str) -> float | None:
    """The mean of a stored statistic over a chain's tokens; None where it is not all there.

    Args:
      chain: a `Round`, or a results line's as an object.
      name: of the statistic.
    """
    values = chain.token_stats.get(name)
    return None if not values or None in values else math.fsum(values) / len(values)


def deepconf_confidence(chain: Any, part: Part, *, window: int = 2048) -> float | None:
    """DeepConf's confidence of a chain (arXiv 2508.15260), from the stored `topk_logprob`.

    Args:
      chain: a `Round`, or a results line's as an object.
      part: "mean" of all tokens; "tail", the last `window`; "bottom", the mean of the lowest tenth
        of all windows; "least", the lowest window.
      window: tokens; all of a chain that is shorter.
    """
    values = chain.token_stats.get("topk_logprob")
    if not values or None in values:
        return None
    confidence = -np.asarray(values, np.float64)
    window = min(window, len(confidence))
    if part == "mean":
        return float(confidence.mean())
    if part == "tail":
        return float(confidence[-window:].mean())
    total = np.concatenate([[0.0], np.cumsum(confidence)])
    means = np.sort((total[window:] - total[:-window]) / window)
    return float(means[: 1 if part == "least" else max(1, int(len(means) * _BOTTOM))].mean())


def answer_margin(chain: Any) -> float | None:
    """How sure the model was of the answer's tokens (CoT-decoding, arXiv 2402.10200).

    The mean, over the tokens that hold the stated answer, of the most likely token's probability
    minus the second's: the last box's content, or else the last place with the answer's text, or
    else the last line. None without an answer or the statistic.
    """
    margins = chain.token_stats.get(MARGIN)
    if chain.answer is None or not margins:
        return None
    text = chain.text.rstrip()
    stated = last_boxed(text) or (chain.answer if chain.answer in text else text.splitlines()[-1])
    start = text.rfind(stated)
    ends = chain.token_ends
    own = [
        margin
        for before, end, margin in zip([0, *ends], ends, margins, strict=False)
        if before < start + len(stated) and end > start and margin is not None
    ]
    return math.fsum(own) / len(own) if own else None
