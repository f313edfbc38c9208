"""Trains a sentencepiece vocabulary on a registered data set's questions and solutions.

    python -m launchers.vocabulary --dataset=arithmetic_chains --limit=20000 --size=640 --output=DIR

DIR gets tokenizer.model and tokenizer_config.json; `launchers/sft.py` trains a model from scratch
with it.

Exit codes: 0 done; 1 something is wrong (the message says what).
"""

import itertools

from absl import flags

from launchers import runtime
from leco_jax.datasets.registry import load_problems
from leco_jax.storage.paths import check_output
from leco_jax.text.prompts import few_shot_prompt
from w2s_jax.training.data.vocabulary import train_vocabulary, write_tokenizer

_DATASET = flags.DEFINE_string("dataset", "arithmetic_chains", "name of a registered data set")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "where its files lie, if it has any")
_SPLIT = flags.DEFINE_string("split", "train", "split whose texts are used")
_LIMIT = flags.DEFINE_integer("limit", 20_000, "how many of its problems are used", lower_bound=1)
_SIZE = flags.DEFINE_integer("size", 640, "number of tokens", lower_bound=270)
_OUTPUT = flags.DEFINE_string("output", None, "directory to write", required=True)


def main() -> int:
    """Trains one vocabulary."""
    output = check_output(_OUTPUT.value, directory=True)
    problems = load_problems(
        _DATASET.value, split=_SPLIT.value, data_dir=_DATA_DIR.value, limit=_LIMIT.value
    )
    texts = itertools.chain.from_iterable(
        (few_shot_prompt(p.question, ()), p.solution or "") for p in problems
    )
    write_tokenizer(train_vocabulary(texts, size=_SIZE.value), output)
    print(
        f"{_SIZE.value} tokens from {len(problems)} problems of {_DATASET.value}: {_OUTPUT.value}"
    )
    return runtime.DONE


if __name__ == "__main__":
    runtime.run(main)
