"""Every field of an experiment's config with its default; files in configs/ change some of them."""

import ml_collections


def experiment_config() -> ml_collections.ConfigDict:
    """Gives the fields that `launchers/leco.py` knows."""
    config = ml_collections.ConfigDict()
    config.seed = 0
    config.methods = ("cot", "leco")  # names of leco_jax.evaluation.methods
    config.prompt = "chat"  # "few_shot": eight worked examples; "question": nothing else

    model = config.model = ml_collections.ConfigDict()
    model.name = "smollm2-135m-instruct"  # or a directory, or a .gguf file
    model.dtype = "float32"

    data = config.data = ml_collections.ConfigDict()
    data.name = "word_problems"  # in the package; "gsm8k" needs data.dir or the internet
    data.split = "test"
    data.dir = ""
    data.limit = 0  # 0: all

    generation = config.generation = ml_collections.ConfigDict()
    generation.max_new_tokens = 256  # a pass
    generation.temperature = 0.0  # of chain of thought, and of LeCo's first pass
    generation.top_k = 0
    generation.top_p = 1.0

    leco = config.leco = ml_collections.ConfigDict()
    leco.preset = "paper"  # step scores and the two rules below; or "official_code"
    leco.policy = "avoid"  # or "reprompt", "sample"
    leco.reprompt_layout = "label"  # or "instruction"; for reprompt
    leco.rethink_temperature = 0.7  # for sample
    leco.max_rethinks = 3
    # "weakest" or "earlier_of_two_weakest"; None: as the preset has it.
    leco.cut_rule = ml_collections.config_dict.placeholder(str)
    leco.exclude = ("think step by step", "the answer is")
    leco.freeze_kept = True
    # "last" or "weighted_vote"; None: as the preset has it.
    leco.final_rule = ml_collections.config_dict.placeholder(str)
    # Cut as soon as a closed step is weaker than all others by this much; None: at the end.
    leco.online_margin = ml_collections.config_dict.placeholder(float)

    self_consistency = config.self_consistency = ml_collections.ConfigDict()
    self_consistency.samples = 10
    self_consistency.temperature = 0.7
    # DeepConf: so many samples set the confidence below which the others are ended; 0: off.
    self_consistency.warm_up = 0
    self_consistency.percentile = 10.0  # of the warm-up's lowest confidences
    # Tokens; a confidence is that of the 20 likeliest tokens (preset official_code: 5).
    self_consistency.window = 2048

    engine = config.engine = ml_collections.ConfigDict()
    engine.slots = 16  # chains decoded together
    engine.chunk = 8  # tokens between two looks at them
    # Whose distribution the figures are of: the model's, or "processed", the one sampled from.
    engine.capture = "raw"
    return config
