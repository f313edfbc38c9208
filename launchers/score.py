"""Scores chains from elsewhere: token log-probabilities and LeCo's step scores.

    python -m launchers.score --model=smollm2-135m-instruct --input=in.jsonl --output=out.jsonl

Input lines are {"prompt": str, "response": str}, or with "messages" in place of the prompt, which
the model's chat template turns into one; each gives an output line with the number of its "line",
its "id" if it has one, token_logprobs, sum_logprob and steps. If a line is bad nothing is written,
unless --skip_bad leaves it out.

On a pod every host runs the same command; on other hosts --coordinator, --num_processes and
--process_id say who is who. All share the chains.

Exit codes: 0 done; 1 something is wrong (the message says what), and nothing was written; 3 done,
but --skip_bad left lines out; 75 another process died, and nothing was written.
"""

import itertools

from absl import flags

from launchers import processes, runtime, shared_work
from leco_jax.evaluation.chain_scoring import read_chains
from leco_jax.evaluation.processes import same_everywhere
from leco_jax.evaluation.score_file import load_replicas, write_scores
from leco_jax.scoring.presets import PRESETS
from leco_jax.storage.hashes import content_hash
from leco_jax.storage.jsonl import numbered_lines
from leco_jax.storage.paths import as_path, check_output

_MODEL = flags.DEFINE_string(
    "model", None, "A known model's name, a directory or a .gguf file.", required=True
)
_INPUT = flags.DEFINE_string("input", None, "JSONL of prompts and responses.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "JSONL to write, whole or not at all.", required=True)
_PRESET = flags.DEFINE_enum("preset", "paper", sorted(PRESETS), "Variant of the step scores.")
_SKIP_BAD = flags.DEFINE_bool("skip_bad", False, "Leave bad lines out instead of stopping.")
_DTYPE = flags.DEFINE_enum(
    "dtype", None, ["float32", "bfloat16"], "Of matrix products; default: the checkpoint's."
)
_TENSOR = flags.DEFINE_integer(
    "tensor", 1, "Devices that share each matrix of one replica of the model.", lower_bound=1
)
_BATCH = flags.DEFINE_integer(
    "batch_tokens", 4096, "Most tokens of a batch, padding included.", lower_bound=1
)


def main() -> int:
    """Scores one file."""
    source = as_path(_INPUT.value)
    target = check_output(_OUTPUT.value, inputs=[source, _MODEL.value])
    lines = list(numbered_lines(source))
    among = shared_work.find(_TENSOR.value)
    decides = {
        "input": content_hash(source), "preset": _PRESET.value, "batch_tokens": _BATCH.value,
        "dtype": _DTYPE.value, "model": _MODEL.value,
    }  # fmt: skip
    same_everywhere(among, "flags", decides)
    replicas = load_replicas(_MODEL.value, among, tensor=_TENSOR.value, dtype=_DTYPE.value)
    first = next(replicas)
    model = first.model
    chains, bad = read_chains(lines, model.tokenizer, max_length=model.config.max_positions)
    for line in bad:
        runtime.log.error("%s, line %d: %s", source, line.number, line.reason)
    if bad and not _SKIP_BAD.value:
        return runtime.fail(f"{len(bad)} bad lines; nothing was written (--skip_bad drops them)")
    write_scores(
        target, itertools.chain([first], replicas), chains, PRESETS[_PRESET.value],
        batch_tokens=_BATCH.value, processes=among,
    )  # fmt: skip
    runtime.log.info("%d chains scored, %d lines left out: %s", len(chains), len(bad), target)
    return runtime.SOME_FAILED if bad else runtime.DONE


if __name__ == "__main__":
    runtime.run(processes.together(main))
