"""The stages that choose: splits, demonstrations, agreement, votes, pairs. No model runs here."""

import dataclasses
import random
from pathlib import Path
from typing import Any

from leco_jax.configuration import as_json
from leco_jax.storage.jsonl import read_rows, write_rows
from w2s_jax.curation import (
    TRAINING_SETS,
    VOTE_METHODS,
    Answer,
    PairRule,
    QuestionSplit,
    answer_from_row,
    build_pairs,
    compare_votes,
    select_consistent,
    training_rows,
)
from w2s_jax.curation.consistency import solution_row
from w2s_jax.pipeline.graph import Stage, StageError, Work
from w2s_jax.pipeline.problems import Pool, problem_row

# Figures that a sample's row has from the model's own distribution, larger is surer.
CONFIDENCES = ("step_score", "weakest_step", "self_certainty", "mean_logprob")


def rows_of(path: Path) -> list[dict]:
    """The rows of one of the pipeline's own JSONL files."""
    return [row for _, row in read_rows(path, fields=("id",))]


def answers_of(artifact: Path, *, kind: str, confidence: str = "mean_logprob") -> list[Answer]:
    """The answers in an artifact, with one of `CONFIDENCES` as their confidence.

    An answer without steps has no score of steps: it gets the least that there is.
    """
    rows = rows_of(artifact / "answers.jsonl")
    least = min((row[confidence] for row in rows if row[confidence] is not None), default=0.0)
    sure = ({"confidence": least if (c := row[confidence]) is None else c} for row in rows)
    return [answer_from_row(row | own, kind=kind) for row, own in zip(rows, sure, strict=True)]


def splits_stage(pool: Pool, split: QuestionSplit, data: Any, *, seed: int) -> Stage:
    """Writes a seed's parts: gold.jsonl, test.jsonl, questions.jsonl (whose gold few may see)."""
    problems = {"gold": split.first, "questions": split.second, "test": pool.test}

    def run(work: Work) -> dict:
        for name, part in problems.items():
            rows = [problem_row(problem, remove=data.remove) for problem in part]
            write_rows(work.directory / f"{name}.jsonl", rows)
        return {name: len(part) for name, part in problems.items()} | {
            "questions_without_solution": split.unsolved,
            "duplicates": dataclasses.asdict(split.duplicates),
        }

    # Files may change under one name: what was read decides, not where it lay.
    settings = as_json(data) | {"seed": seed, "problems": pool.fingerprint}
    del settings["dir"], settings["prompt"]
    return Stage(name="splits", needs=(), settings=settings, run=run)


def demonstrations_stage(*, count: int, seed: int) -> Stage:
    """Draws worked examples from the weak answers, wrong ones included, as published."""

    def run(work: Work) -> dict:
        rows = [r for r in rows_of(work.inputs["weak_answers"] / "answers.jsonl") if r["response"]]
        if len(rows) < count:
            raise StageError(
                f"stage 'demonstrations': {count} are asked for, and the weak model gave "
                f"{len(rows)} answers that are not empty"
            )
        drawn = random.Random(f"demonstrations {seed}").sample(rows, count)
        write_rows(work.directory / "demonstrations.jsonl", drawn)
        return {"demonstrations": count, "ids": [row["id"] for row in drawn]}

    return Stage(
        name="demonstrations",
        needs=("weak_answers",),
        settings={"count": count, "seed": seed},
        run=run,
    )


def select_stage(
    name: str, *, weak: str, strong: str, shown: str | None, pad_to: int, seed: int, kind: str
) -> Stage:
    """Keeps the questions on which two stages agree: weak.jsonl, icl.jsonl, hybrid.jsonl.

    The strong answers may have been given with worked examples in front (the stage `shown`); each
    of these stands in the prompt of its own question too, so there agreement says nothing. They
    are kept, as published, and counted.
    """

    def run(work: Work) -> dict:
        selection = select_consistent(
            answers_of(work.inputs[weak], kind=kind),
            answers_of(work.inputs[strong], kind=kind),
            kind=kind,
            pad_to=pad_to,
            seed=seed,
        )
        funnel = dataclasses.asdict(selection.funnel)
        if not selection.questions:
            raise StageError(
                f"stage {name!r}: no question is left to train on. Of {funnel['questions']}, "
                f"{funnel['weak_unparsable']} have no readable weak answer, "
                f"{funnel['strong_unparsable']} no readable strong one, and "
                f"{funnel['disagreeing']} disagree. Give more questions, a better weak model, or "
                "stage1.pad_to"
            )
        for which in TRAINING_SETS:
            write_rows(work.directory / f"{which}.jsonl", training_rows(selection, which))
        if not shown:
            return funnel
        examples = rows_of(work.inputs[shown] / "demonstrations.jsonl")
        kept = {question.weak.id for question in selection.questions if question.consistent}
        return funnel | {"demonstrations": sum(row["id"] in kept for row in examples)}

    return Stage(
        name=name,
        needs=(weak, strong, *([shown] if shown else [])),
        settings={"pad_to": pad_to, "seed": seed, "kind": kind},
        run=run,
    )


def all_weak_stage(*, kind: str) -> Stage:
    """Takes every weak answer that is not empty, for full weak fine-tuning: weak.jsonl."""

    def run(work: Work) -> dict:
        answers = answers_of(work.inputs["weak_answers"], kind=kind)
        rows = [solution_row(answer) for answer in answers if answer.response]
        write_rows(work.directory / "weak.jsonl", rows)
        return {"rows": len(rows), "empty": len(answers) - len(rows)}

    return Stage(name="all_weak", needs=("weak_answers",), settings={"kind": kind}, run=run)


def pairs_stage(rule: PairRule, *, confidence: str, kind: str) -> Stage:
    """Builds preference pairs of the first weak answers and M_plus's samples: pairs.jsonl."""

    def run(work: Work) -> dict:
        pairs = build_pairs(
            answers_of(work.inputs["weak_answers"], kind=kind),
            answers_of(work.inputs["samples"], kind=kind, confidence=confidence),
            rule,
            kind=kind,
        )
        funnel = dataclasses.asdict(pairs.funnel)
        if not pairs.rows:
            lost = ("questions", "top_empty", "below_threshold", "below_second_threshold",
                    "no_negatives")  # fmt: skip
            counts = ", ".join(f"{name} {funnel[name]}" for name in lost)
            raise StageError(
                f"stage 'pairs': no pair is left ({counts}). Lower stage2.threshold, or draw more "
                "samples"
            )
        write_rows(work.directory / "pairs.jsonl", pairs.rows)
        return funnel

    return Stage(
        name="pairs",
        needs=("weak_answers", "samples"),
        settings=dataclasses.asdict(rule) | {"confidence": confidence, "kind": kind},
        run=run,
    )


def votes_stage(rule: PairRule, *, kind: str) -> Stage:
    """Compares ways to be confident on the same samples, and the pairs that each would give."""

    def compare(work: Work, method: str, confidence: str) -> dict:
        samples = answers_of(work.inputs["samples"], kind=kind, confidence=confidence)
        weak = answers_of(work.inputs["weak_answers"], kind=kind)
        options: dict[str, Any] = {"kind": kind, "temperature": rule.temperature}
        (quality,) = compare_votes(samples, threshold=rule.threshold, methods=(method,), **options)
        pairs = build_pairs(weak, samples, dataclasses.replace(rule, vote=method), kind=kind)
        return {
            "vote": method,
            "confidence": "" if method == "count" else confidence,
            "accuracy": quality.accuracy.value,
            "confident": quality.confident,
            "precision": quality.precision.value,
            "pairs": len(pairs.rows),
            "chosen_accuracy": pairs.funnel.chosen_accuracy.value,
            "rejected_accuracy": pairs.funnel.rejected_accuracy.value,
        }

    def run(work: Work) -> dict:
        rows = [
            compare(work, method, confidence)
            for method in VOTE_METHODS
            for confidence in (CONFIDENCES if method != "count" else CONFIDENCES[:1])
        ]
        write_rows(work.directory / "votes.jsonl", ({"id": str(i)} | r for i, r in enumerate(rows)))
        return {"votes": rows}

    return Stage(
        name="votes",
        needs=("weak_answers", "samples"),
        settings=dataclasses.asdict(rule) | {"kind": kind},
        run=run,
    )
