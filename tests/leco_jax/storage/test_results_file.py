import json
import math

import pytest

from leco_jax.storage.results_file import ResultsFile, part_path


def _open(path):
    return ResultsFile(path, key=lambda row: row["id"])


def _ids(path):
    return [json.loads(line)["id"] for line in path.read_text().splitlines()]


def test_a_line_cut_short_is_dropped_and_written_again(tmp_path):
    path = tmp_path / "sub" / "results.jsonl"
    first = _open(path)
    first.append({"id": "a", "text": "ä"})
    first.close()
    with path.open("ab") as file:
        file.write(b'{"id": "b", "te')
    again = _open(path)
    assert "a" in again
    assert "b" not in again
    again.append({"id": "b"})
    again.close()
    assert _ids(path) == ["a", "b"]


def test_closing_puts_the_lines_in_order_and_loses_none(tmp_path):
    path = tmp_path / "results.jsonl"
    file = _open(path)
    for name in ("c", "x", "a"):
        file.append({"id": name})
    file.close(order=["a", "b", "c"])
    assert _ids(path) == ["a", "c", "x"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_result_twice_and_a_foreign_line_are_errors(tmp_path):
    path = tmp_path / "results.jsonl"
    file = _open(path)
    file.append({"id": "a"})
    with pytest.raises(ValueError, match="already has a result for 'a'"):
        file.append({"id": "a"})
    file.close()
    for text in ('{"id": "a"}\nnot ours\n', '{"id": "a"}\n{"id": "a"}\n', '{"id": "a"}\n[1]\n'):
        path.write_text(text)
        with pytest.raises(ValueError, match="line 2, is not a result of this program"):
            _open(path)
        assert path.read_text() == text  # nothing of it is lost


def test_a_result_that_is_not_finite_is_refused_and_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "results.jsonl"
    file = _open(path)
    file.append({"id": "a", "score": 1.0})
    with pytest.raises(ValueError, match=r"result 'b': rounds\[0\]\.score is -inf"):
        file.append({"id": "b", "rounds": [{"score": -math.inf}]})
    assert "b" not in file
    file.append({"id": "b", "rounds": []})
    file.close()
    assert _ids(path) == ["a", "b"]


def test_parts_are_joined_once_whatever_a_kill_left(tmp_path):
    path = tmp_path / "results.jsonl"
    for process, names in enumerate(("ab", "c")):
        part = _open(part_path(path, process))
        for name in names:
            part.append({"id": name})
        part.close()
    with part_path(path, 1).open("ab") as file:
        file.write(b'{"id": "d", "te')
    whole = _open(path)
    whole.append({"id": "a"})  # as if a kill had come before the part was removed
    assert whole.join() == 2
    whole.close(order=["c", "b", "a"])
    assert _ids(path) == ["c", "b", "a"]
    assert list(tmp_path.iterdir()) == [path]


def test_two_different_results_of_one_key_are_refused_and_both_stay(tmp_path):
    path = tmp_path / "results.jsonl"
    part = _open(part_path(path, 3))
    part.append({"id": "a", "text": "x"})
    part.close()
    whole = _open(path)
    whole.append({"id": "a", "text": "y"})
    with pytest.raises(ValueError, match=r"results\.part3\.jsonl and .* different results for 'a'"):
        whole.join()
    whole.close()
    assert len(list(tmp_path.iterdir())) == 2
