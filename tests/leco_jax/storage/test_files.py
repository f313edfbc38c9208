import math
import os
import signal
import subprocess
import sys
import threading

import pytest

from leco_jax.storage.files import (
    new_directory,
    read_json,
    remove_drafts,
    replacing,
    scratch_directory,
    write_json,
    write_text,
)


def test_two_writers_of_one_file_have_drafts_of_their_own(tmp_path):
    path = tmp_path / "a.txt"
    with replacing(path) as first, replacing(path) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
        assert not path.exists()
    assert path.read_text() == "first"  # the last to end
    assert list(tmp_path.iterdir()) == [path]


def test_many_writers_leave_one_whole_file(tmp_path):
    path = tmp_path / "a.txt"
    texts = [str(i) * 100_000 for i in range(8)]
    writers = [threading.Thread(target=write_text, args=(path, text)) for text in texts * 4]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert path.read_text() in texts
    assert list(tmp_path.iterdir()) == [path]


def test_the_mode_is_that_of_the_replaced_file_or_the_usual_one(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    old.touch()
    old.chmod(0o640)
    for path in (old, new):
        write_text(path, "x")
    (tmp_path / "plain").touch()
    assert old.stat().st_mode & 0o777 == 0o640
    assert new.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_the_target_of_a_link_is_replaced_and_no_device_or_directory(tmp_path):
    target, link = tmp_path / "sub" / "target", tmp_path / "link"
    target.parent.mkdir()
    target.write_text("old")
    link.symlink_to(target)
    write_text(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    for bad in (tmp_path, "/dev/null"):
        with pytest.raises(ValueError, match=f"{bad} is not a regular file"):
            write_text(bad, "x")
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        write_text(tmp_path / "file" / "x", "x")


KILLED = """
import os, signal, sys
from pathlib import Path
from leco_jax.storage.files import new_directory, replacing
path, stay = Path(sys.argv[1]), sys.argv[2] == "stay"
with replacing(path) as draft, new_directory(path.with_suffix("")) as directory:
    draft.write_text("half")
    (directory / "half").touch()
    if stay:
        print(draft, flush=True)
        sys.stdin.read()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def writer(path, what):
    return subprocess.Popen(
        [sys.executable, "-c", KILLED, path, what], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def test_drafts_of_killed_writers_go_with_the_next_and_those_in_use_stay(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, 1)
    for _ in range(3):
        killed = writer(path, "die")
        killed.communicate()
        assert killed.returncode == -signal.SIGKILL
    assert read_json(path) == 1
    # The third writer has removed what the first two left.
    assert len(list(tmp_path.iterdir())) == 3
    living = writer(path, "stay")
    draft = living.stdout.readline().decode().strip()
    write_json(path, 2)
    with scratch_directory(tmp_path / "a"):
        pass
    assert os.path.exists(draft)
    living.kill()
    living.communicate()
    write_json(path, 3)
    with new_directory(tmp_path / "a") as made:
        (made / "whole").touch()
    assert sorted(tmp_path.iterdir()) == [tmp_path / "a", path]
    assert [file.name for file in (tmp_path / "a").iterdir()] == ["whole"]


def test_all_drafts_below_a_directory_are_removed(tmp_path):
    (tmp_path / "sub").mkdir()
    for path in (tmp_path / "a.json", tmp_path / "sub" / "b"):
        killed = writer(path, "die")
        killed.communicate()
    write_text(tmp_path / "sub" / "whole.tmp", "")
    with replacing(tmp_path / "c") as draft:
        remove_drafts(tmp_path)
        assert draft.exists()
    assert {path.name for path in tmp_path.rglob("*")} == {"sub", "c", "whole.tmp"}


def test_a_directory_that_another_made_meanwhile_stays(tmp_path):
    with new_directory(tmp_path / "a") as draft:
        (draft / "mine").touch()
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "theirs").touch()
    assert [file.name for file in (tmp_path / "a").iterdir()] == ["theirs"]
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_json_is_replaced_whole_and_holds_finite_numbers(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    with pytest.raises(ValueError, match=r"a\.b\[1\] is nan: JSON has no number that"):
        write_json(path, {"a": {"b": [1.0, math.nan]}})
    assert read_json(path) == {"a": 1}
    path.write_text('{"a": ')
    with pytest.raises(ValueError, match=r"a\.json: not valid JSON \(Expecting value"):
        read_json(path)
