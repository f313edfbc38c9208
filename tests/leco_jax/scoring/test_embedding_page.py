"""The page for embedders does what it says."""

import re
from pathlib import Path

import jax
import numpy as np

PAGE = Path(__file__).parents[3] / "docs" / "embedding_the_kernels.md"


def test_every_snippet_runs():
    names: dict = {}
    snippets = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert len(snippets) == 9
    for snippet in snippets:
        exec(compile(snippet, str(PAGE), "exec"), names)

    # What the page leaves to the eye: the ways of scoring agree.
    whole = names["scoring"].token_stats(names["logits"], names["tokens"], valid_vocab=1000)
    np.testing.assert_allclose(names["same"].logprob, whole.logprob, atol=0.5)  # bfloat16 logits
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
        names["per_device"],
        names["my_step"](names["logits"], names["tokens"], names["step_ids"]),
    )
