"""The last stage: every model's accuracy, pass@k and gap recovered, with intervals."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from leco_jax.evaluation.bootstrap import Interval, accuracy_difference_interval
from leco_jax.storage.files import write_json
from leco_jax.text.answers import answers_equal
from w2s_jax.curation import Answer
from w2s_jax.curation.answer_rows import gold_value
from w2s_jax.measures import (
    accuracy,
    any_of_k,
    gap_recovered_interval,
    pass_at_k,
)
from w2s_jax.pipeline.artifacts import read_summary
from w2s_jax.pipeline.curate import answers_of
from w2s_jax.pipeline.graph import Stage, StageError, Work

WEAK, CEILING, FULL_WEAK = "weak", "ceiling", "full_weak"
_HYBRID = "hybrid_ft_"


@dataclasses.dataclass(frozen=True)
class Scores:
    """One model's answers held to gold, question by question."""

    greedy: list[float]  # 1 where the greedy answer is right; over several seeds the share of them
    # share of right ones among the sampled answers; empty without samples
    mean_of_samples: list[float]
    # the unbiased chance that `k` of the samples hold a right one; empty likewise
    pass_at_k: list[float]
    any_of_k: list[float]  # 1 where any of all samples is right; empty likewise
    k: int  # of `pass_at_k`: half of the samples, for with all of them the two are the same
    samples: int  # sampled answers of a question
    unanswered: float  # greedy answers that could not be read


def table_stage(
    *, models: tuple[str, ...], gathered: tuple[str, ...], resamples: int, seed: int, kind: str
) -> Stage:
    """Writes table.json: questions, "scores" and "rows" of models, "gathered" summaries, "notes".

    It holds "resamples" too, for the table of several seeds.

    Args:
      models: evaluated as stages "eval_MODEL".
      gathered: stages whose summaries belong beside the table.
      resamples: of the bootstrap.
      seed: of the bootstrap.
      kind: of answers.
    """
    evaluations = {model: f"eval_{model}" for model in models}

    def run(work: Work) -> dict:
        graded = {
            model: grade(answers_of(work.inputs[stage], kind=kind), kind=kind, stage=stage)
            for model, stage in evaluations.items()
        }
        questions = graded[WEAK][0]
        if any(ids != questions for ids, _ in graded.values()):
            raise StageError("stage 'table': the models were evaluated on different questions")
        scores = {model: own for model, (_, own) in graded.items()}
        rows, notes = score_rows(scores, resamples=resamples, seed=seed)
        table = {
            "questions": questions,
            "scores": {model: dataclasses.asdict(own) for model, own in scores.items()},
            "rows": rows,
            "gathered": {name: read_summary(work.inputs[name]) for name in gathered},
            "notes": notes,
            "resamples": resamples,
        }
        write_json(work.directory / "table.json", table)
        return {"questions": len(questions), "models": len(models)}

    return Stage(
        name="table",
        needs=(*evaluations.values(), *gathered),
        settings={"resamples": resamples, "seed": seed, "kind": kind},
        run=run,
    )


def grade(answers: Sequence[Answer], *, kind: str, stage: str) -> tuple[list[str], Scores]:
    """Grades answers, sample 0 of each question being the greedy one; ids and scores in order.

    Raises:
      StageError: a question has no gold answer.
    """
    groups: dict[str, dict[int, Answer]] = {}
    for answer in answers:
        groups.setdefault(answer.id, {})[answer.sample] = answer
    right = []
    for name, group in groups.items():
        gold = gold_value(group.values(), kind=kind)
        if gold is None:
            raise StageError(f"stage {stage!r}: question {name} has no gold answer to hold it to")
        right.append([answers_equal(group[s].value, gold, kind=kind) for s in sorted(group)])
    values = np.asarray(right, np.float64)
    sampled = values[:, 1:]
    count = sampled.shape[1]
    k = max(count // 2, 1)
    hits = sampled.sum(axis=1).astype(int)
    return list(groups), Scores(
        greedy=values[:, 0].tolist(),
        mean_of_samples=sampled.mean(axis=1).tolist() if count else [],
        pass_at_k=pass_at_k(hits, count, k=k).tolist() if count else [],
        any_of_k=any_of_k(sampled, k=count).tolist() if count else [],
        k=k,
        samples=count,
        unanswered=sum(group[0].value is None for group in groups.values()),
    )


def average_scores(tables: Sequence[Mapping]) -> dict[str, Scores]:
    """Scores of several seeds' tables, question by question.

    Raises:
      ValueError: the seeds were evaluated on different questions.
    """
    if any(table["questions"] != tables[0]["questions"] for table in tables):
        raise ValueError("the seeds' tables are of different test questions")
    averages = {}
    for model in tables[0]["scores"]:
        seeds = [table["scores"][model] for table in tables]
        means = {
            field: np.mean([s[field] for s in seeds], axis=0).tolist()
            for field in ("greedy", "mean_of_samples", "pass_at_k", "any_of_k", "unanswered")
        }
        averages[model] = Scores(**means, k=seeds[0]["k"], samples=seeds[0]["samples"])
    return averages


def score_rows(
    scores: Mapping[str, Scores], *, resamples: int, seed: int
) -> tuple[list[dict], list[str]]:
    """A row for each model, and notes about them.

    A row has "model", "questions", "accuracy", "standard_error", "unanswered", "pgr",
    "beyond_full_weak" and "beyond_m_plus" (each None or value, low, high and undefined: a paired
    bootstrap over questions, 95 %), "mean_of_samples", "pass_at_k", "k", "any_of_k" and "samples".
    """
    m_plus = last_hybrid(scores)
    options = {"resamples": resamples, "seed": seed}

    def interval(figure: Callable[..., Interval | None], *models: str) -> dict | None:
        value = figure(*(scores[model].greedy for model in models), **options)
        return None if value is None else dataclasses.asdict(value)

    rows = []
    for model, mine in scores.items():
        right = accuracy(mine.greedy)
        pgr = beyond = beyond_m_plus = None
        if CEILING in scores and model not in (WEAK, CEILING):
            pgr = interval(gap_recovered_interval, WEAK, model, CEILING)
        if model not in (WEAK, FULL_WEAK):
            beyond = interval(accuracy_difference_interval, model, FULL_WEAK)
            if m_plus and model != m_plus:
                beyond_m_plus = interval(accuracy_difference_interval, model, m_plus)
        row = {
            "model": model,
            "questions": right.count,
            "accuracy": right.value,
            "standard_error": right.standard_error,
            "unanswered": mine.unanswered,
            "pgr": pgr,
            "beyond_full_weak": beyond,
            "beyond_m_plus": beyond_m_plus,
            "k": mine.k,
            "samples": mine.samples,
        }
        for name in ("mean_of_samples", "pass_at_k", "any_of_k"):
            values = getattr(mine, name)
            row[name] = float(np.mean(values)) if values else None
        rows.append(row)
    return rows, _notes(scores)


def last_hybrid(models: Iterable[str]) -> str | None:
    """M_plus among models in the order of their training: the last round's hybrid student."""
    return next((m for m in reversed(list(models)) if m.startswith(_HYBRID)), None)


def _notes(scores: Mapping[str, Scores]) -> list[str]:
    if CEILING not in scores:
        return [
            "No strong ceiling, and so no performance gap recovered: not every question of "
            "D_gold,2 has a solution to train it on."
        ]
    weak, ceiling = (accuracy(scores[model].greedy).value for model in (WEAK, CEILING))
    if weak < ceiling:
        return []
    return [
        f"The weak model ({weak:.1%}) is no worse than the strong ceiling ({ceiling:.1%}): the "
        "performance gap recovered is undefined."
    ]
