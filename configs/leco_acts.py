"""The same trigger, four acts: stop, reflect, roll back and fork at a chain's weak tokens.

Command:   python -m launchers.leco --config=configs/leco_acts.py --workdir=runs/acts
           python -m launchers.compare --workdirs=runs/acts
Hardware:  2 CPU cores, 1 GB of memory
Time:      6 min beside much other work
Result:    chain of thought 76.6 %; stop, roll back and fork 77.0 % each, at 1.55, 1.39 and 1.36
           times its tokens; reflect 52.0 %: a model never trained to reflect is only disturbed
"""

import ml_collections

from leco_jax.evaluation.experiment_config import experiment_config


def get_config() -> ml_collections.ConfigDict:
    """The bundled model; every act may take the first chain's length once more."""
    config = experiment_config()
    config.methods = ("cot", "act_stop", "act_reflect", "act_roll_back", "act_fork")
    config.prompt = "question"
    config.model.name = "arithmetic-1m"
    config.data.name = "arithmetic_chains"
    config.data.limit = 500
    config.generation.max_new_tokens = 192
    config.engine.slots = 128
    return config
