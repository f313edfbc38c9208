"""Trains the two bundled base models of the weak-to-strong demonstration.

    python -m launchers.sft --config=configs/sft_arithmetic_bases.py:strong --workdir=runs/strong
    python -m launchers.sft --config=configs/sft_arithmetic_bases.py:weak --workdir=runs/weak
    python -m launchers.convert --input=runs/strong --output=runs/base_1m --dtype=bfloat16
    python -m launchers.convert --input=runs/weak --output=runs/base_500k --dtype=bfloat16

Hardware:  2 CPU cores.
Time:      25 and 12 minutes of one core's work.
Result:    held-out loss 0.460 (strong, on documents) and 0.104 (weak, on chains); bfloat16
           weights of 2.7 and 1.1 MB.
"""

import ml_collections

from configs import sft_arithmetic


def get_config(which: str = "strong") -> ml_collections.ConfigDict:
    """The config of the "strong" base, which goes on from arithmetic-1m, or of the "weak" one."""
    if which not in ("strong", "weak"):
        raise ValueError(f"base {which!r} is neither 'strong' nor 'weak'")
    config = sft_arithmetic.get_config()
    if which == "weak":
        config.model.preset = "arithmetic_500k"
        config.optimizer.learning_rate = 4e-3
        config.run.num_steps = 1300
        return config
    config.model.name, config.model.preset, config.model.tokenizer = "arithmetic-1m", None, None
    config.data.update(source="arithmetic_documents", length=1024, batch=4)
    config.held_out.source = "arithmetic_documents"
    config.optimizer.update(learning_rate=1e-3, warmup_steps=50)
    config.run.update(num_steps=1000, eval_every=200)
    return config
