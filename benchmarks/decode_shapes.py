"""A decoding step with its layers unrolled, as the engine runs it, and scanned.

    python -m benchmarks.decode_shapes [--json FILE] [--topology v5e:2x2]

SmolLM2-135M's shape in float32, fresh weights, greedy, 8 tokens a program. With --topology the TPU
compiler also builds both shapes of Llama-3-8B in bfloat16: its times to compile and its memory,
which are no measurements of speed (needs libtpu, the extra `aot`).
"""

import functools
import os
import time

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import NamedSharding

from benchmarks import _common
from benchmarks.training_tpu import ENVIRONMENT
from leco_jax.decoding.cache import AXES, cache_of, empty_cache, layer_states
from leco_jax.decoding.cache_attention import decode_attend, keys_layout
from leco_jax.models import transformer
from leco_jax.models.architectures import preset
from leco_jax.models.config import ModelConfig
from leco_jax.models.sharding import make_mesh, named_sharding
from leco_jax.models.weights import abstract_params, init_params, unstack_layers

STEPS = 8


def chunk(params, cache, token_B, length_B, *, config: ModelConfig, scanned: bool):
    """Greedy tokens for every row; the cache is a list of layers, or one array of all of them."""

    def step(carry, _):
        cache, token_B, length_B = carry
        state = cache if scanned else layer_states(cache, None, config.num_layers)
        hidden_B1D, state = transformer.forward(
            params, token_B[:, None], length_B[:, None], config=config, layer_state=state,
            attend=decode_attend(config, length_B=length_B, prefix_length=0),
        )  # fmt: skip
        logits_BV = transformer.logits(params, hidden_B1D[:, 0], config=config)
        token_B = jnp.argmax(logits_BV, axis=-1).astype(jnp.int32)
        return (state if scanned else cache_of(state), token_B, length_B + 1), token_B

    (cache, *_), tokens = jax.lax.scan(step, (cache, token_B, length_B), length=STEPS)
    return cache, tokens


def program(config: ModelConfig, *, scanned: bool):
    """The jitted chunk of one shape; its cache is donated."""
    run = functools.partial(chunk, config=config, scanned=scanned)
    return jax.jit(run, donate_argnums=1)


def here(rows: int, slots: int, repeats: int) -> _common.Row:
    """Time of a step of both shapes on this machine, by turns."""
    config = preset("smollm2_135m", dtype="float32", param_dtype="float32")
    stacked = init_params(config, jax.random.key(0))
    unrolled = unstack_layers(stacked)
    caches = {"unrolled": empty_cache(config, rows=rows, slots=slots, keys=keys_layout())}
    caches["scanned"] = {name: jnp.stack(x) for name, x in caches["unrolled"].items()}
    token, length = jnp.full(rows, 5, jnp.int32), jnp.full(rows, slots // 2, jnp.int32)

    def call(name, params):
        run = program(config, scanned=name == "scanned")

        def once():
            caches[name], tokens = run(params, caches[name], token, length)
            return tokens

        return once

    times = _common.time_alternating(
        {"unrolled": call("unrolled", unrolled), "scanned": call("scanned", stacked)},
        repeats=repeats,
        wait=jax.block_until_ready,
    )
    return _common.Row(
        name=f"decode step here: {rows} rows, {slots} slots",
        ours=_common.median(times["unrolled"]) / STEPS,
        peer=_common.median(times["scanned"]) / STEPS,
        peer_name="scanned",
        note="; ".join(_common.spread(n, [t / STEPS for t in ts]) for n, ts in times.items()),
    )


def on_tpu(topology: str) -> list[_common.Row]:
    """Seconds to compile and temporary memory per chip of both shapes, by the TPU compiler."""
    config = preset("llama3_8b")
    devices = topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
    mesh = make_mesh(tensor=-1, devices=devices)
    stacked = abstract_params(config, mesh)
    found = {}
    for scanned in (False, True):
        lead = (config.num_layers,) if scanned else ()
        shape = (*lead, 32, config.num_kv_heads, 2048, config.head_width)
        axes = ("layers",) * len(lead) + AXES["k"]
        one = jax.ShapeDtypeStruct(
            shape, config.dtype, sharding=named_sharding("cache", shape, axes, mesh)
        )
        cache = {name: one if scanned else [one] * config.num_layers for name in ("k", "v")}
        row = jax.ShapeDtypeStruct((32,), jnp.int32, sharding=NamedSharding(mesh, jax.P()))
        params = stacked if scanned else _unstacked(stacked, mesh)
        with jax.set_mesh(mesh):
            lowered = program(config, scanned=scanned).lower(params, cache, row, row)
            start = time.perf_counter()
            compiled = lowered.compile()
        found[scanned] = (time.perf_counter() - start, _common.temporary_mb(compiled))
    what = f"Llama-3-8B decode, 32 rows x 2048, {topology}, compiled: "
    return [
        _common.Row(name=what + name, unit=unit, ours=found[False][i], peer=found[True][i],
                    peer_name="scanned")
        for i, (name, unit) in enumerate((("compiler's time", "s"), ("temporary per chip", "MB")))
    ]  # fmt: skip


def _unstacked(params: dict, mesh) -> dict:
    def layer(x):
        sharding = NamedSharding(mesh, jax.P(*x.sharding.spec[1:]))
        return jax.ShapeDtypeStruct(x.shape[1:], x.dtype, sharding=sharding)

    count = jax.tree.leaves(params["layers"])[0].shape[0]
    return {**params, "layers": [jax.tree.map(layer, params["layers"]) for _ in range(count)]}


def main() -> None:
    """Measures here and, if asked, compiles for a TPU."""
    options = _common.parser(__doc__.splitlines()[0])
    options.add_argument("--topology", help="also compile for this one, as v5e:2x2")
    options.add_argument("--repeats", type=int, default=5)
    args = options.parse_args()
    os.environ.update(ENVIRONMENT)
    jax.config.update("jax_platforms", "cpu")
    rows = [here(16, 256, args.repeats), here(64, 256, args.repeats)]
    if args.topology:
        rows += on_tpu(args.topology)
    _common.report(rows, args.json)


if __name__ == "__main__":
    main()
