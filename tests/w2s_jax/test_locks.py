"""Every program that writes a work directory refuses one in which another process writes."""

import pytest

from leco_jax.evaluation.experiment import run_experiment
from leco_jax.evaluation.experiment_config import experiment_config
from leco_jax.storage.workdir import BusyError, lock
from tests.w2s_jax.pipeline.tiny_config import get_config
from w2s_jax.pipeline.run import run_pipeline
from w2s_jax.training.job import run_job
from w2s_jax.training.job_config import training_config


@pytest.mark.parametrize(
    ("run", "config"),
    [(run_experiment, experiment_config), (run_job, training_config), (run_pipeline, get_config)],
)
def test_a_second_writer_is_told_who_writes(tmp_path, run, config):
    with lock(tmp_path), pytest.raises(BusyError, match=r"is in use by .*, process .*, since"):
        run(config(), tmp_path)
    assert not list(tmp_path.iterdir())
