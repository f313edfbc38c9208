"""Weak-to-strong reasoning on GSM8K with the paper's sizes: Llama-2-7B teaches Llama-2-70B.

Command:   python -m launchers.w2s --config=configs/w2s_llama2_gsm8k.py --workdir=... \
               --config.weak.model=DIR --config.strong.model=DIR
           with Hugging Face directories of the two models
Hardware:  weights of 140 GB in bfloat16: 16 chips of 32 GB in one process
Time:      not run; --dry_run prints its bound in tokens and FLOPs

Published (arXiv 2407.13647, figure 4): weak 33.8 %, full weak fine-tuning 42.4 %, M_plus 62.6 %,
ceiling 72.0 %. Hyper-parameters follow the paper's appendix where we know it and LLaMA-Factory's
defaults elsewhere. GSM8K alone has 7,473 training problems; the paper added others to reach 7,000
for each part, so here the parts are half of GSM8K.
"""

import ml_collections

from w2s_jax.pipeline.config import w2s_config


def get_config() -> ml_collections.ConfigDict:
    """All weights of the weak model, LoRA of rank 8 for the strong one."""
    config = w2s_config()
    config.data.name = "gsm8k"
    config.data.remove = r"<<.*?>>"
    config.data.gold_questions = 3_730
    config.data.questions = 3_730
    for model in (config.weak, config.strong):
        model.dtype = "bfloat16"
        model.sft.model.dtype = "bfloat16"
        model.sft.model.param_dtype = "bfloat16"
        model.sft.data.length = 1024
        model.sft.data.batch = 8
        model.sft.optimizer.learning_rate = 1e-4
        model.sft.run.epochs = 2
    # Adam's small steps vanish in bfloat16 weights: the weak model's masters are float32.
    config.weak.sft.model.param_dtype = "float32"
    config.weak.sft.optimizer.learning_rate = 1e-5

    config.strong.sft.lora.rank = 8
    for name, rate in (("dpo", 1e-5), ("orpo", 3e-5)):
        training = config.preference[name]
        training.model.dtype = training.model.param_dtype = "bfloat16"
        training.lora.rank = 8
        training.data.length = 1024
        training.data.batch = 8
        training.optimizer.learning_rate = rate
        training.run.epochs = 1
    config.generation.max_new_tokens = 1024
    config.generation.slots = 128
    config.generation.tensor = 8
    config.evaluation.samples = 10
    return config
