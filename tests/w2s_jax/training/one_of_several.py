"""One process of several in `test_processes`: trains a tiny model by SFT and by DPO.

ARGUMENTS: process, processes, port, workdir, steps, order of the devices, objectives
"""

import json
import sys

import jax

# Orders of the devices that lie in the order of the processes: each has rows that are apart, and
# with eight devices, two to a row, some rows are shared by two processes and others are not.
APART = (2, 0, 3, 1)
MIXED = (4, 0, 1, 2, 5, 6, 7, 3)


def train_each(workdir, steps, order, objectives):
    """Trains with each objective in a directory of its own; returns what this process saw."""
    from leco_jax.models.llama import Llama
    from leco_jax.models.sharding import make_mesh
    from tests.w2s_jax.conftest import TINY, RandomData
    from w2s_jax.training.data import process_rows
    from w2s_jax.training.loop import RunConfig, train
    from w2s_jax.training.objectives import Objective
    from w2s_jax.training.optimizer import OptimizerConfig
    from w2s_jax.training.reference import store_reference
    from w2s_jax.training.train_step import StepConfig

    devices = [jax.devices()[i] for i in order]
    mesh = make_mesh(data=2, fsdp=2, tensor=-1, devices=devices)
    found = {}
    for name in objectives:
        pairs = name == "dpo"
        mine = process_rows(mesh, 8)
        data = RandomData(pairs=pairs, process_rows=mine)
        model = Llama(TINY, rngs=jax.random.key(0), mesh=mesh)
        if pairs:
            directory = f"{workdir}/{name}/reference"
            options = {"num_steps": 5, "directory": directory, "model": TINY, "mesh": mesh}
            data = store_reference(data, model.params, **options)
        result = train(
            workdir=f"{workdir}/{name}",
            run=RunConfig(num_steps=steps, checkpoint_every=2 if steps < 1000 else steps),
            model=model,
            objective=Objective(name=name),
            optimizer=OptimizerConfig(learning_rate=1e-2, schedule="constant"),
            data=data,
            eval_data=None if pairs else RandomData(seed=1, process_rows=mine),
            starts_at_reference=pairs,
            mesh=mesh,
            step_config=StepConfig(reference="stored" if pairs else "none"),
        )
        weight = result.state.trainable["layers"]["up_proj"]
        found[name] = {
            "metrics": dict(result.metrics),
            "steps": result.steps,
            "interrupted": result.interrupted,
            "largest": max(s.data.size for s in weight.addressable_shards) / weight.size,
        }
    return found


if __name__ == "__main__":
    process, processes, port, target, num_steps, device_order, names = sys.argv[1:]
    device_order = json.loads(device_order)
    jax.config.update("jax_num_cpu_devices", len(device_order) // int(processes))
    jax.distributed.initialize(f"127.0.0.1:{port}", int(processes), int(process))
    print(json.dumps(train_each(target, int(num_steps), device_order, names.split(","))))
