"""The stages of one seed's pipeline, from two models and a data set to a table.

Stage I:   splits, weak, weak_answers, demonstrations; then in each round r strong_answers_r (and
           weak_answers_r from the second on), select_r, weak_ft_r, icl_ft_r, hybrid_ft_r.
Stage II:  samples, votes, pairs, m_pro_OBJECTIVE.
Beside it: all_weak and full_weak, ceiling (if D_gold,2 has solutions), eval_MODEL, table.
Source: Yang et al. 2024 (arXiv 2407.13647).
"""

import functools
from collections.abc import Sequence

from leco_jax.models.loading import load_config
from w2s_jax.pipeline import curate
from w2s_jax.pipeline.costs import PromptTokens, generation_cost, prompt_tokens, training_cost
from w2s_jax.pipeline.curate import rows_of
from w2s_jax.pipeline.generate import PromptLayout, Sample, generate_answers
from w2s_jax.pipeline.graph import Cost, Stage, Work
from w2s_jax.pipeline.lineage import Lineage, training_stage
from w2s_jax.pipeline.pipeline_config import PipelineConfig
from w2s_jax.pipeline.problems import Pool, split_pool
from w2s_jax.pipeline.tabulate import table_stage
from w2s_jax.training.job_config import TrainingConfig


class PipelineStages:
    """Puts the stages of one seed together."""

    def __init__(self, config: PipelineConfig, seed: int, pool: Pool):
        """Splits the config's problems and reads the models' shapes, for the costs.

        The seed is that of splits, demonstrations, training, samples and pairs.
        """
        self._config, self._seed, self._pool = config, seed, pool
        self._split = split_pool(pool, config.data, seed=seed)
        self._weak = Lineage(name="weak_base", base=config.weak.base, dtype=config.weak.dtype)
        strong = config.strong
        self._strong = Lineage(name="strong_base", base=strong.base, dtype=strong.dtype)
        self._described = {p.base: load_config(p.base) for p in (self._weak, self._strong)}
        self._prompts = functools.cache(self._count_prompts)

    def build(self) -> list[Stage]:
        """All stages, each after what it needs."""
        config = self._config
        self._stages: list[Stage] = []
        questions, kind = config.data.questions, self._pool.kind
        self._add(curate.splits_stage(self._pool, self._split, config.data, seed=self._seed))
        weak = self._train("weak", config.weak.sft, self._weak, "splits", "gold.jsonl",
                           rows=config.data.gold_questions)  # fmt: skip
        self._answer("weak_answers", weak)
        self._add(curate.demonstrations_stage(count=config.stage1.demonstrations, seed=self._seed))
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
                                    shown="demonstrations" if teacher is None else None,
                                    pad_to=config.stage1.pad_to, seed=self._seed, kind=kind)
            )  # fmt: skip
            learner, teacher, hybrid = (
                self._train(f"{which}_ft_{number}", config.strong.sft, self._strong, select,
                            f"{which}.jsonl", rows=questions * (2 if which == "hybrid" else 1))
                for which in ("weak", "icl", "hybrid")
            )  # fmt: skip
            evaluated += [learner, teacher, hybrid]
        self._add(curate.all_weak_stage(kind=kind))
        full_weak = self._train(
            "full_weak", config.strong.sft, self._strong, "all_weak", "weak.jsonl", rows=questions
        )
        last = [full_weak]
        if not self._split.unsolved:
            last.append(
                self._train("ceiling", config.strong.sft, self._strong, "splits",
                            "questions.jsonl", rows=questions)
            )  # fmt: skip
        last += self._preferences(hybrid)
        for model in evaluated:
            # Of the students the last hybrid one, M_plus, is drawn samples of, as published.
            self._evaluate(model, sampled=model is hybrid)
        for model in last:
            self._evaluate(model, sampled=True)
        evaluated += last
        self._evaluate(self._strong, sampled=False, demonstrations=True)
        selections = [f"select_{r}" for r in range(1, config.stage1.rounds + 1)]
        self._add(
            table_stage(
                models=(*(model.name for model in evaluated), "weak_icl"),
                gathered=("splits", *selections, "samples", "votes", "pairs"),
                resamples=config.evaluation.resamples,
                seed=self._seed,
                kind=kind,
            )
        )
        return self._stages

    def _preferences(self, m_plus: Lineage) -> list[Lineage]:
        stage2, preference, kind = self._config.stage2, self._config.preference, self._pool.kind
        numbers = range(stage2.samples)
        samples = [Sample(number=i, temperature=stage2.temperature) for i in numbers]
        self._answer("samples", m_plus, samples=samples)
        rule = stage2.pair_rule(seed=self._seed)
        self._add(curate.votes_stage(rule, kind=kind))
        self._add(curate.pairs_stage(rule, confidence=stage2.confidence, kind=kind))
        pairs = self._config.data.questions * stage2.pairs_per_question
        return [
            self._train(f"m_pro_{name}", preference[name], m_plus, "pairs", "pairs.jsonl",
                        rows=pairs, objective=name)
            for name in stage2.objectives
        ]  # fmt: skip

    def _add(self, stage: Stage) -> None:
        self._stages.append(stage)

    def _train(
        self, name: str, config: TrainingConfig, start: Lineage, data: str, file: str, *, rows: int,
        objective: str = "sft",
    ) -> Lineage:  # fmt: skip
        shape, _ = self._described[start.base]
        self._add(
            training_stage(
                name, config=config, start=start, data=data, file=file,
                prompt=self._config.data.prompt, seed=self._seed, objective=objective,
                cost=training_cost(shape, config, rows=rows, objective=objective),
            )
        )  # fmt: skip
        return start.then(name, name)

    def _evaluate(self, model: Lineage, *, sampled: bool, demonstrations: bool = False) -> None:
        evaluation = self._config.evaluation
        numbers = range(1, evaluation.samples + 1) if sampled else ()
        drawn = (Sample(number=i, temperature=evaluation.temperature) for i in numbers)
        self._answer(
            "eval_weak_icl" if demonstrations else f"eval_{model.name}",
            model,
            file="test.jsonl",
            samples=[Sample(), *drawn],
            demonstrations=demonstrations,
        )

    def _answer(
        self,
        name: str,
        model: Lineage,
        *,
        file: str = "questions.jsonl",
        samples: Sequence[Sample] = (Sample(),),
        demonstrations: bool = False,
    ) -> None:
        """Adds a stage in which a model answers a split."""
        config, seed, kind = self._config, self._seed, self._pool.kind
        generation = config.generation
        examples = ("demonstrations",) if demonstrations else ()

        def run(work: Work) -> dict:
            shown = [
                row for name in examples for row in rows_of(work.inputs[name] / f"{name}.jsonl")
            ]
            return generate_answers(
                functools.partial(model.load, work.inputs),
                rows_of(work.inputs["splits"] / file),
                work.directory / "answers.jsonl",
                model_name=model.name,
                layout=PromptLayout(config.data.prompt, tuple(shown)),
                samples=samples,
                config=generation,
                kind=kind,
                seed=seed,
                stop=work.stop,
                processes=work.processes,
            )

        def cost() -> Cost:
            shown = config.stage1.demonstrations if demonstrations else 0
            longest = self._prompts(model.base, "questions.jsonl").longest if shown else 0
            return generation_cost(
                self._described[model.base][0],
                self._prompts(model.base, file),
                samples=len(samples),
                max_new_tokens=generation.max_new_tokens,
                slots=generation.slots,
                prefix=shown * (longest + generation.max_new_tokens),
            )

        self._add(
            Stage(
                name=name,
                needs=("splits", *model.trained, *examples),
                settings={
                    "model": model.settings | {"name": model.name},
                    "file": file,
                    "samples": [[s.number, s.temperature] for s in samples],
                    "max_new_tokens": generation.max_new_tokens,
                    "prompt": config.data.prompt,
                    "seed": seed,
                },
                run=run,
                cost=cost,
                shared=True,
            )
        )

    def _count_prompts(self, base: str, file: str) -> PromptTokens:
        problems = {"questions.jsonl": self._split.second, "test.jsonl": self._pool.test}
        return prompt_tokens(problems[file], self._config.data.prompt, self._described[base][1])
