"""Scoring on this host's CPU, measured in pairs: ours, two common idioms, torch; ignored rows; KL.

    python -m benchmarks.scoring_host [--json FILE] [--repeats N] [--only PART]

All programs of a group take turns, so a busy machine slows them alike; the ratio is the median over
the turns. Temporary memory is what XLA's compiler reports.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import _common
from benchmarks._common import Row
from leco_jax import scoring

FULL = ("logprob", "entropy", "self_certainty")
# The first is the promised one; then a small batch, and what the decoding engine captures per step.
SHAPES = ((2048, 49152), (256, 49152), (64, 49152), (16, 49152), (1, 49152))


def main():
    options = _common.parser(__doc__.splitlines()[0])
    options.add_argument("--repeats", type=int, default=15, help="turns of each program")
    options.add_argument("--only", choices=("logits", "hidden", "ignored", "kl"), help="one part")
    args = options.parse_args()
    rows = []
    for shape in SHAPES if args.only in (None, "logits") else ():
        for dtype in (jnp.float32, jnp.bfloat16):
            rows += from_logits(shape, dtype, args.repeats)
    parts = {"hidden": from_hidden, "ignored": half_ignored, "kl": divergence}
    for name, part in parts.items():
        if args.only in (None, name):
            rows += part(args.repeats)
    _common.report(rows, args.json)


def log_softmax_gather(logits, tokens):
    logp = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    return jnp.take_along_axis(logp, tokens[:, None], axis=-1)[:, 0]


def gather_logsumexp(logits, tokens):
    target = jnp.take_along_axis(logits, tokens[:, None], axis=-1)[:, 0].astype(jnp.float32)
    return target - jax.nn.logsumexp(logits.astype(jnp.float32), axis=-1)


def three_by_log_softmax(logits, tokens):
    logp = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    entropy = -(jnp.exp(logp) * logp).sum(-1)
    certainty = -logp.mean(-1) - jnp.log(logits.shape[-1])
    return jnp.take_along_axis(logp, tokens[:, None], axis=-1)[:, 0], entropy, certainty


def from_logits(shape, dtype, repeats: int) -> list[Row]:
    logits = (4 * jax.random.normal(jax.random.key(0), shape)).astype(dtype)
    tokens = jax.random.randint(jax.random.key(1), shape[:1], 0, shape[1])
    functions: dict[str, Callable] = {
        "ours": scoring.token_stats,
        "ours, 3 statistics": functools.partial(scoring.token_stats, stats=FULL),
        "log_softmax + gather": log_softmax_gather,
        "gather - logsumexp": gather_logsumexp,
        "3 statistics by log_softmax": three_by_log_softmax,
    }
    compiled = {n: jax.jit(f).lower(logits, tokens).compile() for n, f in functions.items()}
    programs: dict[str, Callable] = {
        n: functools.partial(f, logits, tokens) for n, f in compiled.items()
    }
    programs |= torch_program(logits, tokens)
    times = _common.time_alternating(programs, repeats=repeats, wait=jax.block_until_ready)
    memory = {n: _common.temporary_mb(f) for n, f in compiled.items()}

    label = f"{shape[0]}x{shape[1]} {np.dtype(dtype).name}"
    promised = shape == SHAPES[0] and dtype == jnp.float32
    rows = []
    for ours, peer, bound in (
        ("ours", "log_softmax + gather", "ratio <= 0.2" if promised else None),
        ("ours", "gather - logsumexp", None),
        ("ours, 3 statistics", "3 statistics by log_softmax", None),
        ("ours", "torch log_softmax + gather", None),
    ):
        if peer not in times:
            rows.append(
                Row(name=f"{label}, {ours} vs {peer}: time", ours=None, peer_name="not installed")
            )
            continue
        ratio = _common.paired_ratio(times[ours], times[peer])
        mine = _common.median(times[ours])
        rows.append(
            Row(
                name=f"{label}, {ours} vs {peer}: time",
                ours=mine,
                peer=mine / ratio,  # so that the ratio is the one of pairs
                peer_name=peer,
                bound=bound,
                note="; ".join(_common.spread(n, times[n]) for n in (ours, peer)),
            )
        )
    rows.append(
        Row(
            name=f"{label}, ours vs log_softmax + gather: temporary memory",
            ours=memory["ours"],
            peer=memory["log_softmax + gather"],
            peer_name="log_softmax + gather",
            unit="MB",
            bound="ratio <= 0.05" if promised else None,
        )
    )
    return rows


def torch_program(logits, tokens) -> dict:
    try:
        import torch
    except ImportError:
        return {}
    x = torch.from_dlpack(logits)
    y = torch.from_dlpack(tokens).long()[:, None]

    def run():
        with torch.inference_mode():
            return torch.log_softmax(x.float(), -1).gather(-1, y)[:, 0].numpy()

    return {"torch log_softmax + gather": run}


def of_a_model() -> tuple:
    """Hidden states, unembedding and tokens of SmolLM2's sizes."""
    count, width, vocab = 512, 576, 49152
    keys = jax.random.split(jax.random.key(0), 3)
    hidden = jax.random.normal(keys[0], (count, width))
    unembed = 0.1 * jax.random.normal(keys[1], (vocab, width))
    return hidden, unembed, jax.random.randint(keys[2], (count,), 0, vocab)


def half_ignored(repeats: int) -> list[Row]:
    """Half of the tokens ignored, in no order, against all of them scored."""
    hidden, unembed, tokens = of_a_model()
    half = jnp.where(jax.random.permutation(jax.random.key(1), len(tokens)) % 2 == 0, tokens, -1)

    def loss(hidden, unembed, tokens):
        return scoring.token_stats_from_hidden(hidden, unembed, tokens).logprob.sum()

    rows = []
    for kind, function in (("forward", loss), ("gradient", jax.grad(loss, (0, 1)))):
        program = jax.jit(function)
        programs = {
            name: functools.partial(program, hidden, unembed, y)
            for name, y in (("half", half), ("all", tokens))
        }
        times = _common.time_alternating(
            programs, repeats=max(3, repeats // 3), wait=jax.block_until_ready
        )
        mine = _common.median(times["half"])
        rows.append(
            Row(
                name=f"from hidden 512x576x49152 float32, {kind}, half of the tokens ignored: time",
                ours=mine,
                peer=mine / _common.paired_ratio(times["half"], times["all"]),
                peer_name="none ignored",
                bound="ratio <= 0.6",
                note="; ".join(_common.spread(n, t) for n, t in times.items()),
            )
        )
    return rows


def divergence(repeats: int) -> list[Row]:
    """KL between two models' distributions, from logits and from hidden states."""
    hidden, unembed, _ = of_a_model()
    teacher = hidden[::-1], unembed[:, ::-1]
    logits = hidden @ unembed.T, teacher[0] @ teacher[1].T

    def by_log_softmax(logits, teacher_logits):
        t = jax.nn.log_softmax(teacher_logits)
        return (jnp.exp(t) * (t - jax.nn.log_softmax(logits))).sum(-1)

    def from_whole_logits(hidden, unembed, teacher_hidden, teacher_unembed):
        return by_log_softmax(hidden @ unembed.T, teacher_hidden @ teacher_unembed.T)

    rows = []
    for source, ours, peer, arrays, bounds in (
        ("logits", scoring.kl, by_log_softmax, logits, ("ratio <= 0.8", "ratio <= 0.05")),
        ("hidden states", scoring.kl_from_hidden, from_whole_logits, (hidden, unembed, *teacher),
         (None, "ratio <= 0.05")),
    ):  # fmt: skip
        compiled = {
            name: jax.jit(f).lower(*arrays).compile()
            for name, f in (("ours", ours), ("peer", peer))
        }
        times = _common.time_alternating(
            {name: functools.partial(f, *arrays) for name, f in compiled.items()},
            repeats=max(3, repeats // 3),
            wait=jax.block_until_ready,
        )
        memory = {name: _common.temporary_mb(f) for name, f in compiled.items()}
        mine, name = _common.median(times["ours"]), f"KL from {source}, 512x49152 float32"
        rows += [
            Row(
                name=f"{name}: time",
                ours=mine,
                peer=mine / _common.paired_ratio(times["ours"], times["peer"]),
                peer_name="two log-softmaxes",
                bound=bounds[0],
                note="; ".join(_common.spread(n, t) for n, t in times.items()),
            ),
            Row(
                name=f"{name}: temporary memory",
                ours=memory["ours"],
                peer=memory["peer"],
                peer_name="two log-softmaxes",
                unit="MB",
                bound=bounds[1],
            ),
        ]
    return rows


def from_hidden(repeats: int) -> list[Row]:
    """Streamed, against logits in memory; forward and gradient."""
    hidden, unembed, tokens = of_a_model()
    (count, width), vocab = hidden.shape, len(unembed)

    def streamed(hidden, unembed, tokens):
        return scoring.token_stats_from_hidden(hidden, unembed, tokens).logprob.sum()

    def whole(hidden, unembed, tokens):
        return log_softmax_gather(hidden @ unembed.T, tokens).sum()

    rows = []
    for kind, wrap in (("forward", lambda f: f), ("gradient", lambda f: jax.grad(f, (0, 1)))):
        compiled = {
            name: jax.jit(wrap(f)).lower(hidden, unembed, tokens).compile()
            for name, f in (("ours", streamed), ("peer", whole))
        }
        times = _common.time_alternating(
            {n: functools.partial(f, hidden, unembed, tokens) for n, f in compiled.items()},
            repeats=max(3, repeats // 3),
            wait=jax.block_until_ready,
        )
        memory = {n: _common.temporary_mb(f) for n, f in compiled.items()}
        name = f"from hidden {count}x{width}x{vocab} float32, {kind}"
        ratio = _common.paired_ratio(times["ours"], times["peer"])
        mine = _common.median(times["ours"])
        peer = "logits in memory, log_softmax + gather"
        rows += [
            Row(
                name=f"{name}: time",
                ours=mine,
                peer=mine / ratio,
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


if __name__ == "__main__":
    main()
