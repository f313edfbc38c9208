"""Which answers to train on: agreement, confidence, pairs, splits; imports no JAX."""
# ruff: noqa: F401, I001

from w2s_jax.curation.answer_rows import (
    Answer, Share, answer_from_row, by_question, check_same_model, match_ids, read_answers,
)  # fmt: skip
from w2s_jax.curation.confidence import (
    VOTE_METHODS, Vote, VoteQuality, compare_votes, vote, vote_rows,
)  # fmt: skip
from w2s_jax.curation.consistency import (
    TRAINING_SETS, ConsistencyFunnel, Selection, select_consistent, training_rows,
)  # fmt: skip
from w2s_jax.curation.pairs import (
    PAIR_RULES, PairFunnel, PairRule, PairSet, build_pairs, pair_rule,
)  # fmt: skip
from w2s_jax.curation.splits import DuplicateReport, QuestionSplit, split_questions
