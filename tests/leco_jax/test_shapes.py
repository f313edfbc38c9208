from leco_jax.shapes import power_of_two


def test_the_next_power_of_two():
    assert [power_of_two(n) for n in (0, 1, 2, 3, 4, 5, 1025)] == [1, 1, 2, 4, 4, 8, 2048]
    assert [power_of_two(n, least=64) for n in (0, 1, 64, 65)] == [64, 64, 64, 128]
