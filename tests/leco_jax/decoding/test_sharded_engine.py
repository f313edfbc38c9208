"""The same tokens on one device, on eight, and in two processes."""

import functools
import json
import math
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from leco_jax.decoding.engine import Engine
from leco_jax.decoding.request import Request, Sampling
from leco_jax.models.architectures import preset
from leco_jax.models.llama import Llama
from leco_jax.models.sharding import make_mesh
from leco_jax.models.weights import param_shardings

CONFIG = preset("tiny")
PROMPTS = [(5, 9, 2), (7,), tuple(range(1, 20)), (3, 3, 3, 8, 1), (9, 8), (200, 100)]


def run_engine(mesh=None) -> list[dict]:
    """Twelve requests over four slots, greedy and sampled, one of them rolled back."""
    model = Llama(CONFIG, rngs=jax.random.key(7), mesh=mesh)
    engine = Engine(
        model, slots=4, max_length=64, mesh=mesh, prefix=(1, 2, 3, 4, 5),
        stats=("logprob", "entropy"),
    )  # fmt: skip
    chains = [
        engine.submit(
            Request(
                prompt=p, max_new_tokens=9, problem=i, sampling=Sampling(temperature=t, top_p=0.9),
                hold=i == 0 and t == 0,
            )
        )
        for t in (0.0, 0.8)
        for i, p in enumerate(PROMPTS)
    ]  # fmt: skip
    resumed = False
    while engine.busy:
        engine.step()
        if chains[0].done and not resumed:
            engine.resume(chains[0], keep=3, append=(11, 12))
            resumed = True
    return [{"tokens": c.tokens, "logprob": c.stats["logprob"]} for c in chains]


@functools.cache
def _on_one_device():
    return run_engine()


def _assert_same(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        assert a["tokens"] == b["tokens"]
        np.testing.assert_allclose(a["logprob"], b["logprob"], atol=1e-5)


@pytest.mark.heavy
def test_eight_devices_give_the_same_tokens():
    # The two processes below have the mesh data=4, tensor=2.
    _assert_same(run_engine(make_mesh(data=2, fsdp=2, tensor=2)), _on_one_device())


@pytest.mark.heavy
def test_the_cache_is_split_and_nothing_of_its_size_is_gathered():
    mesh = make_mesh(data=4, tensor=2)
    model = Llama(CONFIG, rngs=jax.random.key(7), mesh=mesh)
    assert param_shardings(CONFIG, mesh)["layers"]["k_proj"].spec[2] == "tensor"
    engine = Engine(model, slots=4, max_length=64, mesh=mesh)
    engine.submit(Request(prompt=(1, 2, 3), max_new_tokens=4))
    programs = {name: program.compile() for name, program in engine.lowered().items()}
    args, _ = programs["decode"].input_shardings
    for placed in args[1]["v"]:
        assert placed.shard_shape(engine.cache_shape) == (1, 1, 128, 16)
    for program in programs.values():
        for shape in re.findall(r"= f32\[([0-9,]+)\]\S* all-gather", program.as_text()):
            assert math.prod(map(int, shape.split(","))) < math.prod(engine.cache_shape), shape


def test_two_processes_give_the_same_tokens(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": os.getcwd()}
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.leco_jax.decoding.engine_worker", str(port), str(i),
             str(tmp_path / f"{i}.json")],
            env=environment, stderr=subprocess.PIPE, text=True,
        )
        for i in range(2)
    ]  # fmt: skip
    for worker in workers:
        _, stderr = worker.communicate(timeout=240)
        assert worker.returncode == 0, stderr[-3000:]
    for i in range(2):
        _assert_same(json.loads(Path(tmp_path / f"{i}.json").read_text()), _on_one_device())
