"""How well a model's confidence finds the first wrong step of chains in which it is known.

    python -m launchers.localise --model=smollm2-135m-instruct --chains=word_sorting.jsonl
    python -m launchers.localise --workdir=runs/leco_arithmetic

Chains are rows of BIG-Bench-Mistake, ProcessBench or PRM800K (`leco_jax.datasets.labelled_chains`),
or the first passes of a finished run on a data set whose solutions have an equation in each step
(`arithmetic_chains`). A model reads them, after the question alone or with `--prompt=chat`, and the
least value of each figure names a step: LeCo's score and its parts, the weakest token, mean entropy
and self-certainty, two of them against the usual value of their place, AdaptiveStep's boundaries.
Labels are used to count hits, for nothing else.

Exit codes: 0 done; 1 a flag or a file is wrong (the message says which).
"""

from absl import flags

from launchers import processes, runtime
from leco_jax.evaluation.labelled_sources import SourceOptions, from_file, from_run
from leco_jax.evaluation.localisation import FIGURE_CAPTION, FIGURE_COLUMNS, figure_table
from leco_jax.evaluation.questions import PROMPTS
from leco_jax.evaluation.summary import format_table
from leco_jax.models.loading import load_model
from leco_jax.scoring.presets import PRESETS
from leco_jax.storage.files import read_json, write_json
from leco_jax.storage.paths import as_path, check_output

_CHAINS = flags.DEFINE_list("chains", None, "JSONL files of labelled chains, by commas.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Of launchers.leco, in place of --chains.")
_MODEL = flags.DEFINE_string(
    "model", None, "A known name, a directory or a .gguf file; default: the run's."
)
_PROMPT = flags.DEFINE_enum("prompt", "question", sorted(PROMPTS), "Before the --chains.")
_METHOD = flags.DEFINE_string("method", "cot", "Whose first passes are read from --workdir.")
_LIMIT = flags.DEFINE_integer("limit", None, "At most so many chains a file.", lower_bound=1)
_PRESET = flags.DEFINE_enum("preset", "paper", sorted(PRESETS), "Variant of the step scores.")
_DTYPE = flags.DEFINE_enum(
    "dtype", None, ["float32", "bfloat16"], "Of matrix products; default: the checkpoint's."
)
_BATCH = flags.DEFINE_integer(
    "batch_tokens", 4096, "Most tokens of a batch, padding included.", lower_bound=1
)
_JSON = flags.DEFINE_string("json", None, "Write the figures to this file.")


def main() -> int:
    """Prints a table for each file, or for the run."""
    if (_CHAINS.value is None) == (_WORKDIR.value is None):
        raise ValueError("give either --chains or --workdir")
    target = check_output(_JSON.value, inputs=_CHAINS.value or ()) if _JSON.value else None
    workdir = None if _WORKDIR.value is None else as_path(_WORKDIR.value)
    name = _MODEL.value
    if name is None:
        if workdir is None:
            raise ValueError("--chains need a --model that reads them")
        name = read_json(workdir / "config.json")["model"]["name"]
    model = load_model(name, dtype=_DTYPE.value)
    options = SourceOptions(
        preset=PRESETS[_PRESET.value], batch_tokens=_BATCH.value, limit=_LIMIT.value
    )
    if workdir is not None:
        found = [from_run(model, workdir, _METHOD.value, options)]
    else:
        paths = map(as_path, _CHAINS.value or ())
        found = [from_file(model, path, _PROMPT.value, options) for path in paths]
    tables = []
    for source in found:
        lines = figure_table(source.chains)
        tables.append(
            {"source": source.name, "counts": source.counts, "lines": lines + source.cuts}
        )
        counted = ", ".join(f"{count} {what}" for what, count in source.counts.items())
        print(f"{source.name}: {counted}")
        print(format_table(lines + source.cuts, FIGURE_COLUMNS))
        print()
    print(FIGURE_CAPTION)
    if target is not None:
        write_json(target, {"model": name, "preset": _PRESET.value, "tables": tables})
    return runtime.DONE


if __name__ == "__main__":
    runtime.run(processes.alone(main))
