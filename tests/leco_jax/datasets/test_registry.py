import subprocess
import sys

import pytest

from leco_jax.datasets.problem import Problem
from leco_jax.datasets.registry import DATASETS, Dataset, load_problems, register_dataset


def test_unknown_names_and_bad_limits_are_named():
    with pytest.raises(ValueError, match=r"no data set 'gsm9k'; known are \[.*'gsm8k'"):
        load_problems("gsm9k")
    with pytest.raises(ValueError, match=r"no split 'dev'; it has \['train', 'test'\]"):
        load_problems("gsm8k", split="dev")
    with pytest.raises(ValueError, match="limit=-1"):
        load_problems("word_problems", limit=-1)
    with pytest.raises(ValueError, match="already"):
        register_dataset(DATASETS["gsm8k"])


def test_a_further_data_set_takes_one_line(monkeypatch):
    monkeypatch.delitem(DATASETS, "colours", raising=False)
    problem = Problem(id="colours/test/0", question="Sky?", answer="blue", gold="blue", kind="text")
    register_dataset(Dataset(name="colours", splits=("test",), load=lambda split, _: [problem] * 3))
    assert load_problems("colours", limit=2) == [problem] * 2
    del DATASETS["colours"]


def test_import_loads_neither_jax_nor_tensorflow_nor_tfds():
    script = (
        "import sys, leco_jax.text, leco_jax.datasets.registry\n"
        "heavy = {'jax', 'tensorflow', 'tensorflow_datasets', 'torch', 'flax'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or None)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
