from leco_jax.shapes import bucket, power_of_two


def test_the_next_power_of_two():
    assert [power_of_two(n) for n in (0, 1, 2, 3, 4, 5, 1025)] == [1, 1, 2, 4, 4, 8, 2048]
    assert [power_of_two(n, least=64) for n in (0, 1, 64, 65)] == [64, 64, 64, 128]


def test_the_next_bucket_is_a_power_of_two_or_three_quarters_of_one():
    sizes = [bucket(n, least=128) for n in (1, 128, 129, 192, 193, 256, 257, 384, 385)]
    assert sizes == [128, 128, 192, 192, 256, 256, 384, 384, 512]
