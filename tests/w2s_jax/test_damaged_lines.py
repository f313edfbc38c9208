"""Damaged lines through everything that reads JSONL: a message or a row, never a crash."""

import json
import random
import time

import pytest

from leco_jax.datasets.problem import load_problem_file
from leco_jax.evaluation.chain_scoring import read_chains
from leco_jax.examples import bundled_path
from leco_jax.storage.jsonl import parse_row
from leco_jax.storage.results_file import ResultsFile
from leco_jax.text.tokenizer import load_tokenizer
from w2s_jax.curation import read_answers
from w2s_jax.training.data import Template, examples, jsonl_rows


def mutated(line, draw):
    """The line with a few of its bytes changed, doubled, dropped or put in from elsewhere."""
    data = bytearray(line)
    for _ in range(draw.choice((1, 1, 2, 5))):
        at = draw.randrange(len(data) + 1)
        to = min(len(data), at + draw.choice((1, 2, 10, 50)))
        match draw.randrange(6):
            case 0:
                data[at:to] = bytes(draw.randrange(256) for _ in range(to - at))
            case 1:
                del data[at:to]
            case 2:
                data[at:at] = data[at:to] * draw.choice((1, 3, 100))
            case 3:
                data[at:at] = draw.choice(_TOKENS) * draw.choice((1, 1, 1, 2, 3000))
            case 4:
                del data[at:]
            case 5:
                data[at:to] = draw.choice(_TOKENS)
    return bytes(data)


_TOKENS = (
    b"[", b"]", b"{", b"}", b'{"a":', b'"', b"\\", b"\\u", b"\\ud800", b"NaN", b"-Infinity",
    b"1e999", b"9" * 5000, b"null", b"true", b"\0", b"\xff", b"\xef\xbb\xbf", b"\r", b"\n", b",",
    b"\xe2\x80\xa8", b":", b"-", b'"id"', b'"gold": "1/0"', b'"sample": -1', b'"kind": "x"',
    b'"confidence": 1e400',
)  # fmt: skip
_LINES = [
    json.dumps(row).encode()
    for row in (
        {"id": "q1", "question": "What is 2+3?", "gold": "5", "solution": "2+3=5. #### 5"},
        {"id": "q2", "question": "Which?", "gold": "B", "kind": "letter"},
        {"id": "q3", "question": "2+3?", "response": "It is 5", "model": "m", "sample": 3,
         "confidence": 0.25, "gold": "5", "answer": "5"},
        {"id": "q4", "prompt": "2+3=", "response": "5", "messages": None},
        {"messages": [{"role": "user", "content": "2+3?"}], "response": "5 \u00e9\u2028"},
        {"prompt": "2+3=", "completion": " 5", "chosen": "5", "rejected": "6"},
    )
]  # fmt: skip


def refusal(read):
    """The message with which a reader refuses a file; None if it takes it."""
    try:
        read()
    except ValueError as error:
        return str(error)
    return None


@pytest.mark.slow
def test_thirty_thousand_damaged_lines_give_messages_and_no_crash(tmp_path):
    draw = random.Random(0)
    path = tmp_path / "rows.jsonl"
    tokenizer = load_tokenizer(bundled_path("arithmetic-1m"))

    def chains():
        for line in read_chains([(1, path.read_bytes())], tokenizer, max_length=99)[1]:
            raise ValueError(line.reason)

    readers = {
        "row": lambda: parse_row(path.read_bytes(), fields=("question",)),
        "problems": lambda: load_problem_file(path),
        "answers": lambda: read_answers(path),
        "training": lambda: examples(list(jsonl_rows(path)), Template()),
        "results": lambda: ResultsFile(path, key=lambda row: row["id"]).close(),
        "chains": chains,
    }
    refused = dict.fromkeys(readers, 0)
    for _ in range(6_000):
        line = mutated(draw.choice(_LINES), draw)
        for name, read in readers.items():
            path.write_bytes(line + b"\n" * (name == "results"))
            started = time.perf_counter()
            message = refusal(read)
            assert time.perf_counter() - started < 1, (name, line[:100])
            if message is not None:
                refused[name] += 1
                assert len(message) > 10, (name, line)
                # A bad gold answer has a line of its own between the count and the way out.
                assert message.count("\n") < 2 + ("gold answer" in message), (name, line, message)
    assert 1000 < min(refused.values()) <= max(refused.values()) < 6_000, refused
