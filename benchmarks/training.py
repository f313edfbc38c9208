"""Step time and memory of training on this machine, beside TRL, tunix and transformers.

    python -m benchmarks.training --peer_python=VENV/bin/python [--json FILE]

The peers are not dependencies: `pip install trl google-tunix==0.1.7` into an environment of its own
and name its interpreter. Every trainer lives in its own process (`training_workers.py`); they take
turns step by step, so that a busy machine slows all of them alike. SmolLM2-135M, float32 weights,
AdamW, 4 pairs x 256 tokens, half of them prompt; the reference's log-probabilities are given.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

from benchmarks import _common

ROOT = pathlib.Path(__file__).parents[1]
GIGABYTE = 1e9


class Worker:
    """A trainer's process."""

    def __init__(self, name: str, python: str, arguments: list[str]):
        self.name, self.seconds, self.memory = name, [], 0.0
        environment = os.environ | {
            "JAX_PLATFORMS": "cpu",
            "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
            "HF_HUB_OFFLINE": "1",
        }
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed in close)
        self._process = subprocess.Popen(
            [python, str(ROOT / "benchmarks" / "training_workers.py"), name, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=environment,
        )
        self.alive = self._read() == "ready"

    def _read(self) -> str:
        return self._process.stdout.readline().strip()

    def step(self, *, count: bool) -> None:
        """Takes one step; a worker that died is left out from then on."""
        if not self.alive:
            return
        try:
            self._process.stdin.write("step\n")
            self._process.stdin.flush()
            answer = json.loads(self._read())
        except (BrokenPipeError, json.JSONDecodeError):
            self.alive = False
            return
        self.memory = answer["memory"] / GIGABYTE
        if count:
            self.seconds.append(answer["seconds"])

    def why(self) -> str:
        """The last line that a dead worker wrote."""
        self._log.seek(0)
        lines = [line for line in self._log.read().splitlines() if line.strip()]
        return lines[-1][:160] if lines else "ended without a word"

    def close(self) -> None:
        """Ends the process."""
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._process.stdout.close()
        self._log.close()


def measure(names: list[str], options: argparse.Namespace, model_dir: str) -> dict[str, Worker]:
    """Lets trainers take turns; gives them back, ended, with what was measured."""
    sizes = [str(x) for x in (options.pairs, options.length, options.length // 2)]
    workers = {}
    for name in names:
        python = sys.executable if name.startswith("ours") else options.peer_python
        if python:
            workers[name] = Worker(name, python, [model_dir, *sizes])
    for turn in range(options.repeats + 1):
        for worker in workers.values():
            # The first step compiles or warms up.
            worker.step(count=turn > 0)
    return workers


def rows_of(
    found: dict[str, Worker], ours: str, peers: dict[str, tuple[str, str | None, str | None]]
) -> list[_common.Row]:
    """Time and memory of `ours` beside each peer.

    Args:
      found: what was measured.
      ours: our worker's name.
      peers: by worker: the row's name, the bound of its time and of its memory.
    """
    rows = []
    mine = found.get(ours)
    for name, (title, time_bound, memory_bound) in peers.items():
        peer = found.get(name)
        there = peer is not None and bool(peer.seconds)
        missing = "no --peer_python" if peer is None else f"failed: {peer.why()}"
        peer_name = name if there else f"{name}: {missing}"
        for what, unit, bound, value in (
            ("step time", "s", time_bound, lambda w: statistics.median(w.seconds)),
            ("peak memory", "GB", memory_bound, lambda w: w.memory),
        ):
            rows.append(
                _common.Row(
                    name=f"{title}: {what}",
                    ours=value(mine) if mine and mine.seconds else None,
                    peer=value(peer) if there else None,
                    peer_name=peer_name,
                    unit=unit,
                    bound=bound,
                )
            )
    return rows


def main() -> None:
    """Measures and prints."""
    parser = _common.parser(__doc__.splitlines()[0])
    parser.add_argument("--peer_python", help="interpreter with trl, google-tunix, transformers")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", choices=("dpo", "sft"), help="half of the benchmark")
    options = parser.parse_args()
    rows: list[_common.Row] = []
    notes = []
    with tempfile.TemporaryDirectory() as model_dir:
        export(options.model, model_dir)
        # Two groups, and in DPO the lean settings apart from the fast ones: they need the memory.
        groups = {
            "sft": (
                ("ours-sft", {"transformers-sft": ("SFT, transformers", "ratio <= 0.7", None)}),
            ),
            "dpo": (
                (
                    "ours-dpo",
                    {
                        "trl": ("DPO, TRL", "ratio <= 0.55", None),
                        "tunix": ("DPO, tunix", "ratio <= 0.8", None),
                    },
                ),
                (
                    "ours-dpo",
                    {
                        "trl-checkpointing": ("DPO, TRL lean", None, "ratio <= 0.55"),
                        "tunix-remat": ("DPO, tunix lean", None, "ratio <= 0.6"),
                    },
                ),
            ),
        }
        for kind, parts in groups.items():
            if options.only not in (None, kind):
                continue
            for ours, peers in parts:
                found = measure([ours, *peers], options, model_dir)
                rows += rows_of(found, ours, peers)
                for worker in found.values():
                    if worker.seconds:
                        notes.append(_common.spread(worker.name, [1e3 * s for s in worker.seconds]))
                    worker.close()
    _common.report(rows, options.json, tuple(notes))


def export(model: str, directory: str) -> None:
    """Writes the model as a Hugging Face directory, which every trainer reads."""
    command = [sys.executable, "-m", "launchers.convert", f"--input={model}"]
    command += [f"--output={directory}", "--dtype=float32"]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
