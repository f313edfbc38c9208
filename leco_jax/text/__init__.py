"""Tokenizers, chat templates, steps, answers and prompts; imports no JAX."""

import leco_jax.experiments_extra  # noqa: F401
from leco_jax.text.answers import AnswerKind as AnswerKind
from leco_jax.text.answers import answers_equal as answers_equal
from leco_jax.text.answers import extract_answer as extract_answer
from leco_jax.text.answers import format_answer as format_answer
from leco_jax.text.chat import encode_chat as encode_chat
from leco_jax.text.chat import render_chat as render_chat
from leco_jax.text.steps import Steps as Steps
from leco_jax.text.steps import split_steps as split_steps
from leco_jax.text.tokenizer import Tokenizer as Tokenizer
from leco_jax.text.tokenizer import load_tokenizer as load_tokenizer
from leco_jax.text.tokenizer import tokenizer_from_gguf as tokenizer_from_gguf
