from types import SimpleNamespace

import numpy as np
import pytest

from leco_jax.decoding.request import Chain, Request
from leco_jax.decoding.watch import ConfidenceFloor, WeakStep


def _chain(**fields):
    chain = Chain(Request(prompt=(1,), max_new_tokens=99), stats={"topk_logprob": []})
    for name, value in fields.items():
        setattr(chain, name, value)
    return chain


def _feed(watch, confidences, chunk):
    """Looks after every chunk, as the engine does; returns the first verdict."""
    chain = _chain()
    for start in range(0, len(confidences), chunk):
        piece = confidences[start : start + chunk]
        chain.tokens += [0] * len(piece)
        chain.stats["topk_logprob"] += [-c for c in piece]
        verdict = watch.look(chain, start)
        if verdict is not None:
            return verdict
    return None


@pytest.mark.parametrize("chunk", [1, 3, 8])
def test_the_floor_ends_a_chain_at_the_token_where_the_window_falls(chunk):
    confidences = [10.0] * 5 + [1.0] * 5
    # Windows of 4: ..., (10 10 10 1) = 7.75 at the 6th token, 5.5 at the 7th, 3.25 at the 8th.
    assert _feed(ConfidenceFloor(threshold=5.5, window=4), confidences, chunk) == (
        "low_confidence",
        8,
    )
    assert _feed(ConfidenceFloor(threshold=5.6, window=4), confidences, chunk)[1] == 7
    assert _feed(ConfidenceFloor(threshold=0.9, window=4), confidences, chunk) is None
    assert _feed(ConfidenceFloor(threshold=99.0, window=11), confidences, chunk) is None


def test_the_floor_sees_the_same_windows_whatever_the_chunks():
    confidences = np.random.default_rng(0).gamma(4.0, size=60)
    for threshold in (2.0, 3.0, 3.5, 4.0):
        watch = ConfidenceFloor(threshold=threshold, window=7)
        means = np.convolve(confidences, np.ones(7) / 7, mode="valid")
        low = np.flatnonzero(means < threshold)
        expected = ("low_confidence", int(low[0]) + 7) if low.size else None
        for chunk in (1, 4, 16, 60):
            assert _feed(watch, confidences.tolist(), chunk) == expected


@pytest.mark.parametrize(
    ("scores", "verdict"),
    [
        ([], None),
        ([0.1], None),  # nothing to compare with
        ([1.5, 1.3], None),  # within the margin
        ([1.5, 1.1], "weak_step"),
        ([0.9, 1.5, 1.6], None),  # kept by an earlier decision
        ([1.0, 0.5, 0.4], None),  # two weak steps: neither stands out
        ([1.6, 0.8, 1.5], "weak_step"),
    ],
)
def test_a_weak_step_stands_out_from_all_others(scores, verdict):
    watch = WeakStep(margin=0.3, first=1, closed_steps=_steps(scores))
    outcome = watch.look(_chain(tokens=[1, 2, 3]), 0)
    assert (None if outcome is None else outcome[0]) == verdict


def _steps(scores, calls=None):
    def closed_steps(chain, fresh):
        if calls is not None:
            calls.append(fresh)
        return [SimpleNamespace(score=score) for score in scores]

    return closed_steps


def test_whoever_agrees_is_asked_about_the_weakest_step_alone():
    asked = []

    def agrees(steps, weakest):
        asked.append([steps[weakest].score, weakest])
        return False

    watch = WeakStep(margin=0.3, closed_steps=_steps([1.5, 0.2, 1.4]), agrees=agrees)
    assert watch.look(_chain(tokens=[1, 2, 3]), 0) is None
    assert asked == [[0.2, 1]]


def test_the_first_look_of_a_round_sees_the_kept_tokens_too():
    calls = []
    watch = WeakStep(margin=0.3, closed_steps=_steps([], calls))
    watch.look(_chain(tokens=[1] * 9, sampled=2), 7)  # seven kept, two sampled since
    watch.look(_chain(tokens=[1] * 11, sampled=4), 9)
    assert calls == [0, 9]
