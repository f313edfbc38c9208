import os
import time

from leco_jax.storage import hashes
from leco_jax.storage.hashes import content_hash


def test_a_hash_follows_the_content_alone(tmp_path):
    for size in (10, 3 << 20):
        a, b = tmp_path / "a", tmp_path / "b"
        a.write_bytes(b"x" * size)
        b.write_bytes(b"x" * size)
        first = content_hash(a)
        assert first == content_hash(b)
        os.utime(a)
        assert content_hash(a) == first
        a.write_bytes(b"y" + b"x" * (size - 1))  # of the same size
        assert content_hash(a) != first


def test_a_large_file_is_read_once(tmp_path, monkeypatch):
    monkeypatch.setenv("LECO_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "weights"
    path.write_bytes(os.urandom(2 << 20))
    time.sleep(0.2)
    first = content_hash(path)
    with monkeypatch.context() as patch:
        patch.setattr(hashes.hashlib, "file_digest", None)  # it is not read again
        assert content_hash(path) == first
    for damaged in (tmp_path / "cache" / "hashes").iterdir():
        damaged.write_text("{")
    assert content_hash(path) == first
