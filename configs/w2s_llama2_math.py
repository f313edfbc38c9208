"""Weak-to-strong reasoning on MATH with the paper's sizes: Llama-2-7B teaches Llama-2-70B.

Command:   python -m launchers.w2s --config=configs/w2s_llama2_math.py --workdir=... \
               --config.weak.model=DIR --config.strong.model=DIR --config.data.dir=DIR
           with math_train.jsonl and math_test.jsonl in data.dir (leco_jax.datasets.problem)
Hardware:  as configs/w2s_llama2_gsm8k.py
Time:      not run; --dry_run prints its bound in tokens and FLOPs

Answers are compared as numbers, so the files may hold only problems whose answer is one: 4,068 of
MATH's 5,000 test problems, and so perhaps 9,800 of the 12,000 beside MATH500. The paper's 6,000 for
each part are 4,800 here; what has an expression, an interval, a matrix or a word for an answer is
left out (data.skip_bad_gold), from the test too. Rows are 2,560 tokens, the longest answer and a
prompt.
Published: weak 4.4 %, full weak fine-tuning 5.8 %, M_plus 14.0 %, ceiling 17.8 %; one round, three
epochs, up to three pairs a question.
"""

import ml_collections

from configs import w2s_llama2_gsm8k


def get_config() -> ml_collections.ConfigDict:
    """GSM8K's config with MATH's rounds, epochs and pairs."""
    config = w2s_llama2_gsm8k.get_config(max_new_tokens=2048)
    config.data.update(
        name="math_{split}.jsonl",
        skip_bad_gold=True,
        gold_questions=4_800,
        questions=4_800,
        remove=None,
    )
    config.stage1.update(rounds=1, pad_to=1_000)
    config.stage2.pairs_per_question = 3
    config.weak.sft.run.epochs = 3
    config.strong.sft.run.epochs = 3
    config.generation.slots = 64  # half as many, for answers twice as long
    return config
