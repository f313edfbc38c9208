"""Stage II's preference pairs: a weak response against a sample of the strong model."""

import collections
import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from leco_jax.text.answers import answers_equal, format_answer
from w2s_jax.curation.answer_rows import (
    Answer,
    Share,
    by_question,
    check_questions,
    check_same_model,
    gold_value,
    one_each,
    question_random,
    share_correct,
)
from w2s_jax.curation.confidence import check_method, vote


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairRule:
    """Which questions give pairs, and how many."""

    threshold: float = 0.6  # the least confidence in the strong model's top answer
    # the least one where the weak answer is another, and so rejected
    weak_rejected_threshold: float = 0.6
    pairs_per_question: int = 1  # at most so many, 1 to 3
    vote: str = "count"  # how confidence is found, a name in `confidence.VOTE_METHODS`
    temperature: float = 1.0  # of the vote "cisc"
    seed: int = 42  # of the samples that are drawn

    def __post_init__(self):
        for name in ("threshold", "weak_rejected_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)} must be in 0..1")
        if self.weak_rejected_threshold < self.threshold:
            raise ValueError(
                f"weak_rejected_threshold={self.weak_rejected_threshold} is below "
                f"threshold={self.threshold}, which every question has to reach: give as much"
            )
        if self.pairs_per_question not in (1, 2, 3):
            raise ValueError(f"pairs_per_question={self.pairs_per_question} must be 1, 2 or 3")
        check_method(self.vote)


# The paper shows one threshold (arXiv 2407.13647, figure 3); its program has two.
PAIR_RULES = {
    "paper": PairRule(threshold=0.6, weak_rejected_threshold=0.6),
    "official_code": PairRule(threshold=0.6, weak_rejected_threshold=0.8),
}


def pair_rule(
    name: str, *, threshold: float | None, weak_rejected_threshold: float | None, **options: Any
) -> PairRule:
    """The rule of a name in `PAIR_RULES` with other fields; thresholds of None are the rule's."""
    rule = PAIR_RULES[name]
    first = rule.threshold if threshold is None else threshold
    second = weak_rejected_threshold
    if second is None:
        one = rule.threshold == rule.weak_rejected_threshold
        second = first if one else max(first, rule.weak_rejected_threshold)
    return dataclasses.replace(rule, threshold=first, weak_rejected_threshold=second, **options)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairFunnel:
    """How many questions gave pairs or why not, and figures of the pairs."""

    questions: int  # those with samples; each is counted once in the next six
    no_weak_row: int  # the weak model was not asked, or wrote nothing
    top_empty: int  # most samples cannot be read
    below_threshold: int  # the strong model is not sure enough
    below_second_threshold: int  # sure enough, but not to reject a different weak answer
    no_negatives: int  # no sample can stand against the weak response: all agree with it
    kept: int  # questions with pairs
    pairs: int  # all pairs
    weak_chosen: int  # pairs whose chosen side is the weak response
    without_samples: int  # weak answers to questions without samples
    chosen_accuracy: Share  # right chosen answers of the pairs whose gold is known
    rejected_accuracy: Share  # right rejected ones
    chosen_words: float | None  # mean words of a chosen response; None without pairs
    rejected_words: float | None  # of a rejected one; a large difference rewards length itself


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairSet:
    """Pairs and their counts."""

    # "id", "question", "chosen" and "rejected" (texts), "chosen_model", "rejected_model",
    # "chosen_answer", "rejected_answer" (None: unreadable), "confidence", "weak_side" ("chosen" or
    # "rejected")
    rows: list[dict[str, Any]]
    funnel: PairFunnel


def build_pairs(
    weak: Iterable[Answer],
    samples: Iterable[Answer],
    rule: PairRule,
    *,
    kind: str = "number",
) -> PairSet:
    """Builds pairs whose one side is always the weak model's response; gold is never used.

    A question gives pairs if the strong model's top answer is no empty one and sure enough. Where
    the weak answer is the same, the weak response is chosen and samples with other answers, the
    unreadable ones included, are rejected. Where it is another (or none), the weak response is
    rejected and samples with the top answer are chosen, if the second threshold is reached too.
    Samples are drawn at random, each as likely as it is frequent, no text twice.
    Source: the published program of arXiv 2407.13647.

    The two answers of a pair differ and the chosen one can be read; pairs stand in the order of
    the samples' questions; a question's pairs are the same whichever others are there.

    Args:
      weak: the weak model's answers, one to a question.
      samples: the strong model's, several to a question.
      rule: thresholds, vote and number.
      kind: of answers.

    Raises:
      ValueError: several models in one set, no question in common, an id that stands for two
        questions, or several weak answers to one.
    """
    weak_by_id, groups = one_each(weak, name="weak answers"), by_question(samples)
    check_same_model(weak_by_id.values(), name="weak answers")
    check_same_model((s for group in groups.values() for s in group), name="samples")
    shared = [id_ for id_ in groups if id_ in weak_by_id]
    if not shared:
        raise ValueError(
            f"None of the {len(groups)} questions with samples has a weak answer: their ids begin "
            f"with {next(iter(groups))!r}, those of the {len(weak_by_id)} weak answers with "
            f"{next(iter(weak_by_id))!r}. Give the same questions the same 'id' in both files"
        )
    check_questions({id_: [answer] for id_, answer in weak_by_id.items()}, groups)

    rows: list[dict[str, Any]] = []
    sides: list[tuple[Answer, Answer, Any]] = []
    fates: collections.Counter[str] = collections.Counter()
    for id_, group in groups.items():
        weak_answer = weak_by_id.get(id_)
        gold = gold_value([*group, *([weak_answer] if weak_answer else [])], kind=kind)
        fate, pairs, confidence = _pair(weak_answer, group, rule, kind)
        fates[fate] += 1
        for pair in pairs:
            row: dict[str, Any] = {"id": id_, "question": pair[0].question}
            named = dict(zip(("chosen", "rejected"), pair, strict=True))
            row |= {side: answer.response for side, answer in named.items()}
            row |= {f"{side}_model": answer.model for side, answer in named.items()}
            for side, answer in named.items():
                row[f"{side}_answer"] = format_answer(answer.value, kind=kind)
            weak_side = "chosen" if pair[0] is weak_answer else "rejected"
            rows.append(row | {"confidence": confidence, "weak_side": weak_side})
            sides.append((*pair, gold))
    return PairSet(
        rows=rows,
        funnel=PairFunnel(
            questions=len(groups),
            pairs=len(rows),
            weak_chosen=sum(row["weak_side"] == "chosen" for row in rows),
            without_samples=len(weak_by_id) - len(shared),
            chosen_accuracy=share_correct(((c.value, g) for c, _, g in sides), kind=kind),
            rejected_accuracy=share_correct(((r.value, g) for _, r, g in sides), kind=kind),
            chosen_words=_mean_words(c for c, _, _ in sides),
            rejected_words=_mean_words(r for _, r, _ in sides),
            **{fate: fates[fate] for fate in _FATES},
        ),
    )


_FATES = (
    "no_weak_row", "top_empty", "below_threshold", "below_second_threshold", "no_negatives", "kept",
)  # fmt: skip


def _pair(
    weak: Answer | None, samples: Sequence[Answer], rule: PairRule, kind: str
) -> tuple[str, list[tuple[Answer, Answer]], float]:
    """One question's fate, its (chosen, rejected), and the confidence in its top answer."""
    if weak is None or not weak.response.strip():
        return "no_weak_row", [], 0.0
    top = vote(samples, method=rule.vote, kind=kind, temperature=rule.temperature)
    if top.answer is None:
        return "top_empty", [], top.confidence
    if top.confidence < rule.threshold:
        return "below_threshold", [], top.confidence
    agrees = answers_equal(weak.value, top.answer, kind=kind)
    if not agrees and top.confidence < rule.weak_rejected_threshold:
        return "below_second_threshold", [], top.confidence
    opposite = [
        sample
        for sample in (top.others if agrees else top.supporters)
        # Checked again for each pair: equality need not be transitive for every kind.
        if not answers_equal(sample.value, weak.value, kind=kind)
        and sample.response.strip() not in ("", weak.response.strip())
    ]
    drawn: dict[str, Answer] = {}  # by text: none twice
    for sample in question_random(rule.seed, weak.id).sample(opposite, len(opposite)):
        drawn.setdefault(sample.response.strip(), sample)
    partners = list(drawn.values())[: rule.pairs_per_question]
    pairs = [(weak, partner) if agrees else (partner, weak) for partner in partners]
    return ("kept" if pairs else "no_negatives"), pairs, top.confidence


def _mean_words(answers: Iterable[Answer]) -> float | None:
    words = [len(answer.response.split()) for answer in answers]
    return sum(words) / len(words) if words else None
