"""The models of a pipeline: a base, and the training runs that made something of it."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from jax.sharding import Mesh

from leco_jax.models.loading import LoadedModel, load_model
from leco_jax.models.weights import unstack_layers
from w2s_jax.training.initial_weights import trained_weights


@dataclasses.dataclass(frozen=True, kw_only=True)
class Policy:
    """A model by its making.

    Attributes:
      name: what results call it; provenance of every answer that it writes.
      base: the model that training began with, as `load_model` takes it.
      dtype: of weights and products when it answers; training has its own.
      trained: the stages that trained it, in order; each went on from the one before.
    """

    name: str
    base: str
    dtype: str
    trained: tuple[str, ...] = ()

    def then(self, name: str, stage: str) -> "Policy":
        """The policy that a further stage makes of this one."""
        return dataclasses.replace(self, name=name, trained=(*self.trained, stage))

    @property
    def start_settings(self) -> dict:
        """What of it decides training from it, beside its training stages' keys."""
        return {"base": fingerprint(self.base)}

    @property
    def settings(self) -> dict:
        """What of it decides its answers, beside its training stages' keys."""
        return self.start_settings | {"dtype": self.dtype}


def load_policy(policy: Policy, inputs: Mapping[str, Path], *, mesh: Mesh) -> LoadedModel:
    """Loads a policy's weights, layer by layer as generation wants them.

    Args:
      policy: which.
      inputs: the directories of its training stages' artifacts.
      mesh: where the weights go.
    """
    model = load_model(policy.base, mesh=mesh, dtype=policy.dtype, param_dtype=policy.dtype)
    params = model.params
    for stage in policy.trained:
        params = trained_weights(run_directory(inputs[stage]), model.config, params, mesh)
    return dataclasses.replace(model, params=unstack_layers(params, consume=True))


def run_directory(artifact: Path) -> Path:
    """Where a training stage keeps its run: checkpoints, metrics and report."""
    return artifact / "run"


def fingerprint(model: str) -> str:
    """A name for a known model; for files of the user's own, one that changes when they do."""
    path = Path(model).expanduser()
    if not path.exists():
        return model
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    found = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files if f.is_file()]
    return hashlib.blake2b(json.dumps(found).encode(), digest_size=12).hexdigest()
