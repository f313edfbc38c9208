"""Every method side by side with the bundled model: accuracy, intervals, cost, p.

Command:   python -m launchers.leco --config=configs/leco_compare.py --workdir=runs/compare
           python -m launchers.compare --workdirs=runs/compare --rules=self_consistency --window=16
Hardware:  2 CPU cores, 2 GB of memory
Time:      8 min with --config.data.limit=20, beside much other work
Result:    with it, to show that all run: chain of thought 15 of 20 at 78 tokens a problem, LeCo 14
           at 135, on top of 5 samples 15 at 731, self-consistency of 10 14 at 773, adaptive 14 at
           528, DeepConf 14 at 938, reflective 15 at 619, RCI 3 at 198, CoT-decoding 11 at 376,
           forks 15 at 128, forks checked 16 at 113, corrections (tool use) 19 at 98.
           Too few to tell more.

More problems, another sampling seed: --config.data.limit=1000 --config.seed=1. Runs of several
seeds are named together: --workdirs=runs/compare,runs/compare_1. What is greedy is the same for all
seeds and may be left out of the later ones: --config.methods="$(python -m configs.leco_compare)".
A model of one's own, such as launchers/sft.py leaves: --config.model.name=DIRECTORY
--config.data.name=gsm8k --config.data.dir=DIRECTORY --config.engine.slots=16; it is asked with
"Question: ...", a line "Answer:" and nothing else.
The published program's scores and rules: --config.leco.preset=official_code
--config.methods="('leco',)" in a directory of its own.
"""

import ml_collections

from leco_jax.evaluation.experiment_config import experiment_config

GREEDY = (
    "cot",
    "rci",
    "cot_decoding",
    "fork",
    "fork_checked",
    "act_reflect",
    "act_fork",
)
SAMPLED = (
    "leco",
    "leco_early_stop",
    "leco_average",
    "leco_divergence",
    "leco_transition",
    "leco_samples",
    "self_consistency",
    "adaptive",
    "deepconf",
    "reflective",
    "act_stop",
    "act_roll_back",
)


def get_config() -> ml_collections.ConfigDict:
    """The bundled model asked as it was trained; nothing is downloaded."""
    config = experiment_config()
    config.methods = (*GREEDY, *SAMPLED, "correct")
    config.prompt = "question"
    config.model.name = "arithmetic-1m"
    config.data.name = "arithmetic_chains"
    config.data.limit = 200
    config.generation.max_new_tokens = 192
    for name in ("leco", "leco_early_stop", "leco_average", "leco_divergence", "leco_transition"):
        config[name].policy = "sample"  # see configs/leco_arithmetic.py
    config.leco_samples.samples = 5
    config.adaptive.samples = 10
    # The chains have about 80 tokens, where the published windows have 2,048.
    for name, samples in (("deepconf", 16), ("reflective", 8)):
        config[name].update(samples=samples, warm_up=samples // 2, window=16)
    config.deepconf.wave = 4
    config.cot_decoding.update(branches=5, branch="after_label")
    config.fork.settled = False  # all are written, so that fewer can be tried (--sensitivity=fork)
    config.engine.slots = 128
    config.engine.stats = ("logprob", "topk_logprob", "self_certainty", "margin")
    config.engine.stats_of = ("cot", "self_consistency", "fork")
    return config


if __name__ == "__main__":
    print(SAMPLED)
