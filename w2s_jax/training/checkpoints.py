"""Checkpoints of a run: Orbax v1, asynchronous, kept by policy, with config and data position."""

import contextlib
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

from leco_jax.storage.paths import as_path, is_remote


class CheckpointMismatch(ValueError):
    """A checkpoint that belongs to another run, or cannot be read."""


class Checkpoints:
    """The checkpoints below one directory; a context manager that waits for the last save."""

    def __init__(
        self,
        directory: str | pathlib.Path,
        *,
        keep_last: int = 2,
        keep_every: int | None = None,
        description: dict[str, Any] | None = None,
        data: str = "",
    ):
        """Opens the directory and removes what an interrupted save left there.

        Args:
          directory: created if need be; must be the same on every process.
          keep_last: see `loop.RunConfig`.
          keep_every: see `loop.RunConfig`.
          description: the run's config, JSON values, written into each checkpoint.
          data: the data source's fingerprint; a checkpoint of other data is refused.
        """
        keep: Any = ocp.training.preservation_policies.LatestN(keep_last)
        if keep_every:
            keep = ocp.training.preservation_policies.AnyPreservationPolicy(
                [keep, ocp.training.preservation_policies.EveryNSteps(keep_every)]
            )
        self.directory = as_path(directory).absolute()
        self._description = description or {}
        self._data = data
        self._orbax = ocp.training.Checkpointer(
            os.fspath(self.directory),
            # The loop decides when to save.
            save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),
            preservation_policy=keep,
            cleanup_tmp_directories=True,
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exception) -> None:
        self._orbax.close()

    @property
    def latest(self) -> int | None:
        """The newest finished checkpoint's step; None if there is none."""
        newest = self._orbax.latest
        return None if newest is None else newest.step

    def save(self, step: int, weights: Any, rest: Any) -> None:
        """Starts to save; returns when the arrays may be changed, and writes in the background.

        `step` counts steps done: it is the next step's number. A step that is saved already is left
        alone. `weights` is what is trained and can be loaded without `rest`, all else that resuming
        needs.
        """
        if self.latest == step:
            return
        described = {
            "config": self._description,
            "data": {"fingerprint": self._data, "next_step": step},
        }
        # Metadata is JSON: this refuses early and by name what is not.
        json.dumps(described)
        self._orbax.save_checkpointables_async(
            step, {"weights": weights, "rest": rest}, custom_metadata=described
        )

    def wait(self) -> None:
        """Waits until what was saved is on disk."""
        self._orbax.wait()

    def restore(
        self, abstract_weights: Any, abstract_rest: Any, step: int | None = None
    ) -> tuple[Any, Any]:
        """Loads (weights, rest) of a step (None: the newest), each process reading its own shards.

        Both are given as shapes, dtypes and shardings; the mesh need not be the one of the save.

        Raises:
          CheckpointMismatch: it was saved by a run on other data, or cannot be read.
        """
        described = self.describe(step)
        saved = described.get("data", {}).get("fingerprint", "")
        if saved != self._data:
            raise CheckpointMismatch(
                f"checkpoint {self.latest if step is None else step} in {self.directory} was "
                f"trained on data {saved or 'unknown'}, this run has {self._data or 'unknown'}: "
                "its position in the data would mean nothing. Use the same data, or a new workdir"
            )
        trees = {"weights": abstract_weights, "rest": abstract_rest}
        with _one_line(self.directory / str(self.latest if step is None else step)):
            loaded = self._orbax.load_checkpointables(step, trees)
        return loaded["weights"], loaded["rest"]

    def describe(self, step: int | None = None) -> dict[str, Any]:
        """Gives the config and data position inside a checkpoint."""
        return self._orbax.metadata(step).custom_metadata or {}


def abstract(tree: Any) -> Any:
    """Gives shapes, dtypes and shardings of arrays, for `restore`."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), tree)


def newest(directory: str | pathlib.Path) -> int | None:
    """The newest finished checkpoint's step; None: there is none. Asks no other process."""
    # A finished checkpoint is renamed to its step's number; below gs:// a file in it says so.
    found = [path for path in as_path(directory).glob("*") if path.name.isdigit()]
    if is_remote(directory):
        found = [path for path in found if (path / "commit_success.txt").is_file()]
    return max((int(path.name) for path in found), default=None)


def load_weights(directory: str | pathlib.Path, abstract_weights: Any) -> Any:
    """Loads the trained weights alone from a run's newest checkpoint, as `Checkpoints.restore`.

    Where they go to devices of this process alone, other processes need not load them too; but all
    must make the same number of calls, for Orbax counts them.

    Raises:
      FileNotFoundError: there is no finished checkpoint.
      CheckpointMismatch: it cannot be read.
    """
    devices = {d for x in jax.tree.leaves(abstract_weights) for d in x.sharding.device_set}
    one = jax.process_index()
    options = ocp.options.MultiprocessingOptions()
    if {device.process_index for device in devices} == {one}:
        options = ocp.options.MultiprocessingOptions(primary_host=one, active_processes={one})
    path = _newest_path(directory)
    with ocp.Context(multiprocessing_options=options), _one_line(path):
        return ocp.load_checkpointables(path, {"weights": abstract_weights})["weights"]


def read_description(directory: str | pathlib.Path) -> dict[str, Any]:
    """Gives {"config", "data"} of a run's newest checkpoint.

    Raises:
      FileNotFoundError: there is no finished checkpoint.
    """
    return ocp.checkpointables_metadata(_newest_path(directory)).custom_metadata or {}


@contextlib.contextmanager
def _one_line(path: pathlib.Path) -> Iterator[None]:
    """Orbax's many lines about a damaged checkpoint become one."""
    try:
        yield
    except (KeyError, ValueError, OSError) as error:
        raise CheckpointMismatch(
            f"checkpoint {path} cannot be read: a file of it is missing or damaged, or it is of "
            "another model. Remove this directory to go on from the checkpoint before it, or from "
            "the start"
        ) from error


def _newest_path(directory: str | pathlib.Path) -> pathlib.Path:
    directory = as_path(directory).absolute()
    if not directory.is_dir():
        raise FileNotFoundError(f"there is no checkpoint directory {directory}")
    step = newest(directory)
    if step is None:
        raise FileNotFoundError(f"{directory} holds no finished checkpoint")
    return directory / str(step)
