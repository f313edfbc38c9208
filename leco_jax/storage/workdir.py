"""A directory that belongs to one configuration."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from leco_jax.storage.files import write_json


def claim(workdir: Path, config: dict) -> None:
    """Writes the config down, or compares it with the one that began this directory.

    Raises:
        ValueError: the directory was begun with another config; nothing is changed.
    """
    refuse_other(workdir, config)
    path = workdir / "config.json"
    if not path.exists():
        workdir.mkdir(parents=True, exist_ok=True)
        write_json(path, config)


def refuse_other(workdir: Path, config: dict) -> None:
    """Compares the config with the one that began this directory, if any; writes nothing.

    Raises:
        ValueError: the directory was begun with another config.
    """
    path = workdir / "config.json"
    if not path.exists():
        return
    found = json.loads(path.read_text())
    if found != config:
        differing = set(_flat(found)) ^ set(_flat(config))
        names = ", ".join(sorted({name for name, _ in differing}))
        raise ValueError(
            f"{workdir} was begun with another config (differing: {names}). Choose another "
            "--workdir, or give the same config to go on."
        )


def _flat(tree: Any, name: str = "config") -> Iterator[tuple[str, str]]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _flat(value, f"{name}.{key}")
    else:
        yield name, json.dumps(tree)
