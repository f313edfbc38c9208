"""Token statistics on a GPU, measured: against the copy bandwidth and against torch.compile.

    python -m benchmarks.scoring_gpu [--json FILE] [--sweep] [--quick]

One read of the logits cannot take less time than moving that many bytes does; a device-to-device
copy (which reads and writes) tells how fast bytes move on this machine. Peers get the same arrays.
"""

import functools
import os
import sys

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # torch shares the device

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import _common
from benchmarks._common import Row
from leco_jax import scoring
from leco_jax.scoring import pallas_gpu, partials, xla
from leco_jax.scoring.types import Options

FULL = ("logprob", "entropy", "self_certainty")
SHAPES = ((8192, 128256), (8192, 49152), (8192, 32001), (64, 128256), (16, 49152))
CALLS = 10  # enqueued together, so that launching is not what is timed


def main():
    options = _common.parser(__doc__.splitlines()[0])
    options.add_argument("--sweep", action="store_true", help="time other tiles of the kernel")
    options.add_argument("--quick", action="store_true", help="fewer turns")
    args = options.parse_args()
    if jax.default_backend() != "gpu":
        sys.exit("scoring_gpu needs a GPU that jax can see; scoring_host measures on CPU")
    repeats = 7 if args.quick else 21
    rows = []
    for shape in SHAPES:
        for dtype in (jnp.bfloat16, jnp.float32):
            if dtype == jnp.float32 and shape[0] > 4096:
                shape = (4096, shape[1])
            rows += from_logits(shape, dtype, repeats)
    rows += from_hidden(repeats)
    if args.sweep:
        rows += sweep(repeats)
    _common.report(rows, args.json)


def from_logits(shape, dtype, repeats: int) -> list[Row]:
    logits = (4 * jax.random.normal(jax.random.key(0), shape)).astype(dtype)
    tokens = jax.random.randint(jax.random.key(1), shape[:1], 0, shape[1])
    label = f"{shape[0]}x{shape[1]} {np.dtype(dtype).name}"
    rows = [
        check(label, logits, tokens, implementation) for implementation in ("pallas_gpu", "xla")
    ]

    def ours(implementation, stats):
        call = functools.partial(scoring.token_stats, stats=stats, implementation=implementation)
        return jax.jit(call)

    programs = {
        "kernel": ours("pallas_gpu", ("logprob",)),
        "kernel, 3 statistics": ours("pallas_gpu", FULL),
        "xla reduction": functools.partial(by_function, xla._by_reduction),
        "xla tiles": functools.partial(by_function, xla._by_tiles),
        "log_softmax + gather": jax.jit(log_softmax_gather),
        "gather - logsumexp": jax.jit(gather_logsumexp),
        "copy": copy,
    }
    programs = {name: batch_of_calls(f, logits, tokens) for name, f in programs.items()}
    waits = jax.block_until_ready
    torch_calls = torch_programs(logits, tokens)
    times = _common.time_alternating(
        {**programs, **torch_calls},
        repeats=repeats,
        wait=lambda x: x() if callable(x) else waits(x),
    )
    times = {name: [t / CALLS for t in turns] for name, turns in times.items()}
    bytes_read = logits.size * logits.dtype.itemsize
    copy_rate = 2 * bytes_read / _common.median(times["copy"]) / 1e6
    for name in ("kernel", "kernel, 3 statistics", "xla reduction", "xla tiles"):
        rate = bytes_read / _common.median(times[name]) / 1e6
        rows.append(
            Row(
                name=f"{label}, {name}: bandwidth",
                ours=rate,
                peer=copy_rate,
                peer_name="device-to-device copy",
                unit="GB/s",
                note="; ".join(_common.spread(n, times[n]) for n in (name, "copy")),
            )
        )
    peers = ["log_softmax + gather", "gather - logsumexp", *torch_calls]
    if not torch_calls:
        rows.append(Row(name=f"{label}, torch", ours=None, peer_name="torch is not installed"))
    for peer in peers:
        which = "kernel, 3 statistics" if "3 statistics" in peer else "kernel"
        rows.append(
            Row(
                name=f"{label}, {which} vs {peer}: time",
                ours=_common.median(times[which]),
                peer=_common.median(times[peer]),
                peer_name=peer,
                note=_common.spread(peer, times[peer]),
            )
        )
    return rows


def check(label, logits, tokens, implementation) -> Row:
    """The largest error of 32 rows against float64."""
    found = jax.jit(
        functools.partial(scoring.token_stats, stats=FULL, implementation=implementation)
    )(logits, tokens)
    some = np.linspace(0, len(tokens) - 1, min(32, len(tokens))).astype(int)
    x = np.asarray(logits[some].astype(jnp.float32), np.float64)
    peak = x.max(-1, keepdims=True)
    lse = (peak + np.log(np.exp(x - peak).sum(-1, keepdims=True)))[:, 0]
    p = np.exp(x - lse[:, None])
    wanted = {
        "logprob": x[np.arange(len(some)), np.asarray(tokens)[some]] - lse,
        "entropy": lse - (p * x).sum(-1),
        "self_certainty": lse - x.mean(-1) - np.log(x.shape[-1]),
    }
    errors = [
        np.abs(np.asarray(getattr(found, name), np.float64)[some] - value).max()
        for name, value in wanted.items()
    ]
    return Row(
        name=f"{label}, {implementation}: error against float64",
        ours=float(max(errors)),
        unit="nats",
        bound="ours <= 1e-5",
    )


def batch_of_calls(function, *arrays):
    """A program that enqueues CALLS calls and returns the last result."""

    def run():
        for _ in range(CALLS):
            found = function(*arrays)
        return found

    return run


@functools.partial(jax.jit, static_argnums=0)
def by_function(function, logits, tokens):
    options = Options()
    sums = function(logits, logits.shape[-1], options)
    target = jnp.take_along_axis(logits, tokens[:, None], axis=-1)[:, 0].astype(jnp.float32)
    return partials.finish(sums, target, tokens, options, logits.shape[-1])


@jax.jit
def copy(logits, tokens):
    return jnp.copy(logits)


def log_softmax_gather(logits, tokens):
    logp = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    return jnp.take_along_axis(logp, tokens[:, None], axis=-1)[:, 0]


def gather_logsumexp(logits, tokens):
    target = jnp.take_along_axis(logits, tokens[:, None], axis=-1)[:, 0].astype(jnp.float32)
    return target - jax.nn.logsumexp(logits.astype(jnp.float32), axis=-1)


def torch_programs(logits, tokens) -> dict:
    """Torch's eager and compiled forms on the same arrays, each returning a wait."""
    try:
        import torch
    except ImportError:
        return {}
    x = torch.from_dlpack(logits)
    y = torch.from_dlpack(tokens).long()[:, None]

    def gather(x, y):
        return torch.log_softmax(x.float(), -1).gather(-1, y)[:, 0]

    def three(x, y):
        logp = torch.log_softmax(x.float(), -1)
        entropy = -(logp.exp() * logp).sum(-1)
        return logp.gather(-1, y)[:, 0], entropy, -logp.mean(-1) - float(np.log(x.shape[-1]))

    programs = {
        "torch": gather,
        "torch.compile": torch.compile(gather, dynamic=False),
        "torch.compile, 3 statistics": torch.compile(three, dynamic=False),
    }

    def runner(function):
        def run():
            for _ in range(CALLS):
                function(x, y)
            return torch.cuda.synchronize

        return run

    found = {}
    for name, function in programs.items():
        try:
            function(x, y)
        except Exception as error:  # inductor needs a compiler on the machine, eager needs memory
            print(f"{name} left out: {type(error).__name__}: {error}"[:300], file=sys.stderr)
            continue
        found[name] = runner(function)
    torch.cuda.synchronize()
    return found


def from_hidden(repeats: int) -> list[Row]:
    """Streamed from hidden states, against logits in HBM, forward and gradient."""
    tokens_count, width, vocab = 8192, 4096, 128256
    keys = jax.random.split(jax.random.key(0), 3)
    hidden = jax.random.normal(keys[0], (tokens_count, width), jnp.bfloat16)
    unembed = 0.02 * jax.random.normal(keys[1], (vocab, width), jnp.bfloat16)
    tokens = jax.random.randint(keys[2], (tokens_count,), 0, vocab)

    def streamed(hidden, unembed, tokens):
        return scoring.token_stats_from_hidden(hidden, unembed, tokens).logprob.sum()

    def whole(hidden, unembed, tokens):
        logits = jnp.einsum("td,vd->tv", hidden, unembed, preferred_element_type=jnp.float32)
        return gather_logsumexp(logits, tokens).sum()

    rows = []
    for kind, wrap in (("forward", lambda f: f), ("gradient", lambda f: jax.grad(f, (0, 1)))):
        compiled = {
            name: jax.jit(wrap(f)).lower(hidden, unembed, tokens).compile()
            for name, f in (("ours", streamed), ("peer", whole))
        }
        times = _common.time_alternating(
            {n: functools.partial(f, hidden, unembed, tokens) for n, f in compiled.items()},
            repeats=max(5, repeats // 3),
            wait=jax.block_until_ready,
        )
        memory = {n: _common.temporary_mb(f) for n, f in compiled.items()}
        name = f"from hidden 8192x4096x128256 bfloat16, {kind}"
        peer = "logits in HBM, gather - logsumexp"
        rows += [
            Row(
                name=f"{name}: time",
                ours=_common.median(times["ours"]),
                peer=_common.median(times["peer"]),
                peer_name=peer,
                note="; ".join(_common.spread(n, t) for n, t in times.items()),
            ),
            Row(
                name=f"{name}: temporary memory",
                ours=memory["ours"],
                peer=memory["peer"],
                peer_name=peer,
                unit="MB",
            ),
        ]
    return rows


def sweep(repeats: int) -> list[Row]:
    """Other tiles of the kernel, for choosing its constants."""
    logits = (4 * jax.random.normal(jax.random.key(0), (8192, 128256))).astype(jnp.bfloat16)
    tokens = jnp.zeros(8192, jnp.int32)
    kept = pallas_gpu.LANES, pallas_gpu.DEPTH, pallas_gpu.WARPS
    programs = {}
    for warps in (1, 2, 4, 8, 16):
        for lanes in (32 * warps * 8, 32 * warps * 16):
            for depth in (1, 2, 4, 8):
                pallas_gpu.LANES, pallas_gpu.DEPTH, pallas_gpu.WARPS = lanes, depth, warps
                for stats in (("logprob",), FULL):
                    options = Options(stats=stats)

                    def run(x, y, options=options):
                        return pallas_gpu.sums_from_logits(x, x.shape[-1], options)

                    name = f"{warps} warps, {depth}x{lanes}, {len(stats)} stats"
                    compiled = jax.jit(run).lower(logits, tokens).compile()
                    programs[name] = batch_of_calls(compiled, logits, tokens)
    pallas_gpu.LANES, pallas_gpu.DEPTH, pallas_gpu.WARPS = kept
    turns = max(5, repeats // 3)
    times = _common.time_alternating(programs, repeats=turns, wait=jax.block_until_ready)
    return [
        Row(name=f"sweep: {name}", ours=_common.median(turns) / CALLS)
        for name, turns in times.items()
    ]


if __name__ == "__main__":
    main()
