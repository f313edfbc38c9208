"""Runs launchers.w2s and kills this process with SIGKILL in the midst of one stage.

    python killed_run.py STAGE middle|end [launcher's flags]

"middle" is after the third answer of a generation, after the first checkpoint of a training, or
after the first file of any other stage; "end" is when all is written but the description that
makes an artifact whole. A stage that was never reached ends with exit code 0 or 1 instead.
"""

import os
import pathlib
import runpy
import signal
import sys

stage, where = sys.argv[1:3]
sys.argv = ["launchers/w2s.py", *sys.argv[3:]]
sys.path.insert(0, str(pathlib.Path(__file__).parents[3]))

from leco_jax.storage import results_file  # noqa: E402
from w2s_jax.pipeline import artifacts, curate, tabulate  # noqa: E402
from w2s_jax.training import checkpoints  # noqa: E402


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def ours(path):
    return f"/.partial/{stage}-" in str(path)


if where == "end":
    write = artifacts.write_json

    def write_json(path, value):
        if ours(path):
            die()
        write(path, value)

    artifacts.write_json = write_json
else:
    append, save = results_file.ResultsFile.append, checkpoints.Checkpoints.save
    write_rows, write_table = curate.write_rows, tabulate.write_json

    def append_and_die(self, row):
        append(self, row)
        if ours(self.path) and len(self.rows) == 3:
            die()

    def save_and_die(self, *args):
        save(self, *args)
        if ours(self.directory):
            self.wait()
            die()

    def rows_and_die(path, rows):
        write_rows(path, rows)
        if ours(path):
            die()

    def table_and_die(path, value):
        write_table(path, value)
        if ours(path):
            die()

    results_file.ResultsFile.append = append_and_die
    checkpoints.Checkpoints.save = save_and_die
    curate.write_rows = rows_and_die
    tabulate.write_json = table_and_die

runpy.run_module("launchers.w2s", run_name="__main__", alter_sys=True)
