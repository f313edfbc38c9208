"""The bundled model on the test split of arithmetic_chains: greedy, sampled, any of ten.

    python -m benchmarks.arithmetic_model [--problems 500] [--model arithmetic-1m] [--json FILE]

pass@10 at T = 0.7 against greedy says whether a method that samples or corrects has anything to
gain: the two are equal for a model all of whose errors are systematic.
"""

import time

import numpy as np

from benchmarks._common import Row, parser, report
from leco_jax.datasets.arithmetic_chains import arithmetic_chains
from leco_jax.decoding.engine import Engine
from leco_jax.decoding.request import Chain, Request, Sampling
from leco_jax.models.loading import LoadedModel, load_model
from leco_jax.text.number_answers import extract_number
from leco_jax.text.prompts import few_shot_prompt

_SAMPLES = 10
_SAMPLING = Sampling(temperature=0.7)


def problems(count: int) -> list[dict]:
    """The first records of the test split."""
    source = arithmetic_chains("test").as_data_source("test")
    found = sorted(source.__getitems__(range(len(source))), key=lambda r: int(r["row"]))
    return found[:count]


def solve(model: LoadedModel, records: list[dict]) -> np.ndarray:
    """Whether each chain's answer is right: bool [problems, 1 + samples], the first one greedy."""
    tokenizer = model.tokenizer
    prompts = [
        tuple(tokenizer.encode(few_shot_prompt(r["question"].decode(), ()), add_bos=True))
        for r in records
    ]
    engine = Engine(
        model.model,
        slots=64,
        max_length=max(map(len, prompts)) + 192,
        stop_ids=tokenizer.eos_ids,
    )
    places: dict[Chain, tuple[int, int]] = {}
    for p, prompt in enumerate(prompts):
        for s in range(1 + _SAMPLES):
            options = {"sampling": _SAMPLING, "problem": p, "sample": s} if s else {}
            request = Request(prompt=prompt, max_new_tokens=192, **options)
            places[engine.submit(request)] = (p, s)
    right = np.zeros((len(records), 1 + _SAMPLES), bool)
    while engine.busy:
        for chain in engine.step():
            p, s = places[chain]
            text = tokenizer.decode(chain.tokens, skip_special=True, continuation=True)
            right[p, s] = extract_number(text) == int(records[p]["answer"])
    return right


def main() -> None:
    """Runs the benchmark."""
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--problems", type=int, default=500, help="from the front of the split")
    options.add_argument("--model", default="arithmetic-1m", help="a name or a directory")
    args = options.parse_args()
    model = load_model(args.model, dtype="float32")
    records = problems(args.problems)
    start = time.perf_counter()
    right = solve(model, records)
    seconds = time.perf_counter() - start

    greedy, any_of_ten = right[:, 0], right[:, 1:].any(axis=1)
    gain = 100 * (any_of_ten.mean() - greedy.mean())
    error = 100 * np.sqrt(greedy.mean() * (1 - greedy.mean()) / len(greedy))
    note = f"standard error {error:.1f} points, {len(records)} problems, {seconds:.0f} s in all"
    percent = 100 * greedy.mean()
    rows = [
        Row(name="greedy accuracy", ours=percent, unit="%", bound="ours >= 70", note=note),
        Row(name="greedy accuracy, not too easy", ours=percent, unit="%", bound="ours <= 90"),
        Row(name="mean of samples, T = 0.7", ours=100 * right[:, 1:].mean(), unit="%"),
        Row(name="any of ten samples, T = 0.7", ours=100 * any_of_ten.mean(), unit="%"),
        Row(name="any of ten minus greedy", ours=gain, unit="points", bound="ours >= 8"),
    ]
    for key in ("level", "distractor"):
        groups: dict[str, list[bool]] = {}
        for record, answered in zip(records, greedy, strict=True):
            value = record[key]
            name = value.decode() if isinstance(value, bytes) else str(value)
            groups.setdefault(name, []).append(bool(answered))
        rows += [
            Row(name=f"greedy accuracy, {key} {name}", ours=100 * np.mean(found), unit="%")
            for name, found in sorted(groups.items())
        ]
    report(rows, args.json)


if __name__ == "__main__":
    main()
