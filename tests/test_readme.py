"""The README's Python, run from top to bottom."""

import re
from pathlib import Path

import numpy as np
import pytest

BLOCKS = re.findall(
    r"```python\n(.*?)```", (Path(__file__).parent.parent / "README.md").read_text(), re.DOTALL
)


@pytest.mark.heavy
def test_the_kernels_block_scores_the_same_every_way():
    (block,) = [block for block in BLOCKS if "from leco_jax import scoring" in block]
    names: dict = {}
    exec(block, names)
    for field in ("average", "divergence", "transition", "score"):
        by_logits = np.asarray(getattr(names["same"], field))
        np.testing.assert_allclose(getattr(names["scores"], field), by_logits, atol=1e-4)
    assert names["logprob"].shape == (8, 12)


@pytest.mark.heavy
def test_the_ten_lines_answer_a_question_with_leco(capsys):
    (block,) = [block for block in BLOCKS if "import answer" in block]
    names: dict = {}
    exec(block, names)
    result = names["result"]
    assert result.method == "leco"
    assert len(result.rounds) > 1
    assert result.rounds[0].cut is not None
    assert f"answer: {result.answer}" in capsys.readouterr().out
