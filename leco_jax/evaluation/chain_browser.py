"""What the report's browser of chains shows, as JSON values for html_page.js."""

import json
import math
import types
from collections.abc import Mapping, Sequence
from typing import Any

from leco_jax.reasoning.chain_reader import WEAK
from leco_jax.reasoning.selection import masses, scale

_OF_ROUND = ("answer", "cut", "spans", "sampled", "kept", "finish", "sum_logprob")


def browser_data(rows: Sequence[Mapping[str, Any]], against: str) -> dict[str, Any]:
    """Gives problems, chains (each once) and results, which name the others by their places.

    Args:
      rows: results lines.
      against: the method over which problems are gained and lost.
    """
    base = {row["id"]: row["correct"] for row in rows if row["method"] == against}
    problems: dict[str, int] = {}
    chains: dict[str, int] = {}
    results = []
    for row in rows:
        asked = json.dumps({name: row[name] for name in ("id", "question", "gold")})
        own = rounds_of(row)
        results.append(
            {name: row.get(name) for name in ("method", "answer", "stopped", "error")}
            | {
                "problem": problems.setdefault(asked, len(problems)),
                "outcome": _outcome(row),
                "change": _change(row["correct"], base.get(row["id"], row["correct"])),
                "independent": row.get("independent", True),
                "masses": [[name, float(f"{m:.3g}")] for name, m in answer_masses(own).items()],
                "rounds": [
                    {name: getattr(chain, name) for name in _OF_ROUND}
                    | {"chain": chains.setdefault(json.dumps(_chain(chain)), len(chains))}
                    for chain in own
                ],
            }
        )
    return {
        "threshold": WEAK,
        "methods": list(dict.fromkeys(row["method"] for row in rows)),
        "problems": [json.loads(problem) for problem in problems],
        "chains": [json.loads(chain) for chain in chains],
        "results": results,
    }


def rounds_of(row: Mapping[str, Any]) -> list[Any]:
    """A results line's rounds, fields as attributes; a file of before may lack the last two."""
    older = {"spans": (0, 0), "weak_tokens": ()}
    return [types.SimpleNamespace(**(older | chain)) for chain in row.get("rounds", ())]


def answer_masses(rounds: Sequence[Any]) -> dict[str, float]:
    """For each answer the sum of the probabilities of the different chains that end in it."""
    top = math.exp(scale(rounds))
    found = masses([chain.answer for chain in rounds], lambda a, b: a == b, rounds)
    return {one.answer: one.weight * top for one in found}


def _outcome(row: Mapping[str, Any]) -> str:
    if row["error"] is not None:
        return "failed"
    if row["correct"]:
        return "right"
    return "unanswered" if row["answer"] is None else "wrong"


def _change(here: bool, there: bool) -> str:
    return "" if here == there else "gained" if here else "lost"


def _chain(chain: Any) -> dict[str, Any]:
    """The text, the places of its steps with their scores, and its weak tokens."""
    steps, done = [], 0
    for step in chain.steps:
        start = max(chain.text.find(step["text"], done), done)
        done = min(start + len(step["text"]), len(chain.text))
        steps.append([start, done, step["score"]])
    return {"text": chain.text, "steps": steps, "weak": chain.weak_tokens}
