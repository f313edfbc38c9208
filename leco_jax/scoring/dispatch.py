"""Which implementation runs: an explicit request is strict, "auto" takes what fits and says so.

"auto" is settled when the program is lowered, by the platform that it is lowered for: tracing on a
CPU host and compiling for TPU takes the TPU kernel.
"""

import functools
import logging

import jax
from jax import lax

from leco_jax.scoring import hidden_pallas_tpu, hidden_xla, pallas_gpu, pallas_tpu, xla
from leco_jax.scoring.partials import Partials
from leco_jax.scoring.types import Options

logger = logging.getLogger("leco_jax.scoring")


def sums_from_logits(logits, valid, options: Options) -> Partials:
    """Sums over the vocabulary by the implementation that the options name."""
    named = {
        "xla": xla.sums_from_logits,
        "pallas_tpu": pallas_tpu.sums_from_logits,
        "pallas_gpu": pallas_gpu.sums_from_logits,
    }
    if options.implementation != "auto":
        _refuse(options.implementation, _partitioned())
        return named[options.implementation](logits, valid, options)
    reason = _partitioned() or _many_devices()
    if reason is not None:
        _say_once(f'"auto" takes "xla" for logits: {reason}')
        return xla.sums_from_logits(logits, valid, options)

    def bind(name):
        return functools.partial(named[name], valid=valid, options=options)

    return lax.platform_dependent(logits, tpu=bind("pallas_tpu"), default=bind("xla"))


def sums_from_hidden(hidden, unembed, columns, valid, options: Options, layout: str):
    """Sums, target logits and top ids by the implementation that the options name."""
    reason = _partitioned() or hidden_pallas_tpu.unsupported(hidden, unembed, options)
    if options.implementation == "pallas_gpu":
        _refuse("pallas_gpu", 'there is no such kernel for hidden states; "xla" streams them')
    if options.implementation == "pallas_tpu":
        _refuse("pallas_tpu", reason)
        return hidden_pallas_tpu.sums_from_hidden(hidden, unembed, columns, valid, options, layout)
    reason = reason or _many_devices()
    if options.implementation == "auto" and reason is not None:
        _say_once(f'"auto" takes "xla" for hidden states: {reason}')
    if options.implementation == "xla" or reason is not None:
        return hidden_xla.sums_from_hidden(hidden, unembed, columns, valid, options, layout)
    options_of_both = {"valid": valid, "options": options, "layout": layout}
    return lax.platform_dependent(
        hidden,
        unembed,
        columns,
        tpu=functools.partial(hidden_pallas_tpu.sums_from_hidden, **options_of_both),
        default=functools.partial(hidden_xla.sums_from_hidden, **options_of_both),
    )


def _refuse(implementation: str, reason: str | None):
    if reason is not None and implementation.startswith("pallas"):
        raise NotImplementedError(f'implementation="{implementation}" cannot run here: {reason}')


def _many_devices() -> str | None:
    """Why arrays might be spread over devices that no mesh tells of."""
    if jax.sharding.get_abstract_mesh().empty and jax.device_count() > 1:
        return f"{jax.device_count()} devices and no mesh; one that jax.set_mesh names would tell"
    return None


def _partitioned() -> str | None:
    """Why a kernel could not see whole arrays here: the compiler may partition them."""
    mesh = jax.sharding.get_abstract_mesh()
    split = [
        name
        for name, size, kind in zip(mesh.axis_names, mesh.axis_sizes, mesh.axis_types, strict=True)
        if size > 1 and kind != jax.sharding.AxisType.Manual
    ]
    if not split:
        return None
    return (
        f"the compiler may partition arrays over the mesh axes {split}, and cannot partition a "
        "kernel: wrap the call in jax.shard_map over them"
    )


@functools.cache
def _say_once(message: str):
    logger.info(message)
