"""A pipeline's results on one page: table, curves over rounds, selection, votes, examples."""

import json
from collections.abc import Mapping
from pathlib import Path

from leco_jax.evaluation.html_page import Chart, Section, Table, Texts, line_chart, page
from leco_jax.storage.files import read_json, write_text
from w2s_jax.curation import Share
from w2s_jax.measures import median_gap_recovered
from w2s_jax.pipeline.artifacts import ArtifactStore
from w2s_jax.pipeline.curate import rows_of
from w2s_jax.pipeline.tabulate import CEILING, FULL_WEAK, WEAK, Scores, average_scores, score_rows

# Columns may not share a name: the spaces tell intervals apart.
_COLUMNS = (
    "model", "correct", "seeds", "PGR", "95 %", "over full weak", "95 % ", "over M_plus", "95 %  ",
    "sampled", "pass@k", "any",
)  # fmt: skip
_SETS = ("weak", "icl", "hybrid")
_EXAMPLES = 8


def model_rows(stores: Mapping[int, ArtifactStore]) -> tuple[list[dict], list[str]]:
    """The table of all seeds together, as texts under `model_columns`, and its notes.

    Intervals are over questions: each question's share of right answers over the seeds. What
    another seed would change is the range over seeds.
    """
    tables = _tables(stores)
    resamples = tables[0]["resamples"]
    rows, notes = score_rows(average_scores(tables), resamples=resamples, seed=0)
    cells_by_row = []
    for i, row in enumerate(rows):
        by_seed = [100 * t["rows"][i]["accuracy"] for t in tables]
        cells = (
            row["model"],
            f"{row['accuracy']:.1%} ±{row['standard_error']:.1%}",
            f"{min(by_seed):.1f} to {max(by_seed):.1f}" if len(tables) > 1 else "-",
            *_interval(row["pgr"], ".2f"),
            *_interval(row["beyond_full_weak"], "+.1f", unit=100),
            *_interval(row["beyond_m_plus"], "+.1f", unit=100),
            *(_percent(row[name]) for name in ("mean_of_samples", "pass_at_k", "any_of_k")),
        )
        cells_by_row.append(dict(zip(_COLUMNS, cells, strict=True)))
    return cells_by_row, [*_reading(rows, len(tables), resamples), *notes]


def model_columns(rows: list[dict]) -> tuple[tuple[str, str], ...]:
    """The columns of `model_rows`, for `format_table`; those without a figure are left out."""
    return tuple((head, "") for head in _COLUMNS if any(row[head] != "-" for row in rows))


def _reading(rows: list[dict], seeds: int, resamples: int) -> list[str]:
    """How the table is read."""
    notes = [
        f"{seeds} seed{'s' * (seeds > 1)}, {rows[0]['questions']} test questions, greedy answers. "
        f"± is one standard error and 95 % a paired bootstrap ({resamples:,} resamples), both over "
        "questions alone: what another seed of splits, training and samples changes is not in them"
        + (", the range over the seeds stands beside." if seeds > 1 else ", nor measured by one.")
    ]
    notes.append(f"over {FULL_WEAK} and over M_plus (the last hybrid student) are points.")
    if any(row["pgr"] for row in rows):
        notes.append(f"PGR is the performance gap recovered between {WEAK} and {CEILING}.")
    if any(row["pgr"] and row["pgr"]["undefined"] for row in rows):
        notes.append("Resamples without a gap (undefined) are left out of its range.")
    most = max(rows, key=lambda row: row["samples"])
    if most["samples"]:
        notes.append(
            f"pass@k is unbiased with k = {most['k']} of {most['samples']} samples, any: one of "
            "all of them is right."
        )
    return [" ".join(notes)]


def _interval(interval: Mapping | None, form: str, *, unit: int = 1) -> tuple[str, str]:
    """The value and its range."""
    if interval is None:
        return "-", "-"
    value, low, high = (format(unit * interval[name], form) for name in ("value", "low", "high"))
    without = f" ({interval['undefined']:.1%} undefined)" if interval["undefined"] else ""
    return value, f"{low} to {high}{without}"


def write_report(path: Path, stores: Mapping[int, ArtifactStore], config: Mapping) -> Path:
    """Writes the page whole or not at all.

    Args:
      path: the HTML file.
      stores: each seed's artifacts, all done.
      config: printed at the end.
    """
    rows, notes = model_rows(stores)
    heads = [head for head, _ in model_columns(rows)]
    sections: list[Section] = [
        ("Models", [Table(heads, [[row[h] for h in heads] for row in rows])]),
    ]
    tables = _tables(stores)
    if len(tables) > 1:
        sections.append(("Correct by seed", [_by_seed(stores, tables)]))
    sections.append(("Correct over the rounds of stage I", [_rounds(average_scores(tables))]))
    for seed, own in zip(stores, tables, strict=True):
        of = f", seed {seed}" if len(tables) > 1 else ""
        gathered = own["gathered"]
        sections += [
            (f"Selection by agreement{of}", [_selection(gathered)]),
            (f"Pairs{of}", [_pairs(gathered["pairs"])]),
            (f"Ways to be confident, on the same samples{of}", [_votes(gathered["votes"])]),
            (f"Repeated questions{of}", [_counts(gathered["splits"]["duplicates"])]),
        ]
    first = next(iter(stores.values()))
    sections.append(("Pairs side by side", _examples(first)))
    sections.append(("Config", [Texts([json.dumps(config, indent=2)])]))
    write_text(path, page("Weak-to-strong reasoning", " ".join(notes), sections, wide=True))
    return path


def _tables(stores: Mapping[int, ArtifactStore]) -> list[dict]:
    return [read_json(s.path("table") / "table.json") for s in stores.values()]


def _by_seed(stores: Mapping[int, ArtifactStore], tables: list[dict]) -> Table:
    lines = []
    for i, row in enumerate(tables[0]["rows"]):
        mine = [t["rows"][i] for t in tables]
        gap = median_gap_recovered(r["pgr"] and r["pgr"]["value"] for r in mine)
        lines.append(
            [
                row["model"],
                *(_percent(r["accuracy"]) for r in mine),
                "-" if gap is None else f"{gap:.2f}",
            ]
        )
    return Table(["model", *(f"seed {seed}" for seed in stores), "median PGR"], lines)


def _rounds(scores: Mapping[str, Scores]) -> Chart:
    """Curves of the students; the fixed models as level lines."""

    def accuracy(model: str) -> float:
        greedy = scores[model].greedy
        return 100 * sum(greedy) / len(greedy)

    rounds = sum(model.startswith("hybrid_ft_") for model in scores)
    curves = {
        f"{which}-ft": [(float(r), accuracy(f"{which}_ft_{r}")) for r in range(1, rounds + 1)]
        for which in _SETS
    }
    level = (("weak floor", WEAK), ("full weak", FULL_WEAK), ("ceiling", CEILING))
    for name, model in ((name, model) for name, model in level if model in scores):
        curves[name] = [(float(x), accuracy(model)) for x in (1, rounds)]
    return line_chart("Correct over rounds", curves, x_name="round")


def _selection(gathered: Mapping) -> Table:
    heads = ("", "questions", "weak unreadable", "strong unreadable", "disagree", "kept",
             "of them demonstrations", "added", "precision of kept", "weak correct",
             "strong correct")  # fmt: skip
    fields = ("questions", "weak_unparsable", "strong_unparsable", "disagreeing", "kept",
              "demonstrations", "padded")  # fmt: skip
    rows = []
    for name in (n for n in gathered if n.startswith("select_")):
        funnel = gathered[name]
        rows.append(
            [
                f"round {name.removeprefix('select_')}",
                *(str(funnel.get(field, "-")) for field in fields),
                *(_share(funnel[f]) for f in ("precision", "weak_accuracy", "icl_accuracy")),
            ]
        )
    return Table(heads, rows)


def _pairs(funnel: Mapping) -> Table:
    shown = {name: value for name, value in funnel.items() if not isinstance(value, dict)}
    rows = [[_words(name), "-" if v is None else f"{v:.4g}"] for name, v in shown.items()]
    rows += [
        [_words(name), _share(value)] for name, value in funnel.items() if isinstance(value, dict)
    ]
    return Table(("", "pairs and questions"), rows)


def _votes(votes: Mapping) -> Table:
    rows = [
        [
            f"{row['vote']} {row['confidence']}".strip(),
            _percent(row["accuracy"]),
            str(row["confident"]),
            _percent(row["precision"]),
            str(row["pairs"]),
            _percent(row["chosen_accuracy"]),
            _percent(row["rejected_accuracy"]),
        ]
        for row in votes["votes"]
    ]
    heads = ("vote", "top answers correct", "confident", "of them correct", "pairs",
             "chosen correct", "rejected correct")  # fmt: skip
    return Table(heads, rows)


def _counts(counts: Mapping) -> Table:
    return Table(("", "problems"), [[_words(name), str(n)] for name, n in counts.items()])


def _examples(store: ArtifactStore) -> list[Texts]:
    blocks = []
    for row in rows_of(store.path("pairs") / "pairs.jsonl")[:_EXAMPLES]:
        blocks.append(Texts([f"{row['question']}\nconfidence {row['confidence']:.2f}"]))
        blocks.append(
            Texts(
                [
                    f"{side} ({row[f'{side}_model']}: {row[f'{side}_answer']})\n{row[side]}"
                    for side in ("chosen", "rejected")
                ]
            )
        )
    return blocks


def _share(share: Mapping) -> str:
    return _percent(Share(**share).value)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _words(name: str) -> str:
    return name.replace("_", " ")
