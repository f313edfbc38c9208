"""Methods of finished runs compared on the same problems, with intervals and McNemar's test.

    python -m launchers.compare --workdirs=runs/leco_arithmetic --against=cot

Several work directories (of the same problems) are read as one; a method that two of them have is
named after its directory. Runs whose configs differ in `seed` alone are seeds of the same methods:
then every problem counts once, with the share of seeds that have it right.

Nothing is decoded again for these:

    --rules=self_consistency        what other rules would have chosen among that method's chains
    --sensitivity=fork              fewer forks and lower thresholds; any other method: LeCo's tau
                                    and K, and how many of its first passes they would cut elsewhere

Exit codes: 0 done; 1 a flag or a file is wrong (the message says which).
"""

from absl import flags

from launchers import runtime
from leco_jax.configuration import build
from leco_jax.evaluation.comparison import COMPARISON_CAPTION, COMPARISON_COLUMNS, compare
from leco_jax.evaluation.sensitivity import (
    SENSITIVITY_CAPTION,
    SENSITIVITY_COLUMNS,
    other_forks,
    other_scores,
)
from leco_jax.evaluation.stored_runs import stored_rows
from leco_jax.evaluation.stored_votes import stored_votes
from leco_jax.evaluation.summary import format_table
from leco_jax.reasoning.leco import LecoConfig
from leco_jax.storage.files import read_json
from leco_jax.storage.paths import as_path

_WORKDIRS = flags.DEFINE_list("workdirs", None, "Of launchers.leco, by commas.", required=True)
_AGAINST = flags.DEFINE_string("against", "cot", "The method that the others are compared with.")
_RULES = flags.DEFINE_string("rules", None, "A method whose chains other rules choose among.")
_WINDOW = flags.DEFINE_integer("window", 2048, "Of DeepConf's confidences in --rules, in tokens.")
_SENSITIVITY = flags.DEFINE_string("sensitivity", None, "A method to be tried with other settings.")


def main() -> int:
    """Prints the tables."""
    workdirs = [as_path(name) for name in _WORKDIRS.value]
    used = (_RULES.value, _SENSITIVITY.value)
    # Of other methods' chains, which may be many, only their cost is kept.
    rows = [
        row
        if row["method"] in used or row["error"] is not None
        else row | {"rounds": [{"sampled": one["sampled"]} for one in row["rounds"]]}
        for row in stored_rows(workdirs)
    ]
    if _RULES.value is not None:
        rows += stored_votes(rows, _RULES.value, window=_WINDOW.value)
    tried = _SENSITIVITY.value
    scores = []
    if tried is not None:
        forks = any(r["method"] == tried and "forks" in r.get("settings", ()) for r in rows)
        if forks:
            rows += other_forks(rows, tried)
        else:
            leco = build(LecoConfig, read_json(workdirs[0] / "config.json")["leco"])
            scores = other_scores(rows, tried, leco.step_preset)
    print(format_table(compare(rows, against=_AGAINST.value), COMPARISON_COLUMNS))
    print(COMPARISON_CAPTION)
    if scores:
        print("\n" + format_table(scores, SENSITIVITY_COLUMNS))
        print(SENSITIVITY_CAPTION)
    return runtime.DONE


if __name__ == "__main__":
    runtime.run(main)
