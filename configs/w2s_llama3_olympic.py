"""Weak-to-strong reasoning on questions without gold: Llama-3-8B-instruct teaches Llama-3-70B.

Command:   python -m launchers.w2s --config=configs/w2s_llama3_olympic.py --workdir=... \
               --config.weak.model=DIR --config.strong.model=DIR --config.data.dir=DIR
           with olympic_train.jsonl and olympic_test.jsonl in data.dir (see
           leco_jax.datasets.problem)
Hardware:  as configs/w2s_llama2_math.py
Time:      not run; --dry_run prints its bound in tokens and FLOPs

OlympicArena-like: 6,000 questions, whose "gold" and "solution" may be missing but for 300 worked
ones that D_gold,1 is drawn from; the test problems need "gold". Without solutions there is no
ceiling and no gap recovered, and the table says so. The paper takes the weak model as it is; here
it first learns the layout from the worked problems. Only answers that are numbers can agree.
Published: weak 11.8 %, M_plus 11.8 %, M_pro 15.7 %.
"""

import ml_collections

from configs import w2s_llama2_gsm8k


def get_config() -> ml_collections.ConfigDict:
    """GSM8K's config with the paper's sizes for OlympicArena."""
    config = w2s_llama2_gsm8k.get_config(max_new_tokens=2048)
    config.data.update(
        name="olympic_{split}.jsonl", gold_questions=300, questions=5_700, remove=None
    )
    config.stage2.pairs_per_question = 3
    config.generation.slots = 64
    return config
