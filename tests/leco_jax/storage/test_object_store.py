"""Storage below gs://, through the real client against an emulator."""

import json
import signal
import subprocess
import sys

import pytest

from leco_jax.storage import files
from leco_jax.storage.hashes import content_hash
from leco_jax.storage.jsonl import read_rows, write_rows
from leco_jax.storage.paths import as_path, check_output, object_store
from leco_jax.storage.results_file import ResultsFile, part_path
from leco_jax.storage.workdir import BusyError, claim, lock


def names(directory):
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def results(path):
    return ResultsFile(path, key=lambda row: row["id"])


def test_paths_have_the_methods_of_local_ones(bucket):
    file = bucket / "a" / "b.json"
    assert not file.exists()
    assert not file.parent.is_dir()
    files.write_json(file, {"x": 1})
    assert files.read_json(str(file)) == {"x": 1}
    assert file.is_file()
    assert file.parent.is_dir()
    assert not file.is_dir()
    assert file.absolute() == file.resolve() == file.expanduser() == file
    assert file.read_text() == file.read_bytes().decode()
    assert file.stat().st_size == len(file.read_bytes())
    assert [path.name for path in bucket.glob("a/*.json")] == ["b.json"]
    assert list(file.parent.iterdir()) == [file]
    assert as_path(file) == file
    assert type(as_path(file).parent) is type(file)
    with pytest.raises(FileNotFoundError, match=r"gs://.*/none: there is no such object"):
        (bucket / "none").read_bytes()


def test_what_another_client_wrote_is_seen_at_once(bucket):
    assert not list(bucket.glob("*"))
    other = object_store(bucket).fsspec.filesystem("gcs", skip_instance_cache=True)
    other.pipe_file(str(bucket / "x"), b"x")
    assert names(bucket) == ["x"]
    assert (bucket / "x").exists()


def test_a_write_that_fails_leaves_the_old_object(bucket):
    files.write_text(bucket / "x", "old")

    def half():
        with files.replacing(bucket / "x") as draft:
            draft.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()
    assert (bucket / "x").read_text() == "old"
    write_rows(bucket / "rows.jsonl", [{"id": 1}])
    assert [row for _, row in read_rows(bucket / "rows.jsonl")] == [{"id": 1}]
    before = content_hash(bucket / "x")
    files.write_text(bucket / "x", "new")
    assert content_hash(bucket / "x") != before


def test_outputs_are_refused_before_work(bucket):
    files.write_text(bucket / "in.jsonl", "")
    assert check_output(bucket / "out" / "x.jsonl") == bucket / "out" / "x.jsonl"
    with pytest.raises(ValueError, match="is the input"):
        check_output(str(bucket / "in.jsonl"), inputs=[bucket / "in.jsonl"])
    with pytest.raises(ValueError, match="is not a directory"):
        check_output(bucket / "in.jsonl", directory=True)
    with pytest.raises(ValueError, match=r"output gs://no-such-bucket/x cannot be written"):
        check_output("gs://no-such-bucket/x")
    assert names(bucket) == ["in.jsonl"]


def test_results_are_objects_behind_the_file_until_it_is_closed(bucket):
    path = bucket / "run" / "results.jsonl"
    first = results(path)
    for number in range(3):
        first.append({"id": number})  # the first at once, the others soon
    assert len(files.added(path)) == 1
    killed = results(path)
    assert list(killed.rows) == [0]
    killed.append({"id": 9})
    again = results(path)
    assert list(again.rows) == [0, 9]
    again.close(order=[9])
    assert names(bucket / "run") == ["results.jsonl"]
    assert [json.loads(line)["id"] for line in path.read_text().splitlines()] == [9, 0]
    first._lines.close()


def test_what_waits_is_written_without_another_row(bucket, monkeypatch):
    monkeypatch.setattr(files.RemoteLines, "_SECONDS", 0.05)
    file = results(bucket / "results.jsonl")
    for number in range(2):
        file.append({"id": number})
    file._lines._timer.join()
    assert list(results(bucket / "results.jsonl").rows) == [0, 1]


@pytest.mark.parametrize("killed_before", ["the parts went", "the objects behind it went"])
def test_rows_taken_over_twice_are_there_once(bucket, monkeypatch, killed_before):
    path = bucket / "results.jsonl"
    whole, part = results(path), results(part_path(path, 1))
    part.append({"id": "b"})
    part._lines.close()
    whole.append({"id": "a"})
    removed = type(path).unlink
    with monkeypatch.context() as patch:
        patch.setattr(type(path), "unlink", lambda *_, **__: exec("raise KeyboardInterrupt"))
        with pytest.raises(KeyboardInterrupt):
            whole.join() if killed_before == "the parts went" else whole.close(order=["a"])
    assert type(path).unlink is removed
    again = results(path)
    again.join()
    again.close(order=["a", "b"])
    assert [row["id"] for _, row in read_rows(path)] == ["a", "b"]
    assert names(bucket) == ["results.jsonl"]


HOLD = """
import sys
from leco_jax.storage.paths import as_path
from leco_jax.storage.workdir import lock
with lock(as_path(sys.argv[1])):
    print(flush=True)
    sys.stdin.read()
"""


def test_a_lock_names_its_holder_and_outlives_no_process_of_this_host(bucket):
    workdir = bucket / "run"
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(workdir)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    process.stdout.readline()
    told = rf"{workdir} is in use by \S+, process {process.pid}, since .* UTC: wait .*"
    told += rf"remove its lock: gcloud storage rm {workdir}/\.lock$"
    with pytest.raises(BusyError, match=told), lock(workdir):
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with lock(workdir):
        claim(workdir, {"seed": 0})
        with pytest.raises(BusyError), lock(workdir):
            pass
    assert names(workdir) == ["config.json"]


def test_the_lock_of_another_host_stays(bucket):
    held = "elsewhere, process 7, since 2026-01-01 00:00:00 UTC\nelsewhere 7 boot-1 abcd"
    files.write_text(bucket / ".lock", held)
    with pytest.raises(BusyError, match="in use by elsewhere, process 7"), lock(bucket):
        pass
    assert (bucket / ".lock").read_text() == held


def test_directories_move_and_scratch_ones_go(bucket):
    for name, text in (("old/last", "0"), ("old/x", "0"), ("new/last", "1"), ("new/a/b", "1")):
        files.write_text(bucket / name, text)
    files.replace_directory(bucket / "old", bucket / "new", last="last")
    assert {n for n in names(bucket) if (bucket / n).is_file()} == {"old/last", "old/a/b"}
    assert (bucket / "old" / "last").read_text() == "1"
    files.remove_directory(bucket / "old")
    files.write_text(bucket / f".x-{files.socket.gethostname()}-1-gone.tmp" / "made", "")
    with files.scratch_directory(bucket / "x") as draft:
        assert draft.is_dir()
        assert names(bucket) == [draft.name, f"{draft.name}/made"]
    assert names(bucket) == []


def test_programs_that_know_local_files_alone(bucket):
    files.write_text(bucket / "x.npz", "some")
    with files.local_copy(bucket / "x.npz") as copy:
        assert copy.read_text() == "some"
        assert copy.suffix == ".npz"
    with files.local_directory(bucket / "profile") as local:
        (local / "a").mkdir()
        (local / "a" / "trace").write_text("t")
    assert (bucket / "profile" / "a" / "trace").read_text() == "t"
