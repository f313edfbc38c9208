"""A small random model on disk, with the tokenizer that the package brings."""

import jax
import pytest

from leco_jax.examples import bundled_path
from leco_jax.models.architectures import preset
from leco_jax.models.llama import Llama
from leco_jax.models.loading.export import export_huggingface
from leco_jax.text.tokenizer import load_tokenizer
from tests.launchers.in_process import Caller


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("model") / "tiny"
    tokenizer = load_tokenizer(bundled_path("arithmetic-1m"))
    config = preset("tiny", vocab_size=640, max_positions=2048)
    export_huggingface(directory, Llama(config, rngs=jax.random.key(5)), tokenizer)
    return directory


@pytest.fixture
def call(capsys, caplog, monkeypatch):
    """Launchers in this process, by name and flags; they generate on one of its devices."""
    # A replica on each of the eight would be compiled eight times.
    monkeypatch.setattr(jax, "local_devices", lambda: jax.devices()[:1])
    return Caller(capsys, caplog)
