"""Every field of a config, with its default, is written in one place."""

import ast
import pathlib

ROOT = pathlib.Path(__file__).parents[1]
SHARED = 3  # fields of one name and default that two dataclasses may have in common by chance


def sources():
    for package in ("leco_jax", "w2s_jax"):
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path, ast.parse(path.read_text())


def test_config_dicts_are_made_of_dataclasses_alone():
    made = [
        str(path.relative_to(ROOT))
        for path, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).endswith(("ConfigDict", "placeholder"))
    ]
    assert set(made) <= {"leco_jax/configuration.py"}


def test_no_two_dataclasses_have_the_same_fields_with_the_same_defaults():
    fields = {}
    for path, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and node.decorator_list:
                own = {
                    f"{line.target.id}={ast.unparse(line.value)}"
                    for line in node.body
                    if isinstance(line, ast.AnnAssign)
                    and isinstance(line.target, ast.Name)
                    and line.value is not None
                }
                fields[f"{path.relative_to(ROOT)}:{node.name}"] = own
    names = sorted(fields)
    assert len(names) > 30
    twice = {
        (a, b): fields[a] & fields[b]
        for i, a in enumerate(names)
        for b in names[i + 1 :]
        if len(fields[a] & fields[b]) >= SHARED
    }
    assert twice == {}
