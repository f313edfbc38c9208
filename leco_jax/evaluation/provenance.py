"""When, by which command, at which commit and on what device figures were made."""

import datetime
import shlex
import subprocess
import sys
from pathlib import Path


def provenance() -> dict[str, str | None]:
    """The date (UTC), command, commit (None outside of a clone) and devices of this process."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    program = f"-m {spec.name}" if spec is not None else sys.argv[0]
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "device": _devices(),
        "command": f"python {program} {shlex.join(sys.argv[1:])}".strip(),
    }


def _commit() -> str | None:
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None  # not ours, if an installed package lies in somebody's clone
    command = ("git", "describe", "--always", "--dirty", "--abbrev=12")
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _devices() -> str:
    jax = sys.modules.get("jax")
    if jax is None:
        return "no jax"
    devices = jax.local_devices()
    return f"{len(devices)} x {devices[0].device_kind}"
