"""Generation by two processes with a core each, against one process with one core.

    python -m benchmarks.replicas [--problems 150] [--turns 3] [--json FILE]

Both answer the same problems with the bundled model as `launchers/leco.py` does, in turns. The time
is what the run itself counts, from the loaded model to the joined results; in each process a first
run of the same problems compiles the programs and does not count. Needs two idle cores and
`taskset`.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks._common import Row, median, parser, report

_PROGRAM = """
from pathlib import Path
from absl import flags
from configs.leco_arithmetic import get_config
from launchers import processes, runtime, shared_work
from leco_jax.evaluation.experiment import run_experiment

WORKDIR = runtime.define_workdir("Where the two runs go.")
PROBLEMS = flags.DEFINE_integer("problems", None, "How many.")

def main():
    config = get_config()
    config.data.limit = PROBLEMS.value
    config.engine.slots = 16
    config.methods = ("cot", "leco")
    among = shared_work.find(config.mesh.tensor)
    for run in ("compiling", "measured"):
        run_experiment(config, Path(WORKDIR.value) / run, processes=among)
    return runtime.DONE

runtime.run(processes.together(main))
"""


def main() -> None:
    """Prints the table."""
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--problems", type=int, default=150)
    options.add_argument("--turns", type=int, default=3)
    given = options.parse_args()
    first, second, *_ = sorted(os.sched_getaffinity(0))
    speeds: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as directory:
        for turn in range(given.turns):
            for cores in ([first], [first, second]):
                workdir = Path(directory) / f"{turn} {len(cores)}"
                speeds[len(cores)].append(_run(workdir, cores, given.problems))
    ratios = [two / one for one, two in zip(speeds[1], speeds[2], strict=True)]
    report(
        [
            Row(
                name="generation by 2 processes x 1 core",
                ours=median(speeds[2]),
                peer=median(speeds[1]),
                peer_name="1 process x 1 core",
                unit="tokens/s",
                bound="ratio >= 1.6",
                note=f"ratios of the turns: {', '.join(f'{ratio:.2f}' for ratio in ratios)}",
            )
        ],
        given.json,
    )


def _run(workdir: Path, cores: list[int], problems: int) -> float:
    """Sampled tokens a second of one process a core."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-c", _PROGRAM, f"--workdir={workdir}", f"--problems={problems}",
        f"--num_processes={len(cores)}",
    ]  # fmt: skip
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"}
    started = []
    for number, core in enumerate(cores):
        who = [f"--coordinator=127.0.0.1:{port}", f"--process_id={number}"]
        pinned = ["taskset", "-c", str(core), *command, *(who if len(cores) > 1 else [])]
        started.append(subprocess.Popen(pinned, env=environment, stdout=subprocess.DEVNULL))
    if codes := [code for process in started if (code := process.wait())]:
        raise SystemExit(f"a process ended with exit code {codes[0]}")
    summary = json.loads((workdir / "measured" / "summary.json").read_text())
    return summary["tokens"]["sampled"] / summary["seconds"]


if __name__ == "__main__":
    main()
