"""When two questions are the same one."""


def question_key(text: str) -> str:
    """A text that questions share when they differ in letter case and white space only."""
    return " ".join(text.split()).casefold()
