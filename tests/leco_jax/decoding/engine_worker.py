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

    Path(target).write_text(json.dumps(run_engine(make_mesh(data=4, tensor=2))))
