"""launchers/convert.py from the command line; what it does is tested in tests/w2s_jax."""

import json
import subprocess
import sys

import jax

from leco_jax.examples import bundled_path
from leco_jax.models.architectures import preset
from leco_jax.models.llama import Llama
from leco_jax.models.loading.export import export_huggingface
from leco_jax.text.tokenizer import load_tokenizer


def _run(*flags):
    command = [sys.executable, "-m", "launchers.convert", *flags]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_line_converts_and_says_what_is_wrong(call, tmp_path):
    config = preset("tiny", vocab_size=640)
    tokenizer = load_tokenizer(bundled_path("arithmetic-1m"))
    export_huggingface(tmp_path / "a", Llama(config, rngs=jax.random.key(0)), tokenizer)

    flags = (f"--input={tmp_path / 'a'}", f"--output={tmp_path / 'b'}")
    done = _run(*flags, "--dtype=bfloat16", "--shard_gb=1e-4")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].endswith("(huggingface, bfloat16)")
    assert len(list((tmp_path / "b").glob("model-*.safetensors"))) > 1
    assert json.loads((tmp_path / "b" / "config.json").read_text())["dtype"] == "bfloat16"

    again = call("convert", *flags)
    assert again.returncode == 1
    assert "holds config.json" in again.stderr
    missing = call("convert", "--input=no-such-model", f"--output={tmp_path / 'c'}")
    assert missing.returncode == 1
    assert "no such file or directory, and no model of that name" in missing.stderr
    bucket = call("convert", flags[0], "--output=s3://bucket/c")
    assert bucket.returncode == 1
    assert "s3://bucket/c: paths are local or begin with gs://" in bucket.stderr
