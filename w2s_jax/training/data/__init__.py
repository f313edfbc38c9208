"""Training batches: rows of a file or data set -> texts -> tokens -> arrays by step number."""
# ruff: noqa: F401, I001

from w2s_jax.training.data.encode import (
    Encoded, EncodedPairs, encode_examples, encode_pairs,
)  # fmt: skip
from w2s_jax.training.data.rows import (
    DataError, Example, Pair, Row, Template, examples, fill_template, jsonl_rows, pairs,
    problem_rows, template_parts,
)  # fmt: skip
from w2s_jax.training.data.sources import ExampleSource, PairSource, process_rows
