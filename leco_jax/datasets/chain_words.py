"""Words and sentence templates of `arithmetic_chains`; all of our own writing.

A template may use {who} (the main person), {other} (a second one), {things} and {thing} (what is
counted) and {n}, or {k} and {m} (numbers that the question states). A step has {x} {op} {n} = {y}.
"""

PEOPLE = (
    "Ada", "Ben", "Cora", "Dan", "Eva", "Finn", "Gita", "Hugo", "Ines", "Jack", "Kim", "Lena",
    "Max", "Nora", "Omar", "Pia", "Rosa", "Sam", "Tara", "Uma", "Vera", "Will", "Yuki", "Zoe",
)  # fmt: skip

THINGS = {
    "apple": "apples", "bead": "beads", "book": "books", "button": "buttons", "candle": "candles",
    "card": "cards", "coin": "coins", "cup": "cups", "egg": "eggs", "flower": "flowers",
    "lemon": "lemons", "marble": "marbles", "nut": "nuts", "pear": "pears", "pen": "pens",
    "plum": "plums", "seed": "seeds", "shell": "shells", "stamp": "stamps", "stone": "stones",
}  # fmt: skip

OPENINGS = (
    "{who} has {n} {things}.",
    "{who} starts the day with {n} {things}.",
    "There are {n} {things} in the bag of {who}.",
)

GAINS = (
    "{who} finds {n} more {things}.",
    "{other} gives {n} {things} to {who}.",
    "{who} buys {n} more {things}.",
    "Then {n} more {things} are added.",
)

LOSSES = (
    "{who} gives {n} {things} to {other}.",
    "{who} loses {n} of the {things}.",
    "{who} sells {n} {things}.",
    "{other} takes {n} {things} from {who}.",
)

BAGS_IN = (
    "{who} buys {k} bags with {m} {things} in each bag.",
    "{other} brings {who} {k} bags of {m} {things} each.",
)

BAGS_OUT = (
    "{who} sells {k} bags with {m} {things} in each bag.",
    "{who} gives {k} bags of {m} {things} each to {other}.",
)

TIMES = {
    2: ("The number of {things} doubles.", "Soon {who} has twice as many {things}."),
    3: ("The number of {things} triples.", "Soon {who} has 3 times as many {things}."),
} | dict.fromkeys((4, 5), ("Soon {who} has {n} times as many {things}.",))

SHARES = {
    2: ("{who} gives half of the {things} to {other}.", "{who} keeps only half of them."),
} | dict.fromkeys((3, 4, 5, 6), ("{who} makes {n} equal piles and keeps one pile.",))

# Questions that end the story without another step, or with the steps that their names say.
ASK_NOW = (
    "How many {things} does {who} have now?",
    "How many {things} are left in the end?",
)
MORE_THAN = ("{other} has {n} more {things} than {who}.",)
FEWER_THAN = ("{other} has {n} fewer {things} than {who}.",)
ASK_TOGETHER = ("How many {things} do {who} and {other} have together?",)
PRICES = ("Each {thing} costs {n} dollars.", "{who} sells every {thing} for {n} dollars.")
ASK_PRICE = ("How many dollars are all the {things} worth?",)
BOXES = ("{who} puts {n} {things} in each box.",)
ASK_BOXES = ("How many boxes does {who} fill?",)

# Sentences with a number that the answer does not need. {things} is another kind here.
DISTRACTORS = {
    "object": (
        "{who} also has {n} {things}.",
        "There are {n} {things} on the table too.",
    ),
    "person": (
        "{other} has {n} {things}.",
        "A friend named {other} likes to count {n} {things}.",
    ),
    "fact": (
        "It is {n} degrees outside.",
        "The house of {who} has the number {n}.",
        "The bus comes in {n} minutes.",
    ),
}

STEP_SUM = "{who} has {x} {op} {n} = {y} {things}."
STEP_BAGS = "The bags hold {x} * {n} = {y} {things}."
STEP_OTHER = "{other} has {x} {op} {n} = {y} {things}."
STEP_TOGETHER = "Together they have {x} + {n} = {y} {things}."
STEP_PRICE = "The {things} are worth {x} * {n} = {y} dollars."
STEP_BOXES = "{who} fills {x} / {n} = {y} boxes."
LAST_STEP = r"The answer is \boxed{%d}."
