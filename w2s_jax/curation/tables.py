"""Selections as lines for people: what came in, what was dropped and why, what is left."""

from collections.abc import Sequence
from typing import Any

from w2s_jax.curation.confidence import VoteQuality
from w2s_jax.curation.consistency import Selection
from w2s_jax.curation.pairs import PairFunnel, PairRule

Table = list[tuple[str, Any]]


def consistency_table(selection: Selection) -> Table:
    """(label, value) of a selection by agreement."""
    funnel = selection.funnel
    added: Table = [
        ("right weak answers of the added", funnel.padded_weak),
        ("right strong answers of the added", funnel.padded_icl),
    ]
    return [
        ("weak model", selection.weak_model),
        ("strong model", selection.icl_model),
        ("questions", funnel.questions),
        ("- weak answer unreadable", funnel.weak_unparsable),
        ("- strong answer unreadable", funnel.strong_unparsable),
        ("- answers differ", funnel.disagreeing),
        ("kept", funnel.kept),
        ("added at random", funnel.padded),
        ("precision of the kept", funnel.precision),
        *(added if funnel.padded else []),
        ("right weak answers of all", funnel.weak_accuracy),
        ("right strong answers of all", funnel.icl_accuracy),
    ]


def vote_table(qualities: Sequence[VoteQuality], *, threshold: float) -> Table:
    """(label, value) of votes on the same samples, those of several methods below each other."""
    table: Table = [("questions", qualities[0].questions)]
    for quality in qualities:
        table += [
            (f"{quality.method}: top answer readable", quality.answered),
            (f"{quality.method}: confidence from {threshold:g} on", quality.confident),
            (f"{quality.method}: precision of those", quality.precision),
            (f"{quality.method}: right top answers of all", quality.accuracy),
        ]
    return table


def pair_table(funnel: PairFunnel, rule: PairRule) -> Table:
    """(label, value) of a set of pairs."""
    table: Table = [
        ("questions with samples", funnel.questions),
        ("- no weak answer row", funnel.no_weak_row),
        ("- top answer unreadable", funnel.top_empty),
        (f"- confidence below {rule.threshold:g}", funnel.below_threshold),
        (
            f"- weak answer differs, confidence below {rule.weak_rejected_threshold:g}",
            funnel.below_second_threshold,
        ),
        ("- no sample to pair with", funnel.no_negatives),
        ("questions with pairs", funnel.kept),
        ("pairs", funnel.pairs),
        ("weak answers without samples", funnel.without_samples),
    ]
    if funnel.pairs:
        table += [
            ("weak response is the chosen one", f"{funnel.weak_chosen / funnel.pairs:.2%}"),
            ("right chosen answers", funnel.chosen_accuracy),
            ("right rejected answers", funnel.rejected_accuracy),
            ("mean words, chosen", f"{funnel.chosen_words:.1f}"),
            ("mean words, rejected", f"{funnel.rejected_words:.1f}"),
        ]
    return table


def format_lines(table: Table) -> str:
    """The values below each other."""
    width = max(len(label) for label, _ in table)
    return "\n".join(f"{label:{width}}  {value}" for label, value in table)
