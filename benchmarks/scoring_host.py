"""Scoring on this host's CPU, measured in pairs: ours, common idioms, peers; ignored rows; KL.

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
    parts = {
        "hidden": from_hidden, "ignored": half_ignored, "kl": divergence, "peers": peers,
        "steps": steps,
    }  # fmt: skip
    options.add_argument("--only", choices=("logits", *parts), help="one part")
    args = options.parse_args()
    rows = []
    for shape in SHAPES if args.only in (None, "logits") else ():
        for dtype in (jnp.float32, jnp.bfloat16):
            rows += from_logits(shape, dtype, args.repeats)
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
    idioms = ("log_softmax + gather", "gather - logsumexp")
    best = min(idioms, key=lambda name: _common.median(times[name]))
    rows = []
    for ours, peer, bound in (
        ("ours", "log_softmax + gather", "ratio <= 0.2" if promised else None),
        ("ours", best, "ratio <= 1.05"),
        ("ours, 3 statistics", "3 statistics by log_softmax", None),
        ("ours", "torch log_softmax + gather", None),
    ):
        name = "the better idiom" if bound == "ratio <= 1.05" else peer
        rows.append(time_row(f"{label}, {ours} vs {name}", times, ours, peer, bound))
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


def time_row(name: str, times, ours: str, peer: str, bound: str | None) -> Row:
    """Ours beside a peer that took turns with it, or that is not installed."""
    if peer not in times:
        return Row(name=f"{name}: time", ours=None, peer_name=f"{peer} is not installed")
    mine = _common.median(times[ours])
    return Row(
        name=f"{name}: time",
        ours=mine,
        peer=mine / _common.paired_ratio(times[ours], times[peer]),  # the ratio is that of pairs
        peer_name=peer,
        bound=bound,
        note="; ".join(_common.spread(n, times[n]) for n in (ours, peer)),
    )


def compare(name, ours, others, arrays, repeats: int, bounds=(None, None)) -> list[Row]:
    """Time and temporary memory of ours beside each of the others, all in turns.

    Args:
      name: what is measured.
      ours: a function of the arrays.
      others: functions by name; None where one is not installed.
      arrays: the arguments.
      repeats: how many turns.
      bounds: of time and of memory.
    """
    functions = {"ours": ours, **{n: f for n, f in others.items() if f is not None}}
    compiled = {n: jax.jit(f).lower(*arrays).compile() for n, f in functions.items()}
    times = _common.time_alternating(
        {n: functools.partial(f, *arrays) for n, f in compiled.items()},
        repeats=max(3, repeats // 3),
        wait=jax.block_until_ready,
    )
    memory = {n: _common.temporary_mb(f) for n, f in compiled.items()}
    rows = []
    for peer in others:
        label = f"{name} vs {peer}"
        rows.append(time_row(label, times, "ours", peer, bounds[0]))
        if peer in memory:
            rows.append(
                Row(
                    name=f"{label}: temporary memory",
                    ours=memory["ours"],
                    peer=memory[peer],
                    peer_name=peer,
                    unit="MB",
                    bound=bounds[1],
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
            for name, y in (("half", half), ("none ignored", tokens))
        }
        times = _common.time_alternating(
            programs, repeats=max(3, repeats // 3), wait=jax.block_until_ready
        )
        name = f"from hidden 512x576x49152 float32, {kind}, half of the tokens ignored"
        rows.append(time_row(name, times, "half", "none ignored", "ratio <= 0.6"))
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

    peer = "two log-softmaxes"
    return compare(
        "KL from logits, 512x49152 float32", scoring.kl, {peer: by_log_softmax}, logits,
        repeats, ("ratio <= 0.8", "ratio <= 0.05"),
    ) + compare(
        "KL from hidden states, 512x49152 float32", scoring.kl_from_hidden,
        {peer: from_whole_logits}, (hidden, unembed, *teacher), repeats, (None, "ratio <= 0.05"),
    )  # fmt: skip


def nll_from_hidden(hidden, unembed, tokens):
    return -scoring.token_stats_from_hidden(hidden, unembed, tokens).logprob


def from_hidden(repeats: int) -> list[Row]:
    """Streamed, against logits in memory; forward and gradient."""

    def whole(hidden, unembed, tokens):
        return -log_softmax_gather(hidden @ unembed.T, tokens)

    others = {"logits in memory, log_softmax + gather": whole}
    return forward_and_gradient(
        "from hidden 512x576x49152 float32", nll_from_hidden, others, of_a_model(), (0, 1), repeats
    )


def forward_and_gradient(name: str, ours, others, arrays, wrt, repeats: int) -> list[Row]:
    """`compare` of functions of losses per token, and of their sums' gradients."""

    def gradient(function):
        if function is None:
            return None
        return jax.grad(lambda *arrays: function(*arrays).sum(), wrt)

    gradients = {n: gradient(f) for n, f in others.items()}
    return compare(f"{name}, forward", ours, others, arrays, repeats) + compare(
        f"{name}, gradient", gradient(ours), gradients, arrays, repeats
    )


def peers(repeats: int) -> list[Row]:
    """Beside the losses of other libraries, from logits and from hidden states."""
    hidden, unembed, tokens = of_a_model()
    optax, tunix, levanter = _optax(), _tunix(), _levanter(unembed.shape)

    def ours(logits, tokens):
        return -scoring.token_stats(logits, tokens).logprob

    return forward_and_gradient(
        "from logits 512x49152 float32", ours,
        {"optax's integer-label cross entropy": optax, "tunix's selective log-softmax": tunix},
        (hidden @ unembed.T, tokens), 0, repeats,
    ) + forward_and_gradient(
        "from hidden 512x576x49152 float32", nll_from_hidden,
        {"levanter's fused cross entropy": levanter},
        (hidden, unembed, tokens), (0, 1), repeats,
    )  # fmt: skip


def _optax():
    try:
        import optax
    except ImportError:
        return None
    return optax.softmax_cross_entropy_with_integer_labels


def _tunix():
    try:
        from tunix.rl.common import selective_log_softmax
    except ImportError:
        return None
    return lambda logits, tokens: -selective_log_softmax(logits, tokens)


def _levanter(shape):
    try:
        import haliax
        from levanter.models.loss import fused_cross_entropy_loss_and_logsumexp_penalty
    except ImportError:
        return None

    def loss(hidden, unembed, tokens):
        vocab, width = (haliax.Axis(n, x) for n, x in zip(("vocab", "width"), shape, strict=True))
        rows = haliax.Axis("rows", len(hidden))
        found = fused_cross_entropy_loss_and_logsumexp_penalty(
            haliax.named(hidden, (rows, width)), haliax.named(unembed, (vocab, width)),
            width, vocab, haliax.named(tokens, (rows,)),
            reduction=None, block_size=8192, dtype=jnp.float32,
        )  # fmt: skip
        return found.array

    return loss


def steps(repeats: int) -> list[Row]:
    """Scores of long chains of many steps, and how many programs ragged chains compile."""
    del repeats
    shapes = [jax.ShapeDtypeStruct((8, 8192), t) for t in (jnp.float32, jnp.int32)]
    score = functools.partial(scoring.step_scores, num_steps=512)
    rng = np.random.default_rng(0)
    lengths = {scoring.pad_to([np.zeros(n)]).shape for n in rng.integers(1, 4096, 200)}
    return [
        Row(
            name="step scores of 8 x 8192 tokens, 512 steps: temporary memory",
            ours=_common.temporary_mb(jax.jit(score).lower(*shapes).compile()),
            unit="MB",
            bound="ours <= 20",
        ),
        Row(
            name="200 ragged chains of up to 4096 tokens, padded: programs",
            ours=float(len(lengths)),
            unit="count",
            bound="ours <= 8",
        ),
    ]


if __name__ == "__main__":
    main()
