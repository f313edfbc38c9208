import ast

from tests.build_file import ROOT, build_text


def test_build_says_what_the_sources_import():
    assert (ROOT / "BUILD").read_text() == build_text(), "run `make build-file`"


def test_every_package_launcher_and_test_has_a_target():
    targets = {
        keyword.value.value
        for node in ast.parse((ROOT / "BUILD").read_text()).body
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
        for keyword in node.value.keywords
        if keyword.arg == "name"
    }
    for path in ROOT.glob("launchers/*.py"):
        if '__name__ == "__main__"' in path.read_text():
            assert f"launchers/{path.stem}" in targets
    for path in ROOT.glob("tests/**/test_*.py"):
        assert str(path.relative_to(ROOT).with_suffix("")) in targets
    for package in ("scoring", "models", "text", "decoding", "datasets", "reasoning", "evaluation"):
        assert f"leco_jax/{package}" in targets
    assert "w2s_jax" in targets
