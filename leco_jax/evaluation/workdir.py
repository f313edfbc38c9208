"""A directory that belongs to one configuration."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def local_path(text: str | Path) -> Path:
    """The path of a directory or file to write, as a flag gives it.

    Raises:
        ValueError: it is a URL, of which Path would make a directory "gs:" in the current one.
    """
    if "://" in str(text):
        raise ValueError(
            f"{text} is a URL; only paths of mounted file systems can be written. Mount the bucket "
            "(gcsfuse for gs://) or use a shared disk, and give the path there"
        )
    return Path(text)


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


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file whole or not at all."""
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(value, indent=2) + "\n")
    os.replace(draft, path)


def _flat(tree: Any, name: str = "config") -> Iterator[tuple[str, str]]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _flat(value, f"{name}.{key}")
    else:
        yield name, json.dumps(tree)
