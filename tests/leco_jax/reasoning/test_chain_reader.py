import json

from leco_jax.reasoning.chain_reader import rounded


def test_every_float_of_a_row_is_rounded_and_nothing_else():
    row = {"a": [1.23456789, {"b": (0.1 + 0.2, -1e-9)}], "n": 3, "s": "1.23456789", "t": None}
    result = rounded(row)
    assert result == {"a": [1.23457, {"b": [0.3, 0.0]}], "n": 3, "s": "1.23456789", "t": None}
    assert "-0" not in json.dumps(result)
    assert rounded(True) is True
    assert rounded(float("inf")) == float("inf")
