import json

import jax
import pytest

from leco_jax.datasets.registry import load_problems
from leco_jax.models.loading import load_model
from leco_jax.models.sharding import replica_meshes
from w2s_jax.pipeline.generate import GenerationConfig, PromptLayout, Sample, generate_answers
from w2s_jax.pipeline.graph import Interrupted
from w2s_jax.training.data import Template, examples
from w2s_jax.training.data.rows import Row

TEMPLATE = "Question: {question}\nAnswer:\n"
QUESTIONS = [
    {"id": name, "question": p.question, "gold": p.gold}
    for name, p in zip("abc", load_problems("arithmetic_chains", limit=3), strict=True)
]
del QUESTIONS[2]["gold"]
SAMPLES = [Sample(), Sample(number=1, temperature=1.0), Sample(number=2, temperature=1.0)]


@pytest.fixture(autouse=True)
def devices(monkeypatch):
    """Makes a process have so many devices; one, if a test asks for no more."""
    every = jax.local_devices()

    def have(count):
        monkeypatch.setattr(jax, "local_devices", lambda: every[:count])

    have(1)
    return have


@pytest.fixture(scope="module")
def model():
    return load_model("arithmetic-1m", dtype="float32", mesh=replica_meshes(1)[0])


def run(model, path, questions=QUESTIONS, samples=SAMPLES, slots=4, stop=lambda: False, **changes):
    options = {
        "model_name": "bundled",
        "layout": PromptLayout(TEMPLATE),
        "config": GenerationConfig(max_new_tokens=96, slots=slots, chunk=8),
        "kind": "number",
        "seed": 3,
    } | changes
    options |= {"samples": samples, "stop": stop}
    summary = generate_answers(lambda mesh: model, questions, path, **options)
    return [json.loads(line) for line in path.read_text().splitlines()], summary


@pytest.mark.heavy
def test_rows_are_in_order_and_say_who_wrote_them(model, tmp_path):
    rows, summary = run(model, tmp_path / "answers.jsonl")
    assert [(r["id"], r["sample"]) for r in rows] == [(i, s) for i in "abc" for s in (0, 1, 2)]
    assert {r["model"] for r in rows} == {"bundled"}
    assert rows[0]["gold"] == QUESTIONS[0]["gold"]
    assert rows[0]["finish"] == "eos"
    assert rows[0]["response"].startswith("Step 1: ")
    assert "gold" not in rows[-1]
    assert summary["answers"] == 9
    assert summary["tokens"] == sum(r["tokens"] for r in rows)
    for row in rows:
        assert row["weakest_step"] <= row["step_score"]
        assert row["mean_logprob"] <= 0 <= row["self_certainty"]


def test_an_answer_depends_on_its_own_question_alone(model, tmp_path):
    together, _ = run(model, tmp_path / "together.jsonl")
    alone, _ = run(model, tmp_path / "alone.jsonl", questions=QUESTIONS[1:2])
    assert [r["response"] for r in alone] == [r["response"] for r in together if r["id"] == "b"]


@pytest.mark.heavy
def test_replicas_share_the_questions_and_give_the_same_answers(model, tmp_path, devices):
    expected, counts = run(model, tmp_path / "one.jsonl")
    devices(2)
    found, also = run(model, tmp_path / "two.jsonl", slots=2)
    assert also == counts
    for row, other in zip(found, expected, strict=True):
        assert row["response"] == other["response"]
        assert row["mean_logprob"] == pytest.approx(other["mean_logprob"], abs=1e-4)


@pytest.mark.heavy
def test_other_seeds_and_samples_give_other_answers(model, tmp_path):
    hot = [Sample(number=i, temperature=1.5) for i in range(4)]
    first, _ = run(model, tmp_path / "first.jsonl", samples=hot)
    other, _ = run(model, tmp_path / "other.jsonl", samples=hot, seed=4)
    assert len({r["response"] for r in first if r["id"] == "b"}) > 1
    assert [r["response"] for r in first] != [r["response"] for r in other]


@pytest.mark.heavy
def test_an_interrupted_file_is_gone_on_with(model, tmp_path):
    whole, _ = run(model, tmp_path / "whole.jsonl")
    path = tmp_path / "answers.jsonl"
    with pytest.raises(Interrupted):
        run(model, path, stop=lambda: path.read_bytes().count(b"\n") >= 4)
    assert path.read_bytes().count(b"\n") == 4
    with path.open("ab") as file:
        file.write(b'{"id": "c", "samp')  # a kill in the midst of a line
    again, summary = run(model, path)
    figures = ("step_score", "weakest_step", "self_certainty", "mean_logprob")
    for row, expected in zip(again, whole, strict=True):
        for name in figures:
            assert row.pop(name) == pytest.approx(expected.pop(name), abs=2e-5)
        assert row == expected
    assert summary["answers"] == 9


def test_demonstrations_stand_before_the_question_and_are_tokenised_as_in_one_text(model):
    tokenizer = model.tokenizer
    shown = ({"question": "Q one?", "response": "Step 1: 1 + 1 = 2.\nStep 2: The answer is 2."},)
    layout = PromptLayout(TEMPLATE, shown)
    ids = layout.prefix(tokenizer) + layout.rest("Q two?", tokenizer)
    text = (
        "Question: Q one?\nAnswer:\nStep 1: 1 + 1 = 2.\nStep 2: The answer is 2.\n\n"
        "Question: Q two?\nAnswer:\n"
    )
    assert tokenizer.decode(ids, skip_special=True) == text
    assert list(ids) == tokenizer.encode(text, add_bos=tokenizer.wants_bos)


def test_a_prompt_is_filled_as_in_training():
    template = "Question: {question}\nAnswer in $\\boxed{{}}$:\n"
    row = Row("x", {"question": "What is {x}?", "solution": "{y}"})
    (example,) = examples([row], Template(prompt=template, completion="{solution}"))
    prompt = PromptLayout(template).block("What is {x}?")
    assert prompt == example.prompt == "Question: What is {x}?\nAnswer in $\\boxed{}$:\n"


def test_an_answer_ends_where_the_template_begins_again():
    assert PromptLayout(TEMPLATE).stop == ("\nQuestion:",)
    assert PromptLayout("Q{{1}}: {question}\nA:").stop == ("\nQ{1}:",)
    assert PromptLayout("\n{question}\n").stop == ()


def test_a_run_on_is_cut_at_the_template_s_own_head(model, tmp_path):
    # The bundled model writes "Step 1: ...", so a template that begins with "Step 2" ends there.
    layout = PromptLayout("Step 2: {question}\nAnswer:\n")
    rows, _ = run(model, tmp_path / "answers.jsonl", samples=[Sample()], layout=layout)
    assert {row["finish"] for row in rows} == {"stop"}
    assert all("Step 2:" not in row["response"] for row in rows)


@pytest.mark.parametrize("template", ["Question:", "{question} {answer}", "{0}", "{question"])
def test_a_template_without_the_question_alone_is_refused(template):
    with pytest.raises(ValueError, match=r"prompt|template"):
        PromptLayout(template)
