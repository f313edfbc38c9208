import itertools
import subprocess
import sys
from fractions import Fraction

import pytest

from leco_jax.datasets import arithmetic_chains as ac
from leco_jax.datasets import chain_generator as chains
from leco_jax.datasets.registry import load_problems

SMALL = ac.ChainsConfig(train=40, validation=20, test=30)


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LECO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def test_records_hold_the_problems_of_the_generator():
    source = ac.arithmetic_chains("validation", SMALL).as_data_source("validation")
    assert len(source) == 20
    expected = list(itertools.islice(chains.problems("validation"), 20))
    found = sorted(source.__getitems__(range(20)), key=lambda r: int(r["row"]))
    for record, problem in zip(found, expected, strict=True):
        assert record["question"].decode() == problem.question
        assert record["chain"].decode() == problem.chain()
        assert int(record["answer"]) == problem.answer
        assert int(record["level"]) == problem.level
        assert record["distractor"].decode() == problem.distractor


def test_files_are_written_once_for_each_configuration():
    again = ac.arithmetic_chains("validation", SMALL)
    assert again.data_dir == ac.arithmetic_chains("validation", SMALL).data_dir
    other = ac.ChainsConfig(seed=1, train=40, validation=20, test=30, levels=[2])
    builder = ac.arithmetic_chains("validation", other)
    assert builder.data_dir != again.data_dir
    assert {int(r["level"]) for r in builder.as_data_source("validation")} == {2}


def test_preparing_prints_nothing(capfd):
    ac.arithmetic_chains("test", ac.ChainsConfig(seed=7, test=3))
    assert capfd.readouterr() == ("", "")


@pytest.mark.heavy
def test_the_registry_gives_the_test_split_in_order():
    found = load_problems("arithmetic_chains", limit=3)
    expected = list(itertools.islice(chains.problems("test"), 3))
    assert [p.question for p in found] == [p.question for p in expected]
    assert [p.solution for p in found] == [p.chain() for p in expected]
    assert found[2].answer == Fraction(expected[2].answer)
    assert found[2].id == "arithmetic_chains/test/2"
    with pytest.raises(ValueError, match="takes no data_dir"):
        load_problems("arithmetic_chains", data_dir="somewhere")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"train": 0}, "train=0 must be at least 1"),
        ({"levels": (1, 9)}, r"levels \[9\]: known are \(1, 2"),
        ({"distractors": ()}, r"distractors \(\): known are \('none'"),
    ],
)
def test_wrong_options_are_named(options, match):
    with pytest.raises(ValueError, match=match):
        ac.ChainsConfig(**options)


def test_an_unknown_split_is_named():
    with pytest.raises(ValueError, match="no split 'dev'"):
        ac.arithmetic_chains("dev", SMALL)


def test_no_tensorflow_is_loaded():
    script = (
        "import sys\n"
        "from leco_jax.datasets import arithmetic_chains as ac\n"
        "config = ac.ChainsConfig(train=1, validation=1, test=2)\n"
        "assert len(ac.arithmetic_chains('test', config).as_data_source('test')) == 2\n"
        "sys.exit(', '.join({'tensorflow', 'jax', 'torch'} & set(sys.modules)) or None)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
