"""One of two processes of `test_sharded_engine`: port, process number, output file."""

import json
import sys
from pathlib import Path

import jax

if __name__ == "__main__":
    port, process, target = sys.argv[1:]
    jax.config.update("jax_num_cpu_devices", 4)
    jax.distributed.initialize(f"127.0.0.1:{port}", 2, int(process))
    from leco_jax.models.sharding import make_mesh
    from tests.leco_jax.decoding.test_sharded_engine import run_engine

    # Each process holds rows that are apart, and shares one with the other process.
    devices = [jax.devices()[i] for i in (4, 0, 1, 2, 5, 6, 7, 3)]
    mesh = make_mesh(data=4, tensor=2, devices=devices)
    Path(target).write_text(json.dumps(run_engine(mesh)))
