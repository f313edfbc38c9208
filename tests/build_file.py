"""Writes the top-level BUILD file from what the sources import: `make build-file`.

One library a package, one binary a launcher, one test a test file. `test_build_file.py` holds the
file to this, so it cannot drift from the code.
"""

import ast
import functools
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parent.parent
_OWN = ("leco_jax", "w2s_jax", "launchers", "configs", "benchmarks", "tests")
_HEADER = '''"""Targets of the repository. Generated: `make build-file`."""

load("@rules_python//python:defs.bzl", "py_binary", "py_library", "py_test")

package(default_visibility = ["//visibility:public"])

licenses(["notice"])

exports_files(["LICENSE"])
'''


def build_text() -> str:
    """The whole BUILD file."""
    files = sorted(p for top in _OWN for p in (ROOT / top).rglob("*.py"))
    targets = {path: _target(path) for path in files}
    groups: dict[tuple[str, str], list[Path]] = {}
    for path, target in targets.items():
        groups.setdefault(target, []).append(path)
    rules = [
        _rule(kind, name, paths, targets)
        for (kind, name), paths in sorted(groups.items(), key=lambda item: item[0][1])
        if any(path.read_text().strip() for path in paths)
    ]
    return "\n".join([_HEADER, *rules])


def _target(path: Path) -> tuple[str, str]:
    """The kind and name of the target that a file belongs to."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    if parts[-1].startswith("test_"):
        return "py_test", "/".join(parts)
    if parts[0] in ("launchers", "benchmarks") and '__name__ == "__main__"' in path.read_text():
        return "py_binary", "/".join(parts)
    return "py_library", "/".join(parts[:-1])


def _rule(kind: str, name: str, paths: list[Path], targets: dict) -> str:
    deps = set()
    for path in paths:
        for module in _imports(path):
            deps.add(_dependency(module, targets))
    deps -= {None, f":{name}"}
    data = sorted(
        str(p.relative_to(ROOT))
        for path in paths
        for p in path.parent.glob("data/*")
        if kind == "py_library" and path.name == "__init__.py" and p.is_file()
    )
    lines = [f"{kind}(", f'    name = "{name}",']
    lines += _listing("srcs", [str(p.relative_to(ROOT)) for p in paths])
    if kind != "py_library":
        lines.append(f'    main = "{paths[0].relative_to(ROOT)}",')
    lines += _listing("data", data)
    lines += _listing("deps", sorted(d for d in deps if d is not None))
    return "\n".join([*lines, ")", ""])


def _listing(key: str, values: list[str]) -> list[str]:
    if not values:
        return []
    return [f"    {key} = [", *(f'        "{value}",' for value in values), "    ],"]


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from package import module` needs the module, `from module import name` does not.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _dependency(module: str, targets: dict) -> str | None:
    top = module.split(".")[0]
    if top in _OWN:
        parts = module.split(".")
        for end in range(len(parts), 0, -1):
            base = ROOT.joinpath(*parts[:end])
            for path in (base.with_suffix(".py"), base / "__init__.py"):
                if path in targets:
                    return f":{targets[path][1]}"
        raise ValueError(f"{module} is no module of this repository")
    if top in sys.stdlib_module_names:
        return None
    return f"@pip//{_distribution(top)}"


def _distribution(top: str) -> str:
    if top == "orbax":
        return "orbax_checkpoint"  # the namespace package belongs to several distributions
    names = _distributions().get(top, [top])
    return sorted(names)[0].lower().replace("-", "_")


@functools.cache
def _distributions():
    return packages_distributions()


if __name__ == "__main__":
    (ROOT / "BUILD").write_text(build_text())
