"""Scores chains from elsewhere: token log-probabilities and LeCo's step scores.

    python -m launchers.score --model=smollm2-135m-instruct --input=in.jsonl --output=out.jsonl

Input lines are {"prompt": str, "response": str}, or with "messages" in place of the prompt, which
the model's chat template turns into one; each gives an output line with the number of its "line",
its "id" if it has one, token_logprobs, sum_logprob and steps. If a line is bad nothing is written,
unless --skip_bad leaves it out.

Exit codes: 0 done; 1 something is wrong (the message says what).
"""

from pathlib import Path

import tqdm
from absl import app, flags, logging

from leco_jax.evaluation.chain_scoring import read_chains, score_chains
from leco_jax.models.loading import CheckpointError, ModelNotAvailableError, load_model
from leco_jax.scoring.presets import PRESETS
from leco_jax.storage.jsonl import numbered_lines, write_rows
from leco_jax.storage.paths import local_path

_MODEL = flags.DEFINE_string(
    "model", None, "A known model's name, a directory or a .gguf file.", required=True
)
_INPUT = flags.DEFINE_string("input", None, "JSONL of prompts and responses.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "JSONL to write, whole or not at all.", required=True)
_PRESET = flags.DEFINE_enum("preset", "paper", sorted(PRESETS), "Variant of the step scores.")
_SKIP_BAD = flags.DEFINE_bool("skip_bad", False, "Leave bad lines out instead of stopping.")
_DTYPE = flags.DEFINE_string("dtype", None, "Type of the computation; default: the checkpoint's.")
_BATCH = flags.DEFINE_integer(
    "batch_tokens", 4096, "Most tokens of a batch, padding included.", lower_bound=1
)


def main(argv: list[str]) -> int:
    """Scores one file."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}")
    logging.set_verbosity(logging.INFO)
    try:
        return _score(Path(_INPUT.value), local_path(_OUTPUT.value))
    except (ValueError, FileNotFoundError, CheckpointError, ModelNotAvailableError) as error:
        logging.error("%s", error)
        return 1


def _score(source: Path, target: Path) -> int:
    lines = list(numbered_lines(source))
    model = load_model(_MODEL.value, dtype=_DTYPE.value)
    chains, bad = read_chains(lines, model.tokenizer, max_length=model.config.max_positions)
    for line in bad:
        logging.error("%s, line %d: %s", source, line.number, line.reason)
    if bad and not _SKIP_BAD.value:
        logging.error("%d bad lines; nothing was written (--skip_bad leaves them out).", len(bad))
        return 1
    scored = score_chains(model, chains, PRESETS[_PRESET.value], batch_tokens=_BATCH.value)
    write_rows(target, tqdm.tqdm(scored, total=len(chains), unit="chain"))
    logging.info("%d chains scored, %d lines left out: %s", len(chains), len(bad), target)
    return 0


if __name__ == "__main__":
    app.run(main)
