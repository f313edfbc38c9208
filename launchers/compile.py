r"""Compiles a launcher's program for TPU slices on a host without one, and says what it would take.

    python -m launchers.compile --config=configs/dpo_llama3_8b_pod.py --program=dpo \
        --topology=v5e:16x16,v5p:4x4x4 --architecture=llama3_8b

For each topology, per chip: parameters, optimiser state, cache and temporaries against HBM; FLOPs,
HBM traffic and bytes sent by kind of collective, loops counted as often as they turn; the least
time by published peaks, what bounds it, and the MFU in that time. No weight is made or read.
sft and dpo take a training config; score, prefill and decode one of launchers/leco.py, of whose
replicas (config.mesh.tensor) one is compiled. --architecture=NAME gives the model's sizes where its
files are not here. Needs libtpu (the extra `aot`). All figures are the compiler's plan and
arithmetic; none was measured on a TPU.

Exit codes: 0 all fit; 1 one does not (its largest buffers are named), or a flag or the config is
wrong.
"""

import dataclasses
import functools

from absl import flags

from launchers import runtime
from launchers.compilation.chips import find_slices, prepare
from launchers.compilation.figures import compile_program, largest_that_fits
from launchers.compilation.programs import (
    PROGRAMS,
    TRAINING,
    Options,
    generation_program,
    training_program,
)
from launchers.compilation.tables import describe
from leco_jax.evaluation.experiment_config import ExperimentConfig
from leco_jax.evaluation.provenance import provenance
from leco_jax.storage.files import write_json
from w2s_jax.training.job_config import TrainingConfig

_CONFIG = runtime.define_config("What the program would run with.")
_PROGRAM = flags.DEFINE_enum("program", None, PROGRAMS, "What to compile.", required=True)
_TOPOLOGY = flags.DEFINE_list(
    "topology", None, "Slices: v5e:16x16, v5p:4x4x4, v6e:4x4; several with commas.", required=True
)
_SLICES = flags.DEFINE_integer(
    "num_slices", 1, "Slices of each; mesh.data lies over them.", lower_bound=1
)
_ARCHITECTURE = flags.DEFINE_string(
    "architecture", "", "A preset whose sizes stand for the config's model: llama2_70b."
)
_BATCH = flags.DEFINE_integer(
    "batch", None, "Rows or pairs, slots, tokens of score or a prompt; default: the config's.",
    lower_bound=1,
)  # fmt: skip
_PROMPT = flags.DEFINE_integer("prompt_length", 512, "Tokens of a prompt.", lower_bound=1)
_LARGEST = flags.DEFINE_bool("largest_batch", False, "Look for the largest batch that fits.")
_JSON = flags.DEFINE_string("json", None, "Also write the figures here.")


def main() -> int:
    """Compiles for each topology and prints what came out."""
    prepare()
    training = _PROGRAM.value in TRAINING
    config = _CONFIG(TrainingConfig if training else ExperimentConfig)
    make = training_program if training else generation_program
    options = Options(architecture=_ARCHITECTURE.value, prompt_length=_PROMPT.value)
    found = []
    slices = [find_slices(name, _SLICES.value) for name in _TOPOLOGY.value]
    for own in slices:
        plan = functools.partial(make, _PROGRAM.value, config, own, options)
        if _LARGEST.value:
            figures = largest_that_fits(plan, own, lambda tried: print(describe(tried), flush=True))
            print(f"largest batch on {own}: {figures.batch if figures.fits else 0} {figures.unit}")
        else:
            figures = compile_program(plan(_BATCH.value), own)
            print(describe(figures), flush=True)
        found.append(figures)
        if _JSON.value:
            rows = [dataclasses.asdict(f) for f in found]
            write_json(_JSON.value, {"made": provenance(), "programs": rows})
    return runtime.DONE if all(f.fits for f in found) else runtime.WRONG


if __name__ == "__main__":
    runtime.run(main)
