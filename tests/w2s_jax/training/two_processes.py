"""One process of several in `test_processes.py`: trains a tiny model and prints what it saw.

python two_processes.py PROCESS PROCESSES DEVICES PORT WORKDIR STEPS
"""

import importlib.util
import json
import os
import pathlib
import sys

process, processes, devices, port, workdir, steps = sys.argv[1:]
os.environ["JAX_PLATFORMS"] = "cpu"

import jax  # noqa: E402

jax.config.update("jax_num_cpu_devices", int(devices))
if int(processes) > 1:
    jax.distributed.initialize(f"127.0.0.1:{port}", int(processes), int(process))

from leco_jax.models.llama import Llama  # noqa: E402
from leco_jax.models.sharding import make_mesh  # noqa: E402
from w2s_jax.training.data import process_slice  # noqa: E402
from w2s_jax.training.loop import RunConfig, train  # noqa: E402
from w2s_jax.training.objectives import Objective  # noqa: E402
from w2s_jax.training.optimizer import OptimizerConfig  # noqa: E402
from w2s_jax.training.reference import store_reference  # noqa: E402
from w2s_jax.training.train_step import StepConfig  # noqa: E402

spec = importlib.util.spec_from_file_location(
    "tiny", pathlib.Path(__file__).parents[1] / "conftest.py"
)
tiny = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tiny)


class MyRows:
    """This process's pairs of every batch."""

    def __init__(self, data, rows):
        self._data, self._rows = data, rows
        self.num_steps_per_epoch = data.num_steps_per_epoch
        self.most_scored = data.most_scored
        self.fingerprint = data.fingerprint

    def batch(self, step):
        half = self._data.rows
        whole = self._data.batch(step)
        mine = [*range(half)[self._rows], *range(half, 2 * half)[self._rows]]
        return {name: x[mine] for name, x in whole.items()}


mesh = make_mesh(data=2, fsdp=2, tensor=2)
data = tiny.RandomData(pairs=True)
mine = MyRows(data, process_slice(mesh, data.rows))
model = Llama(tiny.TINY, rngs=jax.random.key(0), mesh=mesh)
stored = store_reference(
    mine, model.params, num_steps=5, directory=f"{workdir}/reference", model=tiny.TINY, mesh=mesh
)
result = train(
    workdir=workdir,
    run=RunConfig(
        num_steps=5 if steps == "all" else int(steps),
        checkpoint_every=2 if steps in ("all", "3") else 10**6,
    ),
    model=model,
    objective=Objective(name="dpo"),
    optimizer=OptimizerConfig(learning_rate=1e-2, schedule="constant"),
    data=stored,
    mesh=mesh,
    step_config=StepConfig(reference="stored"),
)
weight = result.state.trainable["layers"]["up_proj"]
print(
    json.dumps(
        {
            "loss": result.metrics["loss"],
            "steps": result.steps,
            "interrupted": result.interrupted,
            "rows": mine.batch(0)["tokens"].shape[0],
            "largest": max(shard.data.size for shard in weight.addressable_shards) / weight.size,
        }
    )
)
