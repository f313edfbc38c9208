"""launchers/compile.py: what it prints, writes and refuses; a tiny model on a real topology."""

import json

import pytest

pytestmark = pytest.mark.tpu_compile

LECO = "--config=configs/leco_smollm2.py"
SFT = "--config=configs/sft_llama2_7b_pod.py"
SMALL = ("--architecture=tiny", "--topology=v5e:2x4")
GENERATES = (
    LECO, *SMALL, "--prompt_length=64", "--config.generation.max_new_tokens=32",
    "--config.mesh.tensor=2",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _libtpu():
    pytest.importorskip("libtpu")


def test_a_tiny_prefill_and_its_figures(call, tmp_path):
    path = tmp_path / "figures.json"
    done = call("compile", "--program=prefill", *GENERATES, f"--json={path}")
    assert done.returncode == 0, done.stderr
    assert "prefill on v5e:2x4 (mesh data 1, fsdp 1, tensor 2, 4 replicas), 64 prompt tok" in (
        done.stdout
    )
    (found,) = json.loads(path.read_text())["programs"]
    layers = 2 * (2 * 64 * 4 * 16 + 2 * 64 * 2 * 16 + 3 * 64 * 128)
    # Embedding, projections and norms, of which two chips share all but the norms, in float32.
    assert found["memory"]["parameters"] == 4 * ((256 * 64 + layers) / 2 + 5 * 64)
    # Of 64 tokens, two FLOPs a weight, but for what no key or value depends on.
    assert 0.5 * layers * 64 < found["flops"] < 1.5 * layers * 64
    assert found["fits"]
    assert found["bound"] in found["seconds"]


@pytest.mark.slow
@pytest.mark.parametrize("program", ["decode", "score"])
def test_generation_of_a_tiny_model(call, program):
    done = call("compile", f"--program={program}", *GENERATES)
    assert done.returncode == 0, done.stderr
    assert "  fits: " in done.stdout


@pytest.mark.slow
def test_training_of_a_tiny_model_on_two_slices(call, tmp_path):
    path = tmp_path / "figures.json"
    done = call(
        "compile", "--program=sft", SFT, *SMALL, "--num_slices=2", "--config.mesh.data=2",
        "--config.data.length=128", "--config.data.batch=16", f"--json={path}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(path.read_text())["programs"]
    assert found["mesh"] == {"data": 2, "fsdp": 8, "tensor": 1}
    assert found["dcn_bytes"] > 0
    assert found["seconds"]["dcn"] > 0


@pytest.mark.slow
def test_what_does_not_fit_ends_with_1_and_its_largest_buffers(call):
    done = call("compile", "--program=decode", *GENERATES, "--config.engine.slots=2000000")
    assert done.returncode == 1
    assert "does not fit: " in done.stdout
    assert "cache['k'][*] float32[2000000, 2, " in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--program=sft", SFT, "--architecture=tiny", "--topology=v5e:3x3"], "topology 'v5e:3x3'"),
        (["--program=sft", SFT, "--architecture=tiny", "--topology=v9:4x4"], "is not like one of"),
        (["--program=sft", SFT, "--architecture=tiny", "--topology=v5p:4x4"], "has 3 axes"),
        (["--program=train", SFT, *SMALL], "should be one of"),
        (["--program=dpo", SFT, *SMALL], "is not one of --program=dpo"),
        (["--program=decode", SFT, *SMALL], "another program's config"),
        (["--program=sft", SFT, "--architecture=huge", "--topology=v5e:2x4"], "no preset 'huge'"),
        (["--program=sft", SFT, "--topology=v5e:2x4"], "--architecture="),
        (["--program=sft", SFT, *SMALL, "--config.mesh.tensor=3"], "does not fit 8 devices"),
        (["--program=sft", SFT, *SMALL, "--num_slices=2"], "config.mesh.data=1 on 2 slices"),
        (["--program=decode", LECO, *SMALL, "--config.mesh.tensor=3"], "takes a divisor of the 4"),
    ],
)
def test_what_cannot_be_is_one_line(call, arguments, message):
    done = call("compile", *arguments)
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
