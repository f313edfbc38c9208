import math

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
    [
        (b"{", r"not valid JSON \(Expecting property name .* at character 2\)"),
        (b"[1]", "must be a JSON object, not a list"),
        (b'{"a": 1}', "needs the text fields a; it has a$"),
        (b'{"%s": 1}' % (b"b" * 5000), "needs the text fields a; it has b{40}$"),
        (b'{"a": "", "n": NaN}', "NaN is not a JSON number"),
        (b'{"a": "", "n": 1%s}' % (b"0" * 5000), "not valid JSON"),
        (b'{"a": "\xff"}', "not valid JSON .*can't decode byte 0xff"),
        (b'{"a": "\\ud800"}', "half of a surrogate pair"),
        (b'{"a": "", "n": ' + b"[" * 150 + b"]" * 150 + b"}", "nested more than 100 levels deep"),
        (b'{"a": "", "n": ' + b"[" * 10**5 + b"]" * 10**5 + b"}", "JSON nested too deeply"),
        (b'{"a": ' * 10**5, "JSON nested too deeply"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, reason):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": ""}\n' + line)
    with pytest.raises(ValueError, match=rf"rows\.jsonl, line 2: .*{reason}") as caught:
        list(read_rows(path, fields=("a",)))
    assert len(str(caught.value)) < 400


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


def test_a_number_that_is_not_finite_is_never_written(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [{"id": "x", "n": 1.0}, {"id": "y", "steps": [{"score": 0.5}, {"score": math.inf}]}]
    with pytest.raises(ValueError, match=r"row 2 \(id 'y'\): steps\[1\]\.score is inf"):
        write_rows(path, rows)
    assert not list(tmp_path.iterdir())
