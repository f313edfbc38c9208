import itertools

import numpy as np
import pytest

from leco_jax.evaluation.calibration import auroc, calibration_error, reliability


def test_auroc_is_the_share_of_pairs_in_order_with_ties_for_half():
    noise = np.random.default_rng(0)
    figures = noise.integers(0, 6, 60).astype(float)  # many ties
    right = noise.random(60) < 0.4
    pairs = list(itertools.product(figures[right], figures[~right]))
    share = sum((a > b) + (a == b) / 2 for a, b in pairs) / len(pairs)
    assert auroc(figures[right], figures[~right]) == pytest.approx(share)
    assert auroc(np.array([1, 2, 3]), np.array([0, 2])) == pytest.approx((1 + 1.5 + 2) / 6)
    assert auroc(figures, np.array([])) is None


def test_bins_have_equal_numbers_and_the_error_is_their_mean_distance():
    confidences = [i / 20 for i in range(20)]
    low, high = reliability(confidences, [False] * 10 + [True] * 10)
    assert (low.answers, high.answers) == (10, 10)
    assert (low.correct, high.correct) == (0.0, 1.0)
    assert low.confidence == pytest.approx(0.225)
    # |0.225 - 0| and |0.725 - 1|, of ten each.
    assert calibration_error([low, high]) == pytest.approx(0.25)
    assert len(reliability([0.5] * 19, [True] * 19)) == 1
    assert reliability([], []) == []
    assert calibration_error([]) is None
