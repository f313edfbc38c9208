"""Training batches: rows of a file or data set -> texts -> tokens -> arrays by step number."""

from w2s_jax.training.data.encode import Encoded as Encoded
from w2s_jax.training.data.encode import EncodedPairs as EncodedPairs
from w2s_jax.training.data.encode import encode_examples as encode_examples
from w2s_jax.training.data.encode import encode_pairs as encode_pairs
from w2s_jax.training.data.rows import DataError as DataError
from w2s_jax.training.data.rows import Example as Example
from w2s_jax.training.data.rows import Pair as Pair
from w2s_jax.training.data.rows import Row as Row
from w2s_jax.training.data.rows import Template as Template
from w2s_jax.training.data.rows import examples as examples
from w2s_jax.training.data.rows import fill_template as fill_template
from w2s_jax.training.data.rows import jsonl_rows as jsonl_rows
from w2s_jax.training.data.rows import pairs as pairs
from w2s_jax.training.data.rows import problem_rows as problem_rows
from w2s_jax.training.data.rows import template_parts as template_parts
from w2s_jax.training.data.sources import ExampleSource as ExampleSource
from w2s_jax.training.data.sources import PairSource as PairSource
from w2s_jax.training.data.sources import process_slice as process_slice
