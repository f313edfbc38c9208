"""Least times of collectives, by hand."""

import numpy as np
import pytest

from launchers.compilation.chips import CHIPS
from launchers.compilation.hlo_cost import Collective
from launchers.compilation.roofline import first_group, joined, traffic

GIGABYTE = 10**9


@pytest.mark.parametrize(
    ("text", "group"),
    [
        ("", [0, 1, 2, 3, 4, 5, 6, 7]),
        ("{{0,2},{1,3}}", [0, 2]),
        ("[2,4]<=[8]", [0, 1, 2, 3]),
        ("[2,4]<=[4,2]T(1,0)", [0, 2, 4, 6]),
        ("mesh['axis_0'=4,'axis_1'=2] {'axis_0'}", [0, 2, 4, 6]),
        ("mesh['axis_0'=2,'axis_1'=4], device_ids=([4,2]T(1,0)) {'axis_1'}", [0, 2, 4, 6]),
    ],
)
def test_groups_as_xla_prints_them(text, group):
    assert first_group(text, 8) == group


def test_unknown_groups_are_named():
    with pytest.raises(ValueError, match="cannot read the groups 'axis_0 of mesh'"):
        first_group("axis_0 of mesh", 8)


def test_pairs_join_a_ring():
    assert joined("{{0,2},{2,4},{4,0},{1,3},{3,1}}") == [0, 2, 4]


def places(*shape, slices=1):
    return np.array([(s, *at) for s in range(slices) for at in np.ndindex(*shape)])


def of(kind):
    return Collective(kind, GIGABYTE, "")


def test_a_line_has_one_link_and_a_ring_two():
    chip = CHIPS["v5e"]
    line = traffic(of("all-gather"), places(1, 4), chip, (4, 4))
    assert line.ici_bytes == 3 * GIGABYTE
    assert line.ici_seconds == pytest.approx(3 / 50)
    ring = traffic(of("all-gather"), places(1, 16), chip, (16, 16))
    assert ring.ici_seconds == pytest.approx(15 / 100)
    torus = traffic(of("all-reduce"), places(4, 4, 4), CHIPS["v5p"], (4, 4, 4))
    assert torus.ici_seconds == pytest.approx(2 * 63 / 64 / 600)
    assert torus.dcn_bytes == 0


def test_across_slices_each_chip_sends_its_part():
    found = traffic(of("all-reduce"), places(2, 2, slices=2), CHIPS["v5e"], (2, 2))
    assert found.ici_bytes == 2 * GIGABYTE * 3 / 4
    assert found.dcn_bytes == 2 * GIGABYTE / 4 / 2
    assert found.dcn_seconds == pytest.approx(0.25 / 3.125)
    alone = traffic(of("all-gather"), places(1, 1, slices=4), CHIPS["v5e"], (2, 2))
    assert (alone.ici_bytes, alone.dcn_bytes) == (0, 3 * GIGABYTE)


def test_a_group_of_one_sends_nothing():
    found = traffic(of("all-reduce"), places(1, 1), CHIPS["v6e"], (4, 4))
    assert found.ici_seconds == found.dcn_seconds == 0
