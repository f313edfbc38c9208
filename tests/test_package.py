"""The wheel, and a fresh environment with nothing but it."""

import json
import pathlib
import re
import subprocess
import sys
import zipfile

import pytest

import leco_jax

ROOT = pathlib.Path(__file__).parent.parent
VERSION = leco_jax.__version__


def _run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    # From a copy: building writes build/ and *.egg-info beside the sources.
    for name in ("leco_jax", "w2s_jax", "launchers", "configs"):
        _run("cp", "-r", str(ROOT / name), str(source))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "MANIFEST.in"):
        _run("cp", str(ROOT / name), str(source))
    _run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(target), str(source))
    (path,) = target.glob("*.whl")
    return path


def test_the_wheel_holds_the_two_packages_with_their_data(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    top = {name.split("/")[0] for name in names}
    assert top == {"leco_jax", "w2s_jax", f"leco_jax-{VERSION}.dist-info"}
    assert {"leco_jax/py.typed", "w2s_jax/py.typed"} <= set(names)
    data = re.compile(r".*\.(jsonl|jinja|js|safetensors|model|json)")
    in_source = [path for path in (ROOT / "leco_jax").rglob("*") if data.fullmatch(path.name)]
    assert in_source
    assert {str(path.relative_to(ROOT)) for path in in_source} <= set(names)
    assert wheel.stat().st_size < 10e6


def test_a_plain_install_brings_jax_and_its_requirements_alone(wheel, tmp_path):
    _run(sys.executable, "-m", "venv", str(tmp_path / "venv"))
    python = str(tmp_path / "venv" / "bin" / "python")
    _run(python, "-m", "pip", "install", "-q", str(wheel))
    listed = json.loads(_run(python, "-m", "pip", "list", "--format=json"))
    names = {entry["name"].lower().replace("_", "-") for entry in listed}
    assert names - {"pip", "setuptools"} == {
        "jax", "jaxlib", "leco-jax", "ml-dtypes", "numpy", "opt-einsum", "scipy"
    }  # fmt: skip
    _run(python, "-m", "pip", "check")
    _run(python, "-c", "from leco_jax import scoring; scoring.token_stats", cwd=tmp_path)
    for module in ("leco_jax.models.loading", "leco_jax.text", "w2s_jax"):
        done = subprocess.run(
            [python, "-c", f"import {module}"], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 1
        assert "pip install 'leco-jax[experiments]'" in done.stderr.splitlines()[-1]


def test_versions_agree():
    for name, pattern in (
        ("CITATION.cff", r"^version: (.*)$"),
        ("MODULE.bazel", r'version = "(.*?)"'),
    ):
        assert re.search(pattern, (ROOT / name).read_text(), re.M)[1] == VERSION


def test_every_launcher_has_a_bazel_target_and_every_program_that_is_named_exists():
    build = (ROOT / "BUILD").read_text()
    (listed,) = re.findall(r"LAUNCHERS = \[(.*?)\]", build, re.S)
    programs = {
        path.relative_to(ROOT / "launchers").with_suffix("").as_posix()
        for path in (ROOT / "launchers").rglob("*.py")
        if '__name__ == "__main__"' in path.read_text()
    }
    assert set(re.findall(r'"([\w/]+)"', listed)) == programs
    for path in (
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("configs/*.py"),
        *ROOT.glob("launchers/*.py"),
        ROOT / "pyproject.toml",
    ):
        for name in re.findall(r"\blaunchers[./]([a-z]\w*)", path.read_text()):
            assert list((ROOT / "launchers").glob(f"{name}*")), (path, name)


def test_the_modules_of_the_extra_are_what_pyproject_installs():
    from leco_jax.experiments_extra import MODULES

    text = (ROOT / "pyproject.toml").read_text()
    (listed,) = re.findall(r"^experiments = \[(.*?)^\]", text, re.S | re.M)
    installed = {
        name.lower().replace("-", "_") for name in re.findall(r'"([\w.-]+?)[>\["]', listed)
    }
    of_module = {
        "absl": "absl_py",
        "google.protobuf": "protobuf",
        "orbax.checkpoint": "orbax_checkpoint",
    }
    assert {of_module.get(name, name) for name in MODULES} == installed - {
        "jax", "importlib_resources"
    }  # fmt: skip
