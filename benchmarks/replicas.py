"""Generation by two processes with a core each, against one process with one core.

    python -m benchmarks.replicas [--problems 150] [--json FILE]

Both answer the same problems with the bundled model through `launchers/leco.py`. The time is what
the run itself counts, from the loaded model to the joined results; programs are compiled before, in
a turn that does not count. Needs two idle cores and `taskset`.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks._common import Row, parser, report


def main() -> None:
    """Prints the table."""
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--problems", type=int, default=150)
    given = options.parse_args()
    first, second, *_ = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as directory:
        speeds = {}
        for turn in ("compiling", "measured"):
            for cores in ([first], [first, second]):
                workdir = Path(directory) / f"{turn}{len(cores)}"
                speeds[len(cores)] = _run(workdir, cores, given.problems, Path(directory))
    report(
        [
            Row(
                name="generation by 2 processes x 1 core",
                ours=speeds[2],
                peer=speeds[1],
                peer_name="1 process x 1 core",
                unit="tokens/s",
                bound="ratio >= 1.6",
            )
        ],
        given.json,
    )


def _run(workdir: Path, cores: list[int], problems: int, cache: Path) -> float:
    """Sampled tokens a second of one process a core."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "launchers.leco", "--config=configs/leco_arithmetic.py",
        f"--workdir={workdir}", f"--config.data.limit={problems}", "--config.engine.slots=16",
        "--config.methods=('cot','leco')", f"--num_processes={len(cores)}",
    ]  # fmt: skip
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": "1",
        "JAX_COMPILATION_CACHE_DIR": str(cache / "programs"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    started = []
    for number, core in enumerate(cores):
        who = [f"--coordinator=127.0.0.1:{port}", f"--process_id={number}"]
        pinned = ["taskset", "-c", str(core), *command, *(who if len(cores) > 1 else [])]
        started.append(subprocess.Popen(pinned, env=environment, stdout=subprocess.DEVNULL))
    if codes := [code for process in started if (code := process.wait())]:
        raise SystemExit(f"launchers.leco ended with exit code {codes[0]}")
    summary = json.loads((workdir / "summary.json").read_text())
    return summary["tokens"]["sampled"] / summary["seconds"]


if __name__ == "__main__":
    main()
