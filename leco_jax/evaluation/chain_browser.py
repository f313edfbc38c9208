"""What the report's browser of chains shows, as JSON values for html_page.js."""

import collections
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
      rows: results lines, each with its `seed`.
      against: the method over which problems are gained and lost.
    """
    seeds: dict[str, set[int]] = collections.defaultdict(set)
    base: dict[str, dict[int, bool]] = collections.defaultdict(dict)
    for row in rows:
        seeds[row["method"]].add(row["seed"])
        if row["method"] == against:
            base[row["id"]][row["seed"]] = row["correct"]
    problems: dict[str, int] = {}
    chains: dict[str, int] = {}
    results = []
    for row in rows:
        asked = json.dumps({name: row[name] for name in ("id", "question", "gold")})
        own = rounds_of(row)
        several = len(seeds[row["method"]]) > 1
        there = base[row["id"]]
        # What the others are compared with may have one seed, such as greedy decoding.
        before = there.get(row["seed"], next(iter(there.values()), row["correct"]))
        results.append(
            {name: row.get(name) for name in ("answer", "stopped", "error")}
            | {
                "method": f"{row['method']}, seed {row['seed']}" if several else row["method"],
                "problem": problems.setdefault(asked, len(problems)),
                "outcome": _outcome(row),
                "change": _change(row["correct"], before),
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
        "methods": list(dict.fromkeys(result["method"] for result in results)),
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
    votes = masses([chain.answer for chain in rounds], lambda a, b: a == b, rounds)
    return {one.answer: one.weight * top for one in votes}


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
