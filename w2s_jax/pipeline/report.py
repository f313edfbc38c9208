"""A pipeline's results on one page: table, curves over rounds, selection, votes, examples."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from w2s_jax.html_page import line_chart, page, preformatted, section, table
from w2s_jax.pipeline.artifacts import ArtifactStore
from w2s_jax.pipeline.curate import rows_of
from w2s_jax.pipeline.tabulate import (
    CEILING,
    FULL_WEAK,
    WEAK,
    Scores,
    average_scores,
)
from w2s_jax.pipeline.tabulate import model_rows as rows_of_scores

MODEL_COLUMNS = (
    ("model", ""),
    ("correct", ""),
    ("PGR", ""),
    ("95 %", ""),
    ("over full weak", ""),
    ("95 % ", ""),
    ("sampled", ""),
    ("pass@k", ""),
    ("any", ""),
)
_SETS = ("weak", "icl", "hybrid")
_EXAMPLES = 8


def model_rows(stores: Mapping[int, ArtifactStore]) -> tuple[list[dict], list[str]]:
    """The table of all seeds together, as texts under `MODEL_COLUMNS`, and its notes.

    Intervals are over questions: each question's share of right answers over the seeds.
    """
    tables = _tables(stores)
    rows, notes = rows_of_scores(average_scores(tables), resamples=10_000, seed=0)
    shown = []
    for row in rows:
        pgr, beyond = row["pgr"], row["beyond_full_weak"]
        shown.append(
            {
                "model": row["model"],
                "correct": f"{row['accuracy']:.1%} ±{row['standard_error']:.1%}",
                "PGR": "-" if pgr is None else f"{pgr['value']:.2f}",
                "95 %": "-" if pgr is None else f"{pgr['low']:.2f} to {pgr['high']:.2f}",
                "over full weak": "-" if beyond is None else f"{100 * beyond['value']:+.1f}",
                "95 % ": "-"
                if beyond is None
                else f"{100 * beyond['low']:+.1f} to {100 * beyond['high']:+.1f}",
                "sampled": _percent(row["mean_of_samples"]),
                "pass@k": _percent(row["pass_at_k"]),
                "any": _percent(row["any_of_k"]),
            }
        )
    count, sampled = rows[0]["questions"], max(rows, key=lambda row: row["samples"])
    notes = [
        f"{len(tables)} seed{'s' * (len(tables) > 1)}, {count} test questions, greedy answers; "
        "± is one standard error over questions; PGR is the performance gap recovered between "
        f"{WEAK} and {CEILING}; points over {FULL_WEAK}; pass@k is unbiased with k = "
        f"{sampled['k']} of {sampled['samples']} samples, any: one of all of them is right.",
        *notes,
    ]
    return shown, notes


def write_report(path: Path, stores: Mapping[int, ArtifactStore], config: Mapping) -> Path:
    """Writes the page whole or not at all.

    Args:
      path: the HTML file.
      stores: each seed's artifacts, all done.
      config: printed at the end.
    """
    rows, notes = model_rows(stores)
    heads = [key for key, _ in MODEL_COLUMNS]
    sections = [section("Models", table(heads, [[row[h] for h in heads] for row in rows]))]
    tables = _tables(stores)
    if len(tables) > 1:
        sections.append(section("Correct by seed", _by_seed(stores, tables)))
    sections.append(section("Correct over the rounds of stage I", _rounds(average_scores(tables))))
    for seed, found in zip(stores, tables, strict=True):
        of = f", seed {seed}" if len(tables) > 1 else ""
        gathered = found["gathered"]
        sections.append(section(f"Selection by agreement{of}", _selection(gathered)))
        sections.append(section(f"Pairs{of}", _pairs(gathered["pairs"])))
        sections.append(
            section(f"Ways to be confident, on the same samples{of}", _votes(gathered["votes"]))
        )
        duplicates = gathered["splits"]["duplicates"]
        sections.append(section(f"Repeated questions{of}", _counts(duplicates)))
    first = next(iter(stores.values()))
    sections.append(section("Pairs side by side", _examples(first)))
    sections.append(section("Config", preformatted(json.dumps(config, indent=2))))
    draft = path.with_suffix(".tmp")
    draft.write_text(page("Weak-to-strong reasoning", " ".join(notes), sections, wide=True))
    os.replace(draft, path)
    return path


def _tables(stores: Mapping[int, ArtifactStore]) -> list[dict]:
    return [json.loads((s.path("table") / "table.json").read_text()) for s in stores.values()]


def _by_seed(stores: Mapping[int, ArtifactStore], tables: list[dict]) -> str:
    lines = [
        [row["model"], *(_percent(t["rows"][i]["accuracy"]) for t in tables)]
        for i, row in enumerate(tables[0]["rows"])
    ]
    return table(["model", *(f"seed {seed}" for seed in stores)], lines)


def _rounds(scores: Mapping[str, Scores]) -> str:
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


def _selection(gathered: Mapping) -> str:
    heads = ("", "questions", "weak unreadable", "strong unreadable", "disagree", "kept", "added",
             "precision of kept", "weak correct", "strong correct")  # fmt: skip
    fields = ("questions", "weak_unparsable", "strong_unparsable", "disagreeing", "kept", "padded")
    rows = []
    for name in (n for n in gathered if n.startswith("select_")):
        found = gathered[name]
        rows.append(
            [
                f"round {name.removeprefix('select_')}",
                *(str(found[field]) for field in fields),
                *(_share(found[f]) for f in ("precision", "weak_accuracy", "icl_accuracy")),
            ]
        )
    return table(heads, rows)


def _pairs(funnel: Mapping) -> str:
    shown = {name: value for name, value in funnel.items() if not isinstance(value, dict)}
    rows = [[_words(name), "-" if v is None else f"{v:.4g}"] for name, v in shown.items()]
    rows += [
        [_words(name), _share(value)] for name, value in funnel.items() if isinstance(value, dict)
    ]
    return table(("", "pairs and questions"), rows)


def _votes(votes: Mapping) -> str:
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
    return table(heads, rows)


def _counts(counts: Mapping) -> str:
    return table(("", "problems"), [[_words(name), str(n)] for name, n in counts.items()])


def _examples(store: ArtifactStore) -> str:
    blocks = []
    for row in rows_of(store.path("pairs") / "pairs.jsonl")[:_EXAMPLES]:
        sides = "".join(
            "<div>"
            + preformatted(f"{side} ({row[f'{side}_model']}: {row[f'{side}_answer']})\n{row[side]}")
            + "</div>"
            for side in ("chosen", "rejected")
        )
        question = f"{row['question']}\nconfidence {row['confidence']:.2f}"
        blocks.append(preformatted(question) + f'<div class="pair">{sides}</div>')
    return "\n".join(blocks)


def _share(found: Mapping) -> str:
    return f"{found['correct'] / found['known']:.1%}" if found["known"] else "-"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _words(name: str) -> str:
    return name.replace("_", " ")
