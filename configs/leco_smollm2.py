"""LeCo beside chain of thought with SmolLM2-135M-Instruct.

Command:   make run
Hardware:  2 CPU cores, 3 GB of memory
Time:      see README
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    """Every field that `launchers/leco.py` knows."""
    config = ml_collections.ConfigDict()
    config.seed = 0
    config.methods = ("cot", "leco")
    config.prompt = "chat"  # or "few_shot": eight worked examples

    config.model = ml_collections.ConfigDict()
    config.model.name = "smollm2-135m-instruct"  # or a directory, or a .gguf file
    config.model.dtype = "float32"

    config.data = ml_collections.ConfigDict()
    config.data.name = "word_problems"  # in the package; "gsm8k" needs data.dir or the internet
    config.data.split = "test"
    config.data.dir = ""
    config.data.limit = 0  # 0: all

    config.generation = ml_collections.ConfigDict()
    config.generation.max_new_tokens = 256  # a pass
    config.generation.temperature = 0.0
    config.generation.top_k = 0
    config.generation.top_p = 1.0

    config.leco = ml_collections.ConfigDict()
    config.leco.preset = "paper"  # step scores; or "official_code"
    config.leco.policy = "avoid"  # or "reprompt", "sample"
    config.leco.reprompt_layout = "label"  # or "instruction"; for reprompt
    config.leco.rethink_temperature = 0.7  # for sample
    config.leco.max_rethinks = 3
    config.leco.cut_rule = "weakest"  # or "earlier_of_two_weakest"
    config.leco.exclude = ("think step by step", "the answer is")
    config.leco.freeze_kept = True
    config.leco.final_rule = "last"  # or "weighted_vote"
    # Cut as soon as a closed step is weaker than all others by this much; None: at the end.
    config.leco.online_margin = ml_collections.config_dict.placeholder(float)

    config.engine = ml_collections.ConfigDict()
    config.engine.slots = 16
    config.engine.chunk = 8
    return config
