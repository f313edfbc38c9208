import pytest

from leco_jax.storage.jsonl import read_rows, write_rows


def test_rows_come_back_with_their_places(tmp_path):
    path = tmp_path / "sub" / "rows.jsonl"
    rows = [{"a": "x\u2028y"}, {"a": "\u0085", "n": 1}]
    write_rows(path, rows)
    with path.open("ab") as file:
        file.write(b"\n \n")
    assert list(read_rows(path, fields=("a",))) == [
        (f"{path}, line {n}", row) for n, row in enumerate(rows, 1)
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [("{", "no JSON"), ("[1]", "a list"), ('{"a": 1}', r"needs the texts \['a'\]")],
)
def test_a_bad_line_is_named(tmp_path, line, reason):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": ""}\n' + line)
    with pytest.raises(ValueError, match=rf"rows\.jsonl, line 2: .*{reason}"):
        list(read_rows(path, fields=("a",)))


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "rows.jsonl"
    write_rows(path, [{"a": 1}])

    def failing():
        yield {"a": 2}
        raise KeyError("half way")

    with pytest.raises(KeyError):
        write_rows(path, failing())
    assert path.read_text() == '{"a": 1}\n'
    assert list(tmp_path.iterdir()) == [path]
