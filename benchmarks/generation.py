"""Generation, measured here: the engine against `transformers`, LeCo against the published way.

    python -m benchmarks.generation [--json FILE] [--quick] [--only decode|leco] [--profile DIR]

SmolLM2-135M-Instruct in float32 throughout. `transformers` runs its own greedy `generate` on the
very same weights, in this process and by turns; without it those rows say so.
"""

import dataclasses
import functools
import logging
import time
import zlib

import jax
import numpy as np

from benchmarks import _common
from benchmarks._common import Row, median, paired_ratio, spread
from benchmarks._published_leco import PublishedLeco
from benchmarks._transformers import torch_smollm2
from leco_jax.datasets.registry import load_problems
from leco_jax.decoding.engine import Engine
from leco_jax.decoding.request import Request
from leco_jax.decoding.tasks import run_tasks
from leco_jax.evaluation.questions import common_prefix, without_prefix
from leco_jax.models.loading import load_model
from leco_jax.reasoning.chain_reader import ChainReader
from leco_jax.reasoning.leco import LecoConfig, leco
from leco_jax.reasoning.question import Question
from leco_jax.scoring.presets import PRESETS
from leco_jax.text import prompts
from leco_jax.text.answers import format_answer
from leco_jax.text.chat import encode_chat

ALL_STATS = ("logprob", "entropy", "self_certainty", "max_logprob", "topk_logprob")
PROMPT_LENGTH = 64
NEW_TOKENS = 128


def main():
    options = _common.parser(__doc__.splitlines()[0])
    options.add_argument("--quick", action="store_true", help="fewer turns and problems")
    options.add_argument("--profile", help="write a trace of one decoded batch to this directory")
    options.add_argument("--problems", type=int, help="problems for LeCo; default 32, quick 4")
    options.add_argument("--only", choices=("decode", "leco"), help="half of the benchmark")
    options.add_argument(
        "--published", type=int, help="the published way on so many of them; default: all"
    )
    args = options.parse_args()
    model = load_model("smollm2-135m-instruct", dtype="float32")
    peer = torch_smollm2(model)
    repeats = 2 if args.quick else 3
    rows: list[Row] = []
    if args.only != "leco":
        rows += speed_rows(model, peer, repeats)
    if args.only != "decode":
        problems = args.problems or (4 if args.quick else 32)
        rows += leco_rows(model, peer, problems, args.published or problems)
    if args.profile:
        run = ours_decode(model, 16, ("logprob",))
        run()  # compiles
        with jax.profiler.trace(args.profile):
            run()
    _common.report(rows, args.json)


def speed_rows(model, peer, repeats: int) -> list[Row]:
    """Everything about decoding: against the peer, with the batch, with statistics captured."""
    rows: list[Row] = []
    speed = {}
    for batch in (16, 64):
        # A turn of 64 rows takes four times as long.
        found, ours = decode_rows(model, peer, batch, repeats if batch == 16 else repeats - 1)
        rows += found
        speed[batch] = ours
    rows.append(
        Row(
            name="decode: batch 64 over batch 16, tokens/s", ours=speed[64], peer=speed[16],
            peer_name="ours at 16", unit="tokens/s", bound="ratio >= 1.25",
        )
    )  # fmt: skip
    return [*rows, capture_row(model, repeats)]


def prompts_of(batch: int) -> np.ndarray:
    return np.random.default_rng(0).integers(100, 40_000, (batch, PROMPT_LENGTH)).astype(np.int32)


def ours_decode(model, batch: int, stats: tuple[str, ...], count: int = 1 + NEW_TOKENS):
    """A call that generates for a fresh batch; no stop token, so that all rows run on."""
    engine = Engine(
        model.model, slots=batch, chunk=16, max_length=PROMPT_LENGTH + count,
        stats=stats,
    )  # fmt: skip

    def run():
        chains = [
            engine.submit(Request(prompt=tuple(map(int, p)), max_new_tokens=count))
            for p in prompts_of(batch)
        ]
        while engine.busy:
            engine.step()
        assert all(len(c.tokens) == count for c in chains)
        return chains

    return run


def decode_rows(model, peer, batch: int, repeats: int) -> tuple[list[Row], float]:
    """Throughput of decoding alone, the bounded figure, and of whole runs, prompts included.

    Decoding alone is the difference of two runs: 129 tokens a row, and the first token alone.
    """
    stats = ("logprob", "entropy", "self_certainty")
    programs = {"ours": functools.partial(ours_decode, model, batch, stats)}
    for name, keep in (("transformers", False), ("transformers with logits", True)):
        if peer is not None:
            programs[name] = functools.partial(_peer_decode, peer, batch, keep)
    whole = {name: make(1 + NEW_TOKENS) for name, make in programs.items()}
    first = {f"{name}, first token": make(1) for name, make in programs.items()}
    times = _common.time_alternating(whole | first, repeats=repeats)
    alone = {
        name: [a - b for a, b in zip(times[name], times[f"{name}, first token"], strict=True)]
        for name in programs
    }
    tokens = 1e3 * batch * NEW_TOKENS
    ours = tokens / median(alone["ours"])
    peers = [name for name in programs if name != "ours"]
    if not peers:
        return [
            Row(name=f"decode: batch {batch}", ours=ours, unit="tokens/s", bound="ratio >= 2",
                peer_name="transformers is not installed")
        ], ours  # fmt: skip
    rows = [
        Row(
            name=f"decode: batch {batch}, {NEW_TOKENS} new tokens, against {other}",
            ours=ours, peer=tokens / median(alone[other]), peer_name="transformers",
            unit="tokens/s", bound="ratio >= 2",
            note="; ".join(spread(n, alone[n]) for n in ("ours", other))
            + f"; median of paired time ratios {paired_ratio(alone['ours'], alone[other]):.3f}",
        )
        for other in peers
    ]  # fmt: skip
    rows.append(
        Row(
            name=f"whole run: batch {batch}, prompts of {PROMPT_LENGTH} tokens included",
            ours=tokens / median(times["ours"]), peer=tokens / median(times["transformers"]),
            peer_name="transformers", unit="tokens/s",
            note="; ".join(spread(n, t) for n, t in times.items()),
        )
    )  # fmt: skip
    return rows, ours


def _peer_decode(peer, batch: int, keep_logits: bool, count: int):
    return lambda: peer.generate(prompts_of(batch), count, keep_logits=keep_logits)


def capture_row(model, repeats: int) -> Row:
    """Decoding alone with five statistics of every token, and with none."""
    programs = {"all": ALL_STATS, "none": ()}
    whole = {name: ours_decode(model, 16, stats) for name, stats in programs.items()}
    first = {f"{name}, first token": ours_decode(model, 16, s, 1) for name, s in programs.items()}
    times = _common.time_alternating(whole | first, repeats=repeats + 2)
    alone = {
        name: [a - b for a, b in zip(times[name], times[f"{name}, first token"], strict=True)]
        for name in programs
    }
    return Row(
        name="decode: capturing all statistics, time over capturing none",
        ours=median(alone["all"]), peer=median(alone["none"]), peer_name="ours without capture",
        bound="ratio <= 1.1", note="; ".join(spread(n, t) for n, t in alone.items()),
    )  # fmt: skip


def leco_rows(model, peer, count: int, published_count: int) -> list[Row]:
    """LeCo on word problems: batched with roll-back, and the way of the published programs.

    The latter takes one problem after another, so part of them tells its time: it is scaled by the
    tokens that ours sampled for all and for that part. Ours runs before it and after it.
    """
    problems = load_problems("word_problems", limit=count)
    requests = [
        Request(
            prompt=tuple(encode_chat(model.tokenizer, prompts.chat_messages(p.question))),
            max_new_tokens=192, problem=zlib.crc32(p.id.encode()),
        )
        for p in problems
    ]  # fmt: skip
    reader = ChainReader(model.tokenizer, PRESETS["paper"])
    config = LecoConfig(policy="avoid")
    questions = [
        Question(id=p.id, request=r, gold=p.answer) for p, r in zip(problems, requests, strict=True)
    ]
    prefix = common_prefix([r.prompt for r in requests])
    shortened = [without_prefix(q, len(prefix)) for q in questions]

    def ours():
        engine = Engine(
            model.model, slots=32, max_length=1200, prefix=prefix,
            stop_ids=model.tokenizer.eos_ids,
        )  # fmt: skip
        tasks = ((q.id, leco(engine, reader, q, config)) for q in shortened)
        return {o.key: o.result for o in run_tasks(engine, tasks)}, engine.counters

    name = f"leco: {count} problems, time of the published way over ours"
    ours()  # compiles
    before, (results, counters) = _timed(ours)
    twice = Row(
        name="leco: tokens prefilled twice", ours=counters.prefilled_twice, unit="tokens",
        bound="ours == 0",
    )  # fmt: skip
    if peer is None:
        missing = f"transformers is not installed; ours {before:.1f} s"
        return [Row(name=name, ours=None, peer_name=missing, bound="ours >= 10"), twice]
    PublishedLeco(peer, config).answer(questions[0])  # warms up
    published = PublishedLeco(peer, config)
    some = questions[:published_count]
    measured, answers = _timed(lambda: {q.id: published.answer(q) for q in some})
    after, _ = _timed(ours)
    seconds = (before + after) / 2
    peer_seconds = (
        measured * counters.sampled / sum(r.sampled for q in some for r in results[q.id].rounds)
    )
    same = sum(results[q.id].answer == format_answer(answers[q.id], kind=q.kind) for q in some)
    work = dataclasses.asdict(published.work)
    return [
        Row(
            name=name, ours=peer_seconds / seconds, unit="x", bound="ours >= 10",
            peer_name="transformers, batch 1, text re-encoded, scored apart",
            note=f"ours {before:.1f} s before and {after:.1f} s after it, "
            f"{dataclasses.asdict(counters)}; published way {measured:.1f} s on {len(some)} "
            f"problems, {work}, scaled by tokens to {peer_seconds:.1f} s on {count}; same final "
            f"answer on {same} of {len(some)}",
        ),
        dataclasses.replace(
            twice, peer=published.work.prefilled_twice, peer_name="published way"
        ),
    ]  # fmt: skip


def _timed(call):
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    main()
