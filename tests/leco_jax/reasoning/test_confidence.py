"""Figures of stored chains, by hand."""

import types

import pytest

from leco_jax.reasoning.confidence import answer_margin, deepconf_confidence, mean_statistic


def _chain(**fields):
    chain = {"text": "", "answer": None, "token_ends": (), "token_stats": {}}
    return types.SimpleNamespace(**(chain | fields))


def test_deepconfs_four_confidences():
    chain = _chain(token_stats={"topk_logprob": [-1.0, -3.0, -2.0, -6.0]})
    # Windows of two: 2, 2.5, 4; the lowest tenth of them is one window.
    assert deepconf_confidence(chain, "mean", window=2) == 3.0
    assert deepconf_confidence(chain, "tail", window=2) == 4.0
    assert deepconf_confidence(chain, "least", window=2) == 2.0
    assert deepconf_confidence(chain, "bottom", window=2) == 2.0
    assert deepconf_confidence(chain, "least") == 3.0  # shorter than the window
    ramp = _chain(token_stats={"topk_logprob": [-float(i) for i in range(20)]})
    assert deepconf_confidence(ramp, "bottom", window=1) == 0.5  # the mean of 0 and 1
    assert deepconf_confidence(_chain(), "mean") is None
    assert deepconf_confidence(_chain(token_stats={"topk_logprob": [None]}), "mean") is None


def test_a_mean_is_of_all_tokens_or_none():
    chain = _chain(token_stats={"self_certainty": [1.0, 3.0], "entropy": [1.0, None]})
    assert mean_statistic(chain, "self_certainty") == 2.0
    assert mean_statistic(chain, "entropy") is None
    assert mean_statistic(chain, "logprob") is None


@pytest.mark.parametrize(
    ("text", "ends", "expected"),
    [
        ("4 = \\boxed{14}.", (1, 11, 13, 15), 0.75),  # the third token alone
        ("so 14 it is", (3, 5, 8, 11), 0.5),  # no box: where the answer's text stands last
        ("2\nfourteen", (1, 2, 6, 10), 0.875),  # neither: the last line
    ],
)
def test_the_margin_is_of_the_answers_tokens(text, ends, expected):
    chain = _chain(
        text=text, answer="14", token_ends=ends, token_stats={"margin": [0.25, 0.5, 0.75, 1.0]}
    )
    assert answer_margin(chain) == expected
    chain.answer = None
    assert answer_margin(chain) is None
