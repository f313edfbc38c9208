"""Every field of a weak-to-strong config with its default; configs/ change some of them."""

import ml_collections

from w2s_jax.training.job_config import training_config
from w2s_jax.training.objectives import PREFERENCE


def w2s_config() -> ml_collections.ConfigDict:
    """Gives the fields that `launchers/w2s.py` knows.

    In the training configs `weak.sft`, `strong.sft` and those of `preference` the pipeline itself
    sets the model, the data, the seed and the objective's name.
    """
    config = ml_collections.ConfigDict()
    config.seeds = (0,)  # the whole pipeline once for each

    data = config.data = ml_collections.ConfigDict()
    data.name = "gsm8k"  # a data set; its answers decide the kind of answer
    data.split = "train"  # where both training halves come from
    data.test_split = "test"
    data.dir = ""  # where its files lie, if not in the cache
    data.gold_questions = 3_500  # D_gold,1: the weak model learns from their gold solutions
    data.questions = 3_500  # D_gold,2: only their questions are used, but by a ceiling
    data.test_questions = 0  # 0: all
    data.drop_duplicates = True  # of questions, within and between the parts
    data.prompt = "Question: {question}\nAnswer:\n"
    data.remove = ""  # a regular expression taken out of gold solutions

    weak = config.weak = ml_collections.ConfigDict()
    weak.model = ""  # a name or a directory, as everywhere
    weak.dtype = "float32"
    weak.sft = training_config()

    strong = config.strong = ml_collections.ConfigDict()
    strong.model = ""
    strong.dtype = "float32"
    strong.sft = training_config()

    stage1 = config.stage1 = ml_collections.ConfigDict()
    stage1.rounds = 2
    stage1.demonstrations = 4  # drawn from the weak answers, wrong ones included
    stage1.pad_to = 0  # fill the selected set up with disagreeing answers (published for MATH)

    stage2 = config.stage2 = ml_collections.ConfigDict()
    stage2.objectives = ("dpo", "orpo")  # or others of `preference`; each gives a model of its own
    stage2.samples = 10  # a question
    stage2.temperature = 1.0
    stage2.rule = "official_code"  # or "paper": one threshold
    stage2.threshold = ml_collections.config_dict.placeholder(float)  # in place of the rule's
    stage2.weak_rejected_threshold = ml_collections.config_dict.placeholder(float)
    stage2.pairs_per_question = 1
    stage2.vote = "count"  # how confidence is taken from samples; or "weighted", "cisc"
    stage2.confidence = "step_score"  # for the latter two; or "self_certainty", "mean_logprob"
    stage2.vote_temperature = 1.0  # of "cisc"

    preference = config.preference = ml_collections.ConfigDict()
    for name in PREFERENCE:
        preference[name] = training_config()

    generation = config.generation = ml_collections.ConfigDict()
    generation.max_new_tokens = 512
    generation.slots = 32
    generation.chunk = 16
    generation.tensor = 1  # devices that share each matrix; answers are spread over the others

    evaluation = config.evaluation = ml_collections.ConfigDict()
    evaluation.samples = 10  # for pass@k of M_plus and the last models; 0: greedy only
    evaluation.temperature = 1.0
    evaluation.resamples = 10_000  # of the bootstrap
    return config
