"""What the TPU compiler says of token scoring; no TPU is needed and nothing is timed.

    python -m benchmarks.scoring_tpu [--json FILE] [--chips v5e,v5p,v6e] [--quick] [--only PART]

Compile-time figures for one chip: temporary bytes in HBM, bytes accessed over the least possible,
collectives, and VLIW bundles per 1024 logits, read from the compiler's own schedule. Bundles count
both sides of every branch of one grid step and no stalls: a lower bound on cycles, not a time. From
them and the chip's clock follows which limit a kernel meets first, HBM or the vector unit.
"""

import functools
import glob
import itertools
import os
import re
import tempfile

import jax
import jax.numpy as jnp
from jax.sharding import AxisType

from benchmarks import _common, _tpu
from benchmarks._common import Row
from benchmarks._tpu import mesh
from leco_jax import scoring
from leco_jax.scoring import pallas_tiles

DUMP = tempfile.mkdtemp(prefix="scoring_tpu_")
HBM_GB_S = {"v4": 1228, "v5e": 819, "v5p": 2765, "v6e": 1640}
CLOCK_GHZ = {"v4": 1.05, "v5e": 1.5, "v5p": 1.75, "v6e": 1.75}  # v6e's is assumed
CORES = {"v4": 2, "v5e": 1, "v5p": 2, "v6e": 1}
BUNDLES = {"v5e": (2.5, 3.6), "v5p": (2.7, 3.6), "v6e": (2.4, 3.6)}
T, V, D = 8192, 128256, 4096
LOGITS = ((T, V), jnp.bfloat16)
TOKENS = ((T,), jnp.int32)
HIDDEN = ((T, D), jnp.bfloat16)
UNEMBED = ((V, D), jnp.bfloat16)
FULL = ("logprob", "entropy", "self_certainty")
P = jax.P


def main():
    options = _common.parser(__doc__.splitlines()[0])
    options.add_argument("--chips", default="v5e,v5p,v6e", help="comma-separated")
    options.add_argument("--quick", action="store_true", help="leave out what compiles slowly")
    options.add_argument("--only", choices=("logits", "hidden", "kl", "spread"), help="one part")
    args = options.parse_args()
    schedules = args.only in (None, "logits")  # are read from a dump, which takes its time
    dump = f"--xla_jf_dump_to={DUMP} --xla_jf_dump_llo_text=true" if schedules else ""
    _tpu.prepare(LIBTPU_INIT_ARGS=dump)
    parts = {
        "logits": lambda chip: from_logits(chip) + vocab_parallel(chip),
        "hidden": functools.partial(from_hidden, quick=args.quick),
        "kl": divergence,
    }
    slow = ("kl", "spread") if args.quick else ()
    rows = []
    for chip in args.chips.split(","):
        for name, part in parts.items():
            if args.only in (None, name) and name not in slow:
                rows += part(chip)
    if args.only in (None, "spread") and "spread" not in slow:
        rows += spread()
    _common.report(rows, args.json)


def compile_for(on, function, *arrays, specs=None):
    """Compiles, and leaves the schedule of this program alone in DUMP."""
    for path in glob.glob(f"{DUMP}/*"):
        os.remove(path)
    return _tpu.compile_for(on, function, *arrays, specs=specs)


def bundles(kernel: str) -> int:
    """Scheduled bundles of the named kernel in the last compiled program."""
    (path,) = glob.glob(f"{DUMP}/*{kernel}*schedule-analysis_final_bundles.txt")
    with open(path) as file:
        found = re.search(r"total scheduled bundles\D*(\d+)", file.read())
    if found is None:
        raise RuntimeError(f"{path} does not give the total of scheduled bundles")
    return int(found[1])


def log_softmax_gather(logits, tokens):
    logp = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    return jnp.take_along_axis(logp, tokens[:, None], axis=-1)[:, 0]


def gather_logsumexp(logits, tokens):
    target = jnp.take_along_axis(logits, tokens[:, None], axis=-1)[:, 0].astype(jnp.float32)
    return target - jax.nn.logsumexp(logits.astype(jnp.float32), axis=-1)


def from_logits(chip: str) -> list[Row]:
    on = mesh(chip, 1)
    ideal = 2 * T * V
    peers = {}
    for name, function in (
        ("log_softmax + gather", log_softmax_gather),
        ("gather - logsumexp", gather_logsumexp),
    ):
        compiled = compile_for(on, function, LOGITS, TOKENS)
        peers[name] = (
            _common.temporary_mb(compiled),
            compiled.cost_analysis()["bytes accessed"] / ideal,
        )
    rows = []
    for stats, limit in zip((("logprob",), FULL), BUNDLES.get(chip, (None, None)), strict=True):
        what = "log-prob" if stats == ("logprob",) else "log-prob + entropy + self-certainty"
        for implementation in ("pallas_tpu", "xla"):
            function = functools.partial(
                scoring.token_stats, stats=stats, implementation=implementation
            )
            compiled = compile_for(on, function, LOGITS, TOKENS)
            label = f"{chip}, from logits, {what}, {implementation}"
            for peer, (memory, accessed) in peers.items():
                rows.append(
                    Row(
                        name=f"{label} vs {peer}: temporary HBM",
                        ours=_common.temporary_mb(compiled),
                        peer=memory,
                        peer_name=peer,
                        unit="MB",
                        bound="ours <= 1",
                    )
                )
                if implementation == "xla":
                    rows.append(
                        Row(
                            name=f"{label} vs {peer}: bytes accessed / ideal",
                            ours=compiled.cost_analysis()["bytes accessed"] / ideal,
                            peer=accessed,
                            peer_name=peer,
                            unit="x",
                            bound="ours <= 1.05",
                        )
                    )
            if implementation == "pallas_tpu":
                rows.append(schedule(chip, label, limit))
    for topk in (5, 20):
        function = functools.partial(scoring.token_stats, stats=("topk_logprob",), topk=topk)
        compiled = compile_for(on, function, LOGITS, TOKENS)
        rows.append(
            Row(
                name=f"{chip}, from logits, mean of the {topk} largest: temporary HBM",
                ours=_common.temporary_mb(compiled),
                unit="MB",
            )
        )
    function = functools.partial(scoring.score_steps, num_steps=16)
    shape = (16, T // 16)
    compiled = compile_for(
        on, function, ((*shape, V), jnp.bfloat16), (shape, jnp.int32), (shape, jnp.int32)
    )
    rows.append(
        Row(
            name=f"{chip}, step scores from logits (16 steps): temporary HBM",
            ours=_common.temporary_mb(compiled),
            unit="MB",
        )
    )
    return rows


def schedule(chip: str, label: str, limit: float | None) -> Row:
    """Bundles per 1024 logits, and which limit of the chip that meets."""
    blocks = pallas_tiles.LOGITS["other"]
    found = bundles("leco_sums_from_logits") / (blocks.rows * blocks.columns / 1024)
    vector = found * T * V / 1024 / (CLOCK_GHZ[chip] * 1e6) / CORES[chip]
    memory = 2 * T * V / (HBM_GB_S[chip] * 1e6)
    first = "HBM" if memory >= vector else "the vector unit"
    return Row(
        name=f"{label}: bundles per 1024 logits",
        ours=found,
        unit="bundles",
        bound=None if limit is None else f"ours <= {limit}",
        note=f"meets {first} first: at least {memory:.2f} ms of HBM, {vector:.2f} ms of bundles",
    )


def vocab_parallel(chip: str) -> list[Row]:
    on = mesh(chip, 2, 2)
    function = jax.shard_map(
        functools.partial(scoring.token_stats, axis_name="vocab", stats=FULL),
        mesh=on,
        in_specs=(P("data", "vocab"), P("data")),
        out_specs=P("data"),
    )
    compiled = compile_for(on, function, LOGITS, TOKENS, specs=(P("data", "vocab"), P("data")))
    return collectives(f"{chip}, vocabulary-parallel over 2 x 2 chips", compiled, 2)


def collectives(label: str, compiled, reduces: int) -> list[Row]:
    """So many all-reduces, and no all-gather."""
    text = compiled.as_text()
    return [
        Row(
            name=f"{label}: {kind}s",
            ours=float(len(re.findall(rf"= [^=]*? {kind}(?:-start)?\(", text))),
            unit="count",
            bound=f"ours == {promised}",
        )
        for kind, promised in (("all-reduce", reduces), ("all-gather", 0))
    ]


def from_hidden(chip: str, quick: bool) -> list[Row]:
    on = mesh(chip, 1)
    label = f"{chip}, from hidden states"

    def whole(hidden, unembed, tokens):
        logits = jnp.einsum("td,vd->tv", hidden, unembed, preferred_element_type=jnp.float32)
        return gather_logsumexp(logits, tokens)

    def peer_of(function) -> tuple[float | None, str]:
        try:
            return _common.temporary_mb(
                compile_for(on, function, HIDDEN, UNEMBED, TOKENS)
            ), "logits in HBM"
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            return None, "logits in HBM (do not fit)"

    memory, peer_name = peer_of(whole)
    rows = []
    for implementation, limit in (("pallas_tpu", 1), ("xla", 256)):
        if quick and implementation == "xla":
            continue
        function = functools.partial(
            scoring.token_stats_from_hidden, stats=FULL, implementation=implementation
        )
        compiled = compile_for(on, function, HIDDEN, UNEMBED, TOKENS)
        rows.append(
            Row(
                name=f"{label}, forward, {implementation}: temporary HBM",
                ours=_common.temporary_mb(compiled),
                peer=memory,
                peer_name=peer_name,
                unit="MB",
                bound=f"ours <= {limit}",
            )
        )
        if implementation == "pallas_tpu":
            rows.append(against_tokamax(label, on, _common.temporary_mb(compiled)))
            blocks = pallas_tiles.HIDDEN[chip if chip in pallas_tiles.HIDDEN else "other"]
            tile = blocks.rows * blocks.columns
            rows.append(
                Row(
                    name=f"{label}, {implementation}: multiplications per number read",
                    ours=tile / (blocks.rows + blocks.columns),
                    unit="x",
                    note=f"tiles of {blocks.rows} x {blocks.columns} x {blocks.depth}",
                )
            )
    if not quick:

        def sum_of(function):
            return jax.grad(lambda h, w, y: function(h, w, y).sum(), (0, 1))

        def streamed(hidden, unembed, tokens):
            return scoring.token_stats_from_hidden(hidden, unembed, tokens).logprob

        memory, peer_name = peer_of(sum_of(whole))
        compiled = compile_for(on, sum_of(streamed), HIDDEN, UNEMBED, TOKENS)
        rows.append(
            Row(
                name=f"{label}, gradient: temporary HBM beyond the gradients",
                ours=_common.temporary_mb(compiled),
                peer=memory,
                peer_name=peer_name,
                unit="MB",
                bound="ours <= 300",
            )
        )
    return rows


def divergence(chip: str) -> list[Row]:
    """KL between two models of these sizes, forward and gradient in the student."""
    on = mesh(chip, 1)
    arrays = HIDDEN, UNEMBED, HIDDEN, UNEMBED

    def loss(*arrays):
        return scoring.kl_from_hidden(*arrays).sum()

    rows = []
    for kind, function, bound in (
        ("forward, pallas_tpu", scoring.kl_from_hidden, 1),
        ("forward, xla", functools.partial(scoring.kl_from_hidden, implementation="xla"), 256),
        ("gradient", jax.grad(loss, (0, 1)), 600),
    ):
        compiled = compile_for(on, function, *arrays)
        rows.append(
            Row(
                name=f"{chip}, KL from hidden states, {kind}: temporary HBM",
                ours=_common.temporary_mb(compiled),
                unit="MB",
                bound=f"ours <= {bound}",
            )
        )
    on = mesh(chip, 2, 2)
    function = jax.shard_map(
        functools.partial(scoring.kl_from_hidden, axis_name="vocab"),
        mesh=on,
        in_specs=(P("data"), P("vocab")) * 2,
        out_specs=P("data"),
    )
    compiled = compile_for(on, function, *arrays, specs=(P("data"), P("vocab")) * 2)
    return rows + collectives(f"{chip}, KL, vocabulary-parallel over 2 x 2 chips", compiled, 3)


LAYOUTS = {
    "V over tensor, rows over fsdp": (P("fsdp"), P("tensor"), P("fsdp")),
    "V over tensor, D over fsdp": (P(), P("tensor", "fsdp"), P()),
    "V over tensor, D and rows over fsdp": (P("fsdp"), P("tensor", "fsdp"), P("fsdp")),
}


def spread() -> list[Row]:
    """The unembedding spread by the compiler over v5e 2x4, without `shard_map`."""
    cases = itertools.product((AxisType.Auto, AxisType.Explicit), LAYOUTS, ("forward", "gradient"))
    return [row for case in cases for row in of_layout(*case)]


def of_layout(kind: AxisType, layout: str, what: str) -> list[Row]:
    """Collectives, operations and memory of one device."""

    def loss(*arrays):
        return scoring.token_stats_from_hidden(*arrays).logprob.sum()

    function = jax.grad(loss, (0, 1)) if what == "gradient" else scoring.token_stats_from_hidden
    on = mesh("v5e:2x4", 2, 4, axes=("fsdp", "tensor"), kind=kind)
    arrays = HIDDEN, UNEMBED, TOKENS
    compiled = _tpu.compile_for(on, function, *arrays, specs=LAYOUTS[layout])
    flops, found = _tpu.work(compiled)
    share = {"forward": 2, "gradient": 8}[what] * T * D * V / 8
    label = f"v5e 2x4, {kind.name}, {layout}, {what}"
    kinds = [f"{n} x {k}{' in a loop' * loop}" for (k, loop), n in sorted(found.items())]
    return [
        Row(
            name=f"{label}: all-gathers in a loop",
            ours=float(found.get(("all-gather", True), 0)),
            unit="count",
            bound="ours == 0",
            note=", ".join(kinds),
        ),
        Row(
            name=f"{label}: operations over a share",
            ours=flops / share,
            unit="x",
            bound="ours <= 1.05",
        ),
        Row(
            name=f"{label}: temporary HBM",
            ours=_common.temporary_mb(compiled),
            unit="MB",
            bound="ours <= 50" if what == "forward" else None,
        ),
    ]


def against_tokamax(label: str, on, ours: float) -> Row:
    """Tokamax's fused loss gives one sum, no log-probability per token; its memory compares."""
    name = f"{label}, forward, pallas_tpu vs tokamax: temporary HBM"
    try:
        import tokamax
        from absl import flags
        from tokamax._src.ops.linear_softmax_cross_entropy_loss import api
    except ImportError:
        return Row(name=name, ours=ours, peer_name="tokamax is not installed", unit="MB")
    # It reads our command line, and looks for a TPU while it is traced; here is only a compiler.
    flags.FLAGS.mark_as_parsed()
    type(api.IMPLEMENTATIONS["mosaic_tpu"]).supported_on = lambda self, device: True

    def loss(hidden, unembed, tokens):
        return tokamax.linear_softmax_cross_entropy_loss(
            hidden, tokens, unembed, implementation="mosaic_tpu"
        )

    compiled = compile_for(on, loss, HIDDEN, ((D, V), jnp.bfloat16), TOKENS)
    return Row(
        name=name,
        ours=ours,
        peer=_common.temporary_mb(compiled),
        peer_name="tokamax mosaic_tpu",
        unit="MB",
    )


if __name__ == "__main__":
    main()
