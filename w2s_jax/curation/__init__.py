"""Which answers to train on: agreement, confidence, pairs, splits; imports no JAX."""

from w2s_jax.curation.answer_rows import Answer as Answer
from w2s_jax.curation.answer_rows import answer_from_row as answer_from_row
from w2s_jax.curation.answer_rows import by_question as by_question
from w2s_jax.curation.answer_rows import check_same_model as check_same_model
from w2s_jax.curation.answer_rows import match_ids as match_ids
from w2s_jax.curation.answer_rows import read_answers as read_answers
from w2s_jax.curation.confidence import VOTE_METHODS as VOTE_METHODS
from w2s_jax.curation.confidence import Vote as Vote
from w2s_jax.curation.confidence import VoteQuality as VoteQuality
from w2s_jax.curation.confidence import compare_votes as compare_votes
from w2s_jax.curation.confidence import vote as vote
from w2s_jax.curation.confidence import vote_rows as vote_rows
from w2s_jax.curation.consistency import TRAINING_SETS as TRAINING_SETS
from w2s_jax.curation.consistency import ConsistencyFunnel as ConsistencyFunnel
from w2s_jax.curation.consistency import Selection as Selection
from w2s_jax.curation.consistency import select_consistent as select_consistent
from w2s_jax.curation.consistency import training_rows as training_rows
from w2s_jax.curation.gold import Share as Share
from w2s_jax.curation.pairs import PAIR_RULES as PAIR_RULES
from w2s_jax.curation.pairs import PairFunnel as PairFunnel
from w2s_jax.curation.pairs import PairRule as PairRule
from w2s_jax.curation.pairs import PairSet as PairSet
from w2s_jax.curation.pairs import build_pairs as build_pairs
from w2s_jax.curation.splits import DuplicateReport as DuplicateReport
from w2s_jax.curation.splits import QuestionSplit as QuestionSplit
from w2s_jax.curation.splits import split_questions as split_questions
