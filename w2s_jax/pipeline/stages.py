"""The stages of one seed's pipeline, from two models and a data set to a table.

Stage I:   splits, weak, weak_answers, demonstrations; then in each round r strong_answers_r (and
           weak_answers_r from the second on), select_r, weak_ft_r, icl_ft_r, hybrid_ft_r.
Stage II:  samples, pairs, m_pro_OBJECTIVE.
Beside it: full_weak, ceiling, eval_MODEL, votes, table.
Source: Yang et al. 2024 (arXiv 2407.13647).
"""

from collections.abc import Sequence
from typing import Any

from leco_jax.datasets.registry import load_problems
from leco_jax.models.config import ModelConfig
from leco_jax.models.loading import load_config
from leco_jax.models.sharding import make_mesh
from leco_jax.text.tokenizer import Tokenizer
from w2s_jax.pipeline import curate
from w2s_jax.pipeline.costs import TextSizes, generation_cost, training_cost
from w2s_jax.pipeline.curate import rows_of
from w2s_jax.pipeline.generate import (
    GenerationConfig,
    PromptLayout,
    Sample,
    generate_answers,
)
from w2s_jax.pipeline.graph import Cost, Stage, Work
from w2s_jax.pipeline.policies import Policy, load_policy
from w2s_jax.pipeline.tabulate import table_stage
from w2s_jax.pipeline.training import training_stage

_SIZED = 64  # questions whose lengths the costs are reckoned from


class PipelineStages:
    """Puts the stages of one seed together."""

    def __init__(self, config: Any, seed: int):
        """Reads the models' shapes and some of the data, for the costs.

        Args:
          config: see `w2s_jax.pipeline.config.w2s_config`.
          seed: of splits, demonstrations, training, samples and pairs.
        """
        self._config, self._seed = config, seed
        self._weak = Policy(name="weak_base", base=config.weak.model, dtype=config.weak.dtype)
        self._strong = Policy(
            name="strong_base", base=config.strong.model, dtype=config.strong.dtype
        )
        described = {p.base: load_config(p.base) for p in (self._weak, self._strong)}
        self._shapes: dict[str, ModelConfig] = {b: model for b, (model, _) in described.items()}
        some = load_problems(
            config.data.name, split=config.data.split, data_dir=config.data.dir or None,
            limit=_SIZED,
        )  # fmt: skip
        self.kind = some[0].kind
        self._test_questions = config.data.test_questions or len(
            load_problems(
                config.data.name, split=config.data.test_split, data_dir=config.data.dir or None
            )
        )
        self._sizes = _sizes(some, config.data.prompt, described[self._strong.base][1])
        self._stages: list[Stage] = []

    def build(self) -> list[Stage]:
        """All stages, each after what it needs."""
        config = self._config
        self._stages = []
        questions = config.data.questions
        self._add(curate.splits_stage(config.data, seed=self._seed))
        weak = self._train("weak", config.weak.sft, self._weak, "splits", "gold.jsonl",
                           rows=config.data.gold_questions)  # fmt: skip
        self._answer("weak_answers", weak)
        self._add(
            curate.demonstrations_stage(count=config.stage1.demonstrations, seed=self._seed)
        )  # fmt: skip
        evaluated = [weak]
        learner, teacher = None, None
        for number in range(1, config.stage1.rounds + 1):
            answers = "weak_answers"
            if learner is not None and teacher is not None:
                answers = f"weak_answers_{number}"
                self._answer(answers, learner)
            self._answer(f"strong_answers_{number}", teacher or self._strong,
                         demonstrations=teacher is None)  # fmt: skip
            select = f"select_{number}"
            self._add(
                curate.select_stage(select, weak=answers, strong=f"strong_answers_{number}",
                                    pad_to=config.stage1.pad_to, seed=self._seed, kind=self.kind)
            )  # fmt: skip
            learner, teacher, hybrid = (
                self._train(f"{which}_ft_{number}", config.strong.sft, self._strong, select,
                            f"{which}.jsonl", rows=questions * (2 if which == "hybrid" else 1))
                for which in ("weak", "icl", "hybrid")
            )  # fmt: skip
            evaluated += [learner, teacher, hybrid]
        self._add(curate.all_weak_stage(kind=self.kind))
        full_weak = self._train(
            "full_weak", config.strong.sft, self._strong, "all_weak", "weak.jsonl", rows=questions
        )
        ceiling = self._train(
            "ceiling", config.strong.sft, self._strong, "splits", "questions.jsonl", rows=questions
        )
        last = [full_weak, ceiling, *self._preferences(hybrid)]
        for policy in evaluated:
            # Of the students the last hybrid one, M_plus, is drawn samples of, as published.
            self._evaluate(policy, sampled=policy is hybrid)
        for policy in last:
            self._evaluate(policy, sampled=True)
        evaluated += last
        self._evaluate(self._strong, sampled=False, demonstrations=True)
        self._add(
            table_stage(
                models=(*(policy.name for policy in evaluated), "weak_icl"),
                gathered=(
                    "splits",
                    *(f"select_{r}" for r in range(1, config.stage1.rounds + 1)),
                    "samples",
                    "votes",
                    "pairs",
                ),
                resamples=config.evaluation.resamples,
                seed=self._seed,
                kind=self.kind,
            )
        )
        return self._stages

    def _preferences(self, m_plus: Policy) -> list[Policy]:
        stage2, preference = self._config.stage2, self._config.preference
        self._answer(
            "samples",
            m_plus,
            samples=[Sample(number=i, temperature=stage2.temperature)
                     for i in range(stage2.samples)],
        )  # fmt: skip
        self._add(curate.votes_stage(stage2, seed=self._seed, kind=self.kind))
        self._add(curate.pairs_stage(stage2, seed=self._seed, kind=self.kind))
        pairs = self._config.data.questions * stage2.pairs_per_question
        return [
            self._train(f"m_pro_{name}", preference[name], m_plus, "pairs", "pairs.jsonl",
                        rows=2 * pairs, objective=name)
            for name in stage2.objectives
        ]  # fmt: skip

    def _add(self, stage: Stage) -> None:
        self._stages.append(stage)

    def _train(
        self, name: str, config: Any, start: Policy, data: str, file: str, *, rows: int,
        objective: str = "sft",
    ) -> Policy:  # fmt: skip
        model = self._shapes[start.base]
        self._add(
            training_stage(
                name, config=config, start=start, data=data, file=file,
                prompt=self._config.data.prompt, seed=self._seed, objective=objective,
                cost=training_cost(model, self._sizes, rows=rows, config=config),
            )
        )  # fmt: skip
        return start.then(name, name)

    def _evaluate(self, policy: Policy, *, sampled: bool, demonstrations: bool = False) -> None:
        wanted = self._config.evaluation
        samples = [Sample()]
        if sampled:
            samples += [
                Sample(number=i, temperature=wanted.temperature)
                for i in range(1, wanted.samples + 1)
            ]
        self._answer(
            "eval_weak_icl" if demonstrations else f"eval_{policy.name}",
            policy,
            file="test.jsonl",
            questions=self._test_questions,
            samples=samples,
            demonstrations=demonstrations,
        )

    def _answer(
        self,
        name: str,
        policy: Policy,
        *,
        file: str = "questions.jsonl",
        questions: int | None = None,
        samples: Sequence[Sample] = (Sample(),),
        demonstrations: bool = False,
    ) -> None:
        """Adds a stage in which a policy answers a split."""
        config, seed, kind = self._config, self._seed, self.kind
        generation = GenerationConfig(**config.generation)
        examples = ("demonstrations",) if demonstrations else ()

        def run(work: Work) -> dict:
            shown: tuple[dict, ...] = ()
            if demonstrations:
                shown = tuple(rows_of(work.inputs["demonstrations"] / "demonstrations.jsonl"))
            mesh = make_mesh(data=-1, tensor=generation.tensor)
            return generate_answers(
                load_policy(policy, work.inputs, mesh=mesh),
                rows_of(work.inputs["splits"] / file),
                work.directory / "answers.jsonl",
                model_name=policy.name,
                layout=PromptLayout(config.data.prompt, shown),
                samples=samples,
                config=generation,
                kind=kind,
                seed=seed,
                mesh=mesh,
                stop=work.stop,
            )

        def cost() -> Cost:
            return generation_cost(
                self._shapes[policy.base],
                self._sizes,
                questions=config.data.questions if questions is None else questions,
                samples=len(samples),
                max_new_tokens=generation.max_new_tokens,
                demonstrations=config.stage1.demonstrations if demonstrations else 0,
            )

        self._add(
            Stage(
                name=name,
                needs=("splits", *policy.trained, *examples),
                settings={
                    "model": policy.settings | {"name": policy.name},
                    "file": file,
                    "samples": [[s.number, s.temperature] for s in samples],
                    "max_new_tokens": generation.max_new_tokens,
                    "prompt": config.data.prompt,
                    "seed": seed,
                },
                run=run,
                cost=cost,
            )
        )


def _sizes(problems: Sequence[Any], prompt: str, tokenizer: Tokenizer) -> TextSizes:
    def mean(texts: list[str]) -> float:
        return sum(len(tokenizer.encode(text)) for text in texts) / len(texts)

    layout = PromptLayout(prompt)
    return TextSizes(
        prompt=mean([layout.block(p.question) for p in problems]),
        solution=mean([p.solution or p.gold for p in problems]),
    )
