"""Memory of a pod's DPO step as the TPU compiler plans it, with and without stored logits.

    python -m benchmarks.training_tpu [--json FILE] [--topology v5e:4x4] [--tensor 1]

Llama-3-8B, full weights with AdamW, 16 pairs x 2048 tokens. Needs libtpu (extra `aot`) and no TPU.
These are the compiler's figures, not measurements.
"""

import math
import re
from unittest import mock

import jax
import jax.numpy as jnp
from jax.experimental import topologies

from benchmarks import _common, _tpu
from leco_jax.models.architectures import preset
from leco_jax.models.config import ModelConfig
from leco_jax.models.llama import Llama
from leco_jax.models.sharding import make_mesh
from leco_jax.models.transformer import unembedding
from leco_jax.models.weights import abstract_params
from leco_jax.scoring import TokenStats
from w2s_jax.training import batch_scores
from w2s_jax.training.objectives import Objective
from w2s_jax.training.optimizer import OptimizerConfig, make_optimizer, make_schedule
from w2s_jax.training.train_step import (
    StepConfig,
    abstract_batch,
    abstract_state,
    make_train_step,
    split_model,
)

GIGABYTE = 1e9
CHIP_MEMORY = {"v5e": 15.75 * 2**30 / GIGABYTE, "v6e": 31.25 * 2**30 / GIGABYTE}


def stored_logits(params, hidden_BTD, targets_BT, config, mesh, stats):
    """The peer: log-probabilities from logits that are written down, as most trainers do."""
    del mesh, stats
    logits_BTV = jnp.einsum(
        "BTD,VD->BTV",
        hidden_BTD,
        unembedding(params).astype(hidden_BTD.dtype),
        preferred_element_type=jnp.float32,
    )
    logits_BTV = jax.lax.with_sharding_constraint(
        logits_BTV, jax.P(batch_scores.BATCH_AXES, None, "tensor")
    )
    logprob_BTV = jax.nn.log_softmax(logits_BTV)
    return TokenStats(
        logprob=jnp.take_along_axis(logprob_BTV, targets_BT[..., None], axis=-1)[..., 0]
    )


def compile_dpo_step(
    model: ModelConfig,
    *,
    topology: str = "v5e:4x4",
    tensor: int = 1,
    pairs: int = 16,
    length: int = 2048,
    accumulate: int = 1,
    remat: str = "full",
    peer: bool = False,
):
    """Compiles `dpo_llama3_8b_pod`'s step for a topology.

    Returns:
      The compiled program.
    """
    devices = topologies.get_topology_desc(
        platform="tpu", topology_name=topology, num_slices=1
    ).devices
    mesh = make_mesh(fsdp=-1, tensor=tensor, devices=devices)
    optimizer = OptimizerConfig()
    tx = make_optimizer(optimizer, 1000)
    graph, weights, _ = split_model(Llama(model, params=abstract_params(model, mesh)))
    state, shardings = abstract_state(weights, tx, mesh)
    batch = abstract_batch(pairs, length, mesh, pairs=True, reference=True)
    step = make_train_step(
        graph=graph,
        objective=Objective(name="dpo"),
        tx=tx,
        schedule=make_schedule(optimizer, 1000),
        mesh=mesh,
        shardings=shardings,
        config=StepConfig(reference="stored", stats=(), remat=remat, accumulate=accumulate),
    )
    score = stored_logits if peer else batch_scores._score
    with jax.set_mesh(mesh), mock.patch.object(batch_scores, "_score", score):
        return step.lower(state, {}, batch).compile()


def memory(compiled) -> dict[str, float]:
    """Gigabytes per chip: what is held between steps, and what a step needs beside it."""
    found = compiled.memory_analysis()
    return {
        "held": found.argument_size_in_bytes / GIGABYTE,
        "temporary": found.temp_size_in_bytes / GIGABYTE,
    }


def largest_all_reduce(compiled) -> float:
    """Gigabytes of the largest array that an all-reduce gives to every chip."""
    sizes = [0.0]
    for line in compiled.as_text().splitlines():
        result = re.match(r"\s+(?:ROOT )?%?[\w.\-]+ = (.*?) all-reduce(?:-start)?\(", line)
        for dtype, shape in re.findall(r"(bf16|f32)\[([\d,]+)\]", result[1] if result else ""):
            width = 2 if dtype == "bf16" else 4
            sizes.append(width * math.prod(map(int, shape.split(","))) / GIGABYTE)
    return max(sizes)


def main() -> None:
    """Compiles both and prints the table."""
    parser = _common.parser(__doc__.splitlines()[0])
    parser.add_argument("--topology", default="v5e:4x4")
    parser.add_argument("--tensor", type=int, default=1)
    options = parser.parse_args()
    _tpu.prepare()
    jax.config.update("jax_platforms", "cpu")
    model = preset("llama3_8b", param_dtype="float32", dtype="bfloat16")
    common = {"topology": options.topology, "tensor": options.tensor}
    compiled = compile_dpo_step(model, **common)
    ours = memory(compiled)
    try:
        peer = memory(compile_dpo_step(model, peer=True, **common))
        peer_name, note = "same step, stored logits", ""
    except jax.errors.JaxRuntimeError as error:
        peer, peer_name = None, "same step, stored logits: does not fit"
        note = str(error).splitlines()[0][:200]
    capacity = CHIP_MEMORY[options.topology.split(":")[0]]
    rows = [
        _common.Row(
            name=f"DPO step Llama-3-8B {options.topology}: temporary memory per chip",
            ours=ours["temporary"],
            peer=peer["temporary"] if peer else None,
            peer_name=peer_name,
            unit="GB",
            note=note,
        ),
        _common.Row(
            name=f"DPO step Llama-3-8B {options.topology}: peak over the chip's memory",
            ours=(ours["held"] + ours["temporary"]) / capacity,
            peer=(peer["held"] + peer["temporary"]) / capacity if peer else None,
            peer_name=peer_name,
            unit="share",
            bound="ours <= 1",
        ),
        _common.Row(
            name=f"DPO step Llama-3-8B {options.topology}: largest all-reduce",
            ours=largest_all_reduce(compiled),
            unit="GB",
            bound="ours <= 0.1",
        ),
    ]
    if peer:
        rows.append(
            _common.Row(
                name=f"DPO step Llama-3-8B {options.topology}: temporary memory saved per chip",
                ours=peer["temporary"] - ours["temporary"],
                unit="GB",
                bound="ours >= 2",
            )
        )
    _common.report(rows, options.json)


if __name__ == "__main__":
    main()
