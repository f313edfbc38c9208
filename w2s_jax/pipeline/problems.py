"""A pipeline's problems: loaded once, split for each seed, and checked before anything runs."""

import dataclasses
import re

from leco_jax.configuration import at_least
from leco_jax.datasets.problem import Problem, problems_hash
from leco_jax.datasets.registry import ReadingOptions
from w2s_jax.curation import QuestionSplit, split_questions
from w2s_jax.pipeline.generate import PromptLayout


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProblemsConfig(ReadingOptions):
    """The problems to learn from and to measure on."""

    name: str = "gsm8k"  # a data set; its answers decide the kind of answer
    split: str = "train"  # where both training halves come from
    test_split: str = "test"  # what all models are measured on
    gold_questions: int = 3_500  # D_gold,1: the weak model learns from their gold solutions
    questions: int = 3_500  # D_gold,2: only their questions are used, except by the ceiling
    test_questions: int = 0  # how many; 0: all
    drop_duplicates: bool = True  # of questions, within and between the parts
    prompt: str = "Question: {question}\nAnswer:\n"  # of one question, with {question}
    remove: str | None = None  # a regular expression taken out of gold solutions; None: nothing

    def __post_init__(self):
        at_least(self, gold_questions=1, questions=1, test_questions=0)
        PromptLayout(self.prompt)
        try:
            re.compile(self.remove or "")
        except re.error as error:
            raise ValueError(f"remove={self.remove!r} is not a valid pattern: {error}") from None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pool:
    """All problems that a config names."""

    training: list[Problem]  # to draw both parts from
    test: list[Problem]  # to measure on; all have gold
    kind: str  # of all answers
    fingerprint: str  # a hash of everything above


def load_pool(data: ProblemsConfig) -> Pool:
    """Loads the problems.

    Raises:
      FileNotFoundError: no such files.
      ValueError: no such data set, malformed rows, answers of several kinds, or a test problem
        without gold.
    """
    training = data.load(data.name, split=data.split)
    test = data.load(data.name, split=data.test_split, limit=data.test_questions or None)
    kinds = sorted({problem.kind for problem in training + test})
    if len(kinds) > 1:
        raise ValueError(
            f"data.name={data.name!r} has answers of the kinds {', '.join(kinds)}: a pipeline "
            "compares answers of one kind, so give each kind a file of its own"
        )
    without = [problem.id for problem in test if problem.answer is None]
    if without:
        raise ValueError(
            f"data.test_split={data.test_split!r}: {len(without)} of {len(test)} test problems "
            f"have no gold answer ({without[0]} is the first), and every model is held to it: give "
            "them one, or take them out"
        )
    fingerprint = f"{problems_hash(training)} {problems_hash(test)}"
    return Pool(training=training, test=test, kind=kinds[0], fingerprint=fingerprint)


def split_pool(pool: Pool, data: ProblemsConfig, *, seed: int) -> QuestionSplit:
    """Draws a seed's halves; D_gold,1 has solutions to learn from, D_gold,2 need not.

    Raises:
      ValueError: fewer problems, or fewer with a solution, than the config asks for.
    """
    return split_questions(
        pool.training,
        sizes=(data.gold_questions, data.questions),
        seed=seed,
        test=pool.test,
        drop_duplicates=data.drop_duplicates,
        first_solved=True,
    )


def problem_row(problem: Problem, *, remove: str | None) -> dict:
    """A row "id", "question" and, where known, "gold" and "solution" (`remove` taken out of it)."""
    row = {"id": problem.id, "question": problem.question}
    if problem.answer is not None:
        row["gold"] = problem.gold
    if problem.solution is not None:
        row["solution"] = re.sub(remove, "", problem.solution) if remove else problem.solution
    return row
