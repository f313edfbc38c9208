"""The models of a pipeline: a base, and the training runs that made something of it."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from jax.sharding import Mesh

from leco_jax.configuration import as_json
from leco_jax.models.loading import LoadedModel, load_model
from leco_jax.storage.hashes import content_hash
from leco_jax.storage.paths import as_path
from w2s_jax.pipeline.graph import Cost, Interrupted, Stage, Work
from w2s_jax.training.initial_weights import restore_run
from w2s_jax.training.job import run_job, what_decides
from w2s_jax.training.job_config import TrainingConfig

# What `load_model` reads: config, weights (safetensors, GGUF or Orbax) and tokenizer.
_MODEL_FILES = (
    "config.json", "generation_config.json", "special_tokens_map.json", "tokenizer*",
    "chat_template*", "*.safetensors", "*.safetensors.index.json", "*.gguf", "params/**/*",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lineage:
    """A base model and the stages that trained it."""

    name: str  # what results call it; provenance of every answer that it writes
    base: str  # the model that training began with, as `load_model` takes it
    dtype: str  # of weights and products when it answers; training has its own
    # the stages that trained it, in order; each went on from the one before
    trained: tuple[str, ...] = ()

    def then(self, name: str, stage: str) -> "Lineage":
        """This lineage with a further training stage."""
        return dataclasses.replace(self, name=name, trained=(*self.trained, stage))

    @property
    def start_settings(self) -> dict:
        """What of it decides training from it, beside its training stages' keys."""
        return {"base": model_hash(self.base)}

    @property
    def settings(self) -> dict:
        """What of it decides its answers, beside its training stages' keys."""
        return self.start_settings | {"dtype": self.dtype}

    def load(self, inputs: Mapping[str, Path], mesh: Mesh) -> LoadedModel:
        """Loads the trained weights, unstacked to generate; `inputs` are its stages' files."""
        loaded = load_model(self.base, mesh=mesh, dtype=self.dtype, param_dtype=self.dtype)
        for stage in self.trained:
            restore_run(run_directory(inputs[stage]), loaded.model, mesh)
        loaded.model.unstack()
        return loaded


def training_stage(
    name: str,
    *,
    config: TrainingConfig,
    start: Lineage,
    data: str,
    file: str,
    prompt: str,
    seed: int,
    objective: str,
    cost: Cost,
) -> Stage:
    """Makes a stage that trains a model on a file of the stage `data`.

    Args:
      name: the stage's.
      config: its model, data, seed and objective are set here.
      start: what training goes on from; at most one stage has trained it.
      data: the stage whose artifact holds the file.
      file: a JSONL file of rows with "question" and "solution", or "chosen" and "rejected".
      prompt: the template of a question's prompt.
      seed: of data order and fresh adapters.
      objective: "sft" or a preference loss.
      cost: what it takes at most.
    """
    replace = dataclasses.replace
    filled = replace(
        config,
        seed=seed,
        objective=replace(config.objective, name=objective),
        model=replace(config.model, name=start.base),
        data=replace(config.data, prompt=prompt, completion="{solution}", remove=None),
    )

    # The start's own settings and the stages before stand for where weights and rows lie.
    places = {"data": ("source",), "model": ("name", "checkpoint")}
    # Rows that are held out are not trained on; evaluation itself changes nothing.
    held_out = {"held_out_rows": config.held_out.rows}
    decides = what_decides(as_json(filled), without=places) | held_out

    def run(work: Work) -> dict:
        before = run_directory(work.inputs[start.trained[-1]]) if start.trained else None
        job = replace(
            filled,
            data=replace(filled.data, source=str(work.inputs[data] / file)),
            model=replace(filled.model, checkpoint=None if before is None else str(before)),
        )
        result = run_job(job, run_directory(work.directory), stop=work.stop)
        if result.interrupted:
            raise Interrupted
        names = ("loss", "rewards/accuracies", "rewards/margins")
        metrics = {key: float(result.metrics[key]) for key in names if key in result.metrics}
        return {"steps": result.steps} | metrics

    return Stage(
        name=name,
        needs=(data, *start.trained),
        settings={"training": decides, "file": file, "start": start.start_settings},
        run=run,
        cost=lambda: cost,
        shared=True,
    )


def run_directory(artifact: Path) -> Path:
    """Where a training stage keeps its run: checkpoints, metrics and report."""
    return artifact / "run"


def model_hash(model: str) -> str:
    """The name of a known model; for a model of the user's own a hash of what its files hold.

    Neither where the files lie nor when they were written counts, nor any file beside them.
    """
    path = as_path(model).expanduser()
    if not path.exists():
        return model
    if path.is_dir():
        files = sorted({file for pattern in _MODEL_FILES for file in path.glob(pattern)})
        held = {str(f.relative_to(path)): content_hash(f) for f in files if f.is_file()}
    else:
        held = {"": content_hash(path)}
    return hashlib.blake2b(json.dumps(held).encode(), digest_size=12).hexdigest()
