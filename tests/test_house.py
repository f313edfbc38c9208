"""The house's rules that a program can check: arrows, circles, names."""

import ast
import collections
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGES = ("leco_jax", "w2s_jax", "launchers")

# Each may import those before it, and what stands beside this order.
ORDER = (
    "leco_jax.scoring",
    "leco_jax.models",
    "leco_jax.decoding",
    "leco_jax.reasoning",
    "leco_jax.evaluation",
    "w2s_jax.training",
    "w2s_jax.pipeline",
    "launchers",
)
WITHOUT_JAX = ("leco_jax.text", "leco_jax.storage", "leco_jax.datasets")


def _name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    _name(path): path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))
}


def _imported(path):
    """Full names of all that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.fixture(scope="module")
def imports():
    """What each module of ours imports, and of that which modules are ours."""
    found = {}
    for name, path in MODULES.items():
        everything = set(_imported(path))
        ours = {x if x in MODULES else x.rpartition(".")[0] for x in everything}
        found[name] = everything, (ours & set(MODULES)) - {name}
    return found


def _inside(name, package):
    return name == package or name.startswith(package + ".")


def test_arrows_point_down(imports):
    for name, (_, ours) in imports.items():
        for i, package in enumerate(ORDER):
            if _inside(name, package):
                above = [x for x in ours for other in ORDER[i + 1 :] if _inside(x, other)]
                assert not above, f"{name} imports {above}, which stand above it"
        if _inside(name, "leco_jax"):
            assert not [x for x in ours if not _inside(x, "leco_jax")], name


def test_scoring_imports_jax_and_nothing_else_of_ours(imports):
    for name, (_, ours) in imports.items():
        if _inside(name, "leco_jax.scoring"):
            others = [x for x in ours if not _inside(x, "leco_jax.scoring")]
            assert not others, f"{name} imports {others}"


def test_text_storage_and_datasets_import_no_jax(imports):
    def reached(name, seen):
        if name not in seen:
            seen.add(name)
            for other in imports[name][1]:
                reached(other, seen)
        return seen

    for name in imports:
        if any(_inside(name, package) for package in WITHOUT_JAX):
            for other in reached(name, set()):
                jax = [x for x in imports[other][0] if x.partition(".")[0] in ("jax", "flax")]
                assert not jax, f"{name} reaches {other}, which imports {jax}"


def test_there_is_no_circle(imports):
    done, path = set(), []

    def visit(name):
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name not in done:
            path.append(name)
            for other in sorted(imports[name][1]):
                visit(other)
            done.add(path.pop())

    for name in imports:
        visit(name)


def test_no_file_name_stands_twice_in_a_package():
    for package in PACKAGES:
        names = collections.Counter(path.name for path in (ROOT / package).rglob("*.py"))
        del names["__init__.py"]
        assert not [name for name, count in names.items() if count > 1]
