"""Picks training data out of model answers from anywhere: agreement, confidence, pairs.

    python -m launchers.select --task=consistency --weak=weak.jsonl --strong=icl.jsonl \
        --set=hybrid --output=sft.jsonl
    python -m launchers.select --task=confidence --samples=samples.jsonl --output=votes.jsonl
    python -m launchers.select --task=pairs --weak=weak.jsonl --samples=samples.jsonl \
        --rule=official_code --output=pairs.jsonl

A line of input is one answer: {"id": str, "question": str, "response": str, "model": str}, and
where they are known "sample" (int), "gold" (str), "confidence" (float, from the model's logits) and
"answer" (str; else it is read from the response). What was kept and dropped, and why, is printed;
so is how much of it is right, where gold is given. Gold decides nothing.

Exit codes: 0 done; 1 something is wrong (the message says what), and nothing was written.
"""

from typing import Any

from absl import flags

from launchers import runtime
from leco_jax.storage.jsonl import write_rows
from leco_jax.storage.paths import check_output
from leco_jax.text.answers import ANSWER_KINDS
from w2s_jax import curation
from w2s_jax.curation.tables import (
    Table,
    consistency_table,
    format_lines,
    pair_table,
    vote_table,
)  # fmt: skip

_INPUTS = {
    "consistency": ("weak", "strong"),
    "confidence": ("samples",),
    "pairs": ("weak", "samples"),
}
_OPTIONS = {
    "consistency": ("set", "pad_to", "seed"),
    "confidence": ("threshold", "vote", "temperature"),
    "pairs": (
        "rule", "threshold", "weak_rejected_threshold", "pairs_per_question", "vote",
        "temperature", "seed",
    ),
}  # fmt: skip

_TASK = flags.DEFINE_enum("task", None, list(_INPUTS), "What to select.", required=True)
_WEAK = flags.DEFINE_string("weak", None, "JSONL: a weak model's answers, one to a question.")
_STRONG = flags.DEFINE_string("strong", None, "JSONL: a strong model's, to the same questions.")
_SAMPLES = flags.DEFINE_string("samples", None, "JSONL: a model's answers, several to a question.")
_OUTPUT = flags.DEFINE_string("output", None, "JSONL to write, whole or not at all.", required=True)
_KIND = flags.DEFINE_enum("kind", "number", list(ANSWER_KINDS), "Kind of the answers.")
_SKIP_BAD_GOLD = flags.DEFINE_bool(
    "skip_bad_gold", False, "Leave out rows whose gold answer cannot be read, and say how many."
)
_SET = flags.DEFINE_enum(
    "set", "hybrid", curation.TRAINING_SETS, "Whose responses (--task=consistency)."
)
_PAD_TO = flags.DEFINE_integer(
    "pad_to", 0, "Fill up with disagreeing questions to so many (--task=consistency)."
)
_RULE = flags.DEFINE_enum(
    "rule", None, list(curation.PAIR_RULES), "Thresholds of pairs by name; default: paper."
)
_THRESHOLD = flags.DEFINE_float(
    "threshold",
    None,
    "Least confidence of a question. Default: --rule's (pairs), all are written (confidence).",
    lower_bound=0.0,
    upper_bound=1.0,
)
_SECOND = flags.DEFINE_float(
    "weak_rejected_threshold", None, "Least one to reject the weak answer; default: --threshold."
)
_PAIRS = flags.DEFINE_integer("pairs_per_question", 1, "Most pairs of a question, 1 to 3.")
_VOTE = flags.DEFINE_enum("vote", "count", curation.VOTE_METHODS, "How samples vote.")
_TEMPERATURE = flags.DEFINE_float("temperature", 1.0, "Of --vote=cisc.")
_SEED = flags.DEFINE_integer("seed", 42, "Of every random choice.")

Rows = list[dict[str, Any]]


def main() -> int:
    """Selects, writes the rows and prints the counts."""
    _check_flags(_TASK.value)
    inputs = [str(flags.FLAGS[name].value) for name in _INPUTS[_TASK.value]]
    target = check_output(_OUTPUT.value, inputs=inputs)
    rows, table = _TASKS[_TASK.value]()
    print(format_lines([*table, ("rows", len(rows))]))
    if not rows:
        return runtime.fail("nothing was selected (counts on standard output), nothing was written")
    replaced = " (in place of an older file)" if target.exists() else ""
    write_rows(target, rows)
    runtime.log.info("%d rows%s: %s", len(rows), replaced, target)
    return runtime.DONE


def _check_flags(task: str) -> None:
    """Refuses what is missing, and what was given and would do nothing."""
    inputs = _INPUTS[task]
    missing = [f"--{name}" for name in inputs if not flags.FLAGS[name].value]
    if missing:
        raise ValueError(f"--task={task} needs {' and '.join(missing)}")
    known = {name for table in (_INPUTS, _OPTIONS) for names in table.values() for name in names}
    others = sorted(known - {*inputs, *_OPTIONS[task]})
    unused = [f"--{name}" for name in others if flags.FLAGS[name].present]
    if unused:
        raise ValueError(f"--task={task} does not use {' and '.join(unused)}: leave it out")
    if task == "pairs" and flags.FLAGS["temperature"].present and _VOTE.value != "cisc":
        raise ValueError("--temperature belongs to --vote=cisc: leave it out")


def _read(flag: flags.FlagHolder) -> list[curation.Answer]:
    return curation.read_answers(flag.value, kind=_KIND.value, skip_bad_gold=_SKIP_BAD_GOLD.value)


def _consistency() -> tuple[Rows, Table]:
    selection = curation.select_consistent(
        _read(_WEAK), _read(_STRONG), kind=_KIND.value, pad_to=_PAD_TO.value, seed=_SEED.value
    )
    return curation.training_rows(selection, _SET.value), consistency_table(selection)


def _confidence() -> tuple[Rows, Table]:
    least = _THRESHOLD.value
    samples = _read(_SAMPLES)
    options: dict[str, Any] = {"kind": _KIND.value, "temperature": _TEMPERATURE.value}
    rows = curation.vote_rows(samples, threshold=least, method=_VOTE.value, **options)
    # The methods side by side; those that need confidences only where all samples have one.
    scored = all(sample.confidence is not None for sample in samples)
    used = curation.PAIR_RULES["paper"].threshold if least is None else least
    methods = curation.VOTE_METHODS if scored else ("count",)
    compared = curation.compare_votes(samples, threshold=used, methods=methods, **options)
    head = [("model", samples[0].model), ("samples of a question", _group_sizes(samples))]
    return rows, head + vote_table(compared, threshold=used)


def _pairs() -> tuple[Rows, Table]:
    rule = _pair_rule()
    weak, samples = _read(_WEAK), _read(_SAMPLES)
    pairs = curation.build_pairs(weak, samples, rule, kind=_KIND.value)
    head = [
        ("weak model", weak[0].model),
        ("sampled model", samples[0].model),
        ("samples of a question", _group_sizes(samples)),
    ]
    return pairs.rows, head + pair_table(pairs.funnel, rule)


def _pair_rule() -> curation.PairRule:
    first, second = _THRESHOLD.value, _SECOND.value
    if _RULE.value is not None and (first, second) != (None, None):
        raise ValueError("Give either --rule or thresholds of your own, not both")
    if first is None and second is not None:
        raise ValueError("--weak_rejected_threshold needs --threshold beside it")
    return curation.pair_rule(
        _RULE.value or "paper",
        threshold=first,
        weak_rejected_threshold=second,
        pairs_per_question=_PAIRS.value,
        vote=_VOTE.value,
        temperature=_TEMPERATURE.value,
        seed=_SEED.value,
    )


def _group_sizes(samples: list[curation.Answer]) -> str:
    sizes = sorted({len(group) for group in curation.by_question(samples).values()})
    return str(sizes[0]) if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"


_TASKS = {"consistency": _consistency, "confidence": _confidence, "pairs": _pairs}

if __name__ == "__main__":
    runtime.run(main)
