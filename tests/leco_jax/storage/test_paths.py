from leco_jax.storage.paths import cache_dir


def test_cache_directory(monkeypatch, tmp_path):
    monkeypatch.setenv("LECO_CACHE", str(tmp_path / "a"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    assert cache_dir() == tmp_path / "a"
    monkeypatch.delenv("LECO_CACHE")
    assert cache_dir() == tmp_path / "b" / "leco-jax"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_dir() == tmp_path / ".cache" / "leco-jax"
