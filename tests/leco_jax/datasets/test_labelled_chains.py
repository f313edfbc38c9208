import json

import pytest

from leco_jax.datasets.labelled_chains import LabelledChain, read_labelled_chains

STEPS = ["First,\n one.", "Then two."]
MISTAKE = {"input": "Q?", "steps": STEPS, "target": "3", "answer": "4", "mistake_index": 1}
PROCESS = {"problem": "Q?", "steps": STEPS, "final_answer_correct": True, "label": -1}


def completion(text, rating):
    return {"text": text, "rating": rating, "flagged": False}


def prm800k(finish, *steps):
    return {
        "question": {"problem": "Q?"},
        "label": {"finish_reason": finish, "steps": [dict(step) for step in steps]},
    }


RIGHT = {
    "completions": [completion("no", -1), completion("First, one.", 1)],
    "chosen_completion": 1,
}
OWN = {
    "completions": [completion("x", -1)],
    "chosen_completion": None,
    "human_completion": {"text": "Then two."},
}
NEUTRAL = {"completions": [completion("Then two.", 0)], "chosen_completion": 0}
WRONG = {"completions": [completion("Then two.", -1)], "chosen_completion": None}


def read(tmp_path, *rows):
    path = tmp_path / "chains.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return read_labelled_chains(path)


@pytest.mark.parametrize(
    ("row", "first_wrong"),
    [
        (MISTAKE, 1),
        (MISTAKE | {"mistake_index": None}, None),
        (PROCESS, None),
        (PROCESS | {"label": 0}, 0),
        (prm800k("found_error", RIGHT, WRONG), 1),
        (prm800k("solution", RIGHT, OWN), None),
        (prm800k("solution", RIGHT, NEUTRAL), None),
    ],
)
def test_three_shapes(tmp_path, row, first_wrong):
    assert read(tmp_path, row) == [
        LabelledChain(
            id="chains/0",
            question="Q?",
            steps=("First, one.", "Then two."),
            first_wrong=first_wrong,
        )
    ]


def test_what_labellers_gave_up_is_left_out(tmp_path):
    chains = read(tmp_path, prm800k("give_up", RIGHT, NEUTRAL), PROCESS)
    assert [chain.id for chain in chains] == ["chains/1"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"question": "Q?"}, "is a row of neither BIG-Bench-Mistake, ProcessBench nor PRM800K"),
        (MISTAKE | {"steps": []}, "at least one"),
        (MISTAKE | {"steps": ["a", " "]}, "none of them blank"),
        (MISTAKE | {"steps": "a"}, '"steps" must be a list'),
        (MISTAKE | {"mistake_index": 2}, "first wrong step 2 is none of 2"),
        (PROCESS | {"label": -2}, "first wrong step -2"),
        (PROCESS | {"label": True}, "first wrong step True"),
        (prm800k("solution", {"completions": []}), "is not a row of PRM800K"),
    ],
)
def test_a_bad_row_is_named(tmp_path, row, reason):
    with pytest.raises(ValueError, match=rf"line 2: .*{reason}"):
        read(tmp_path, PROCESS, row)
