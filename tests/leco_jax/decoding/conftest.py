"""The weights of the engine's tests."""

import jax
import pytest

from leco_jax.models.weights import init_params
from tests.leco_jax.decoding.plain_loop import CONFIG


@pytest.fixture(scope="session")
def params():
    return init_params(CONFIG, jax.random.key(7))
