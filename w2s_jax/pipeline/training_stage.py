"""A training run as a stage: its config, its key, its resumption."""

import copy
import json
from collections.abc import Mapping
from typing import Any

from w2s_jax.pipeline.graph import Cost, Interrupted, Stage, Work
from w2s_jax.pipeline.lineage import Policy, run_directory
from w2s_jax.training.job import run_job, what_decides


def training_stage(
    name: str,
    *,
    config: Any,
    start: Policy,
    data: str,
    file: str,
    prompt: str,
    seed: int,
    objective: str,
    cost: Cost,
) -> Stage:
    """Makes a stage that trains a policy on a file of an earlier stage.

    Args:
      name: the stage's.
      config: a `job_config.training_config`; model, data, seed and objective are set here.
      start: the policy that training goes on from; at most one stage has trained it.
      data: the stage whose artifact holds the file.
      file: a JSONL file of rows with "question" and "solution", or "chosen" and "rejected".
      prompt: the template of a question's prompt.
      seed: of data order and fresh adapters.
      objective: "sft" or a preference loss.
      cost: what it takes at most.
    """
    filled = copy.deepcopy(config)
    filled.seed = seed
    filled.objective.name = objective
    filled.model.name = start.base
    filled.data.prompt = prompt
    filled.data.completion = "{solution}"
    filled.data.remove = ""

    def run(work: Work) -> dict:
        job = copy.deepcopy(filled)
        job.data.source = str(work.inputs[data] / file)
        if start.trained:
            job.model.checkpoint = str(run_directory(work.inputs[start.trained[-1]]))
        result = run_job(job, run_directory(work.directory), stop=work.stop)
        if result.interrupted:
            raise Interrupted
        shown = ("loss", "rewards/accuracies", "rewards/margins")
        return {"steps": result.steps} | {
            key: float(result.metrics[key]) for key in shown if key in result.metrics
        }

    return Stage(
        name=name,
        needs=(data, *start.trained),
        settings={"training": _deciding(filled), "file": file, "start": start.start_settings},
        run=run,
        cost=lambda: cost,
    )


def _deciding(config: Any) -> Mapping[str, Any]:
    described = json.loads(config.to_json())
    decides = what_decides(described)
    # The start's own settings and the stages before stand for where weights and rows lie.
    for part, name in (("data", "source"), ("model", "name"), ("model", "checkpoint")):
        decides[part] = {k: v for k, v in decides[part].items() if k != name}
    # Rows that are held out are not trained on; evaluation itself changes nothing.
    return decides | {"held_out_rows": described["held_out"]["rows"]}
