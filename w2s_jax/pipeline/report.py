"""A pipeline's results on one page: table, curves over rounds, selection, votes, examples."""

import json
from collections.abc import Mapping
from pathlib import Path

from leco_jax.evaluation.charts import Chart, line_chart
from leco_jax.evaluation.html_page import Section, Table, Texts, page, run_table
from leco_jax.evaluation.provenance import provenance
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
    texts = []
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
        texts.append(dict(zip(_COLUMNS, cells, strict=True)))
    return texts, [*_reading(rows, len(tables), resamples), *notes]


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
    """Writes the page of each seed's artifacts, all done, with the config at the end."""
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
            (f"Pairs{of}", [_figures("pairs and questions", gathered["pairs"])]),
            (f"Ways to be confident, on the same samples{of}", [_votes(gathered["votes"])]),
            (f"Repeated questions{of}", [_figures("problems", gathered["splits"]["duplicates"])]),
        ]
    first = next(iter(stores.values()))
    sections.append(("Pairs side by side", _examples(first)))
    sections.append(("Run", [run_table({path.parent.name: {"made": provenance()}})]))
    sections.append(("Config", [Texts([json.dumps(config, indent=2)])]))
    write_text(path, page("Weak-to-strong reasoning", " ".join(notes), sections, wide=True))
    return path


def _tables(stores: Mapping[int, ArtifactStore]) -> list[dict]:
    return [read_json(s.path("table") / "table.json") for s in stores.values()]


def _by_seed(stores: Mapping[int, ArtifactStore], tables: list[dict]) -> Table:
    lines = []
    for mine in zip(*(table["rows"] for table in tables), strict=True):
        gap = median_gap_recovered(row["pgr"] and row["pgr"]["value"] for row in mine)
        accuracies = [_percent(row["accuracy"]) for row in mine]
        lines.append([mine[0]["model"], *accuracies, "-" if gap is None else f"{gap:.2f}"])
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
    shares = ("precision", "weak_accuracy", "icl_accuracy")
    rows = []
    for name in (n for n in gathered if n.startswith("select_")):
        counts = [str(gathered[name].get(field, "-")) for field in fields]
        right = [_figure(gathered[name][field]) for field in shares]
        rows.append([f"round {name.removeprefix('select_')}", *counts, *right])
    return Table(heads, rows)


def _figures(what: str, figures: Mapping) -> Table:
    """Figures by name, shares below."""
    ordered = sorted(figures.items(), key=lambda item: isinstance(item[1], dict))
    return Table(("", what), [[k.replace("_", " "), _figure(value)] for k, value in ordered])


def _votes(votes: Mapping) -> Table:
    heads = ("vote", "top answers correct", "confident", "of them correct", "pairs",
             "chosen correct", "rejected correct")  # fmt: skip
    rows = []
    for row in votes["votes"]:
        right = ("accuracy", "precision", "chosen_accuracy", "rejected_accuracy")
        top, sure, chosen, rejected = (_percent(row[name]) for name in right)
        name = f"{row['vote']} {row['confidence']}".strip()
        rows.append([name, top, str(row["confident"]), sure, str(row["pairs"]), chosen, rejected])
    return Table(heads, rows)


def _examples(store: ArtifactStore) -> list[Texts]:
    blocks = []
    for row in rows_of(store.path("pairs") / "pairs.jsonl")[:_EXAMPLES]:
        blocks.append(Texts([f"{row['question']}\nconfidence {row['confidence']:.2f}"]))
        sides = [
            f"{side} ({row[f'{side}_model']}: {row[f'{side}_answer']})\n{row[side]}"
            for side in ("chosen", "rejected")
        ]
        blocks.append(Texts(sides))
    return blocks


def _figure(value: Mapping | float | None) -> str:
    """A share of right answers, a count or a mean."""
    if isinstance(value, Mapping):
        return _percent(Share(**value).value)
    if isinstance(value, float):
        return f"{value:.4g}"
    return "-" if value is None else str(value)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
