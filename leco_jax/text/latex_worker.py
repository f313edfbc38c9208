"""The process of `latex_process`: reads pairs of expressions, says whether they are equal.

Lines are JSON: ["a", "b", seconds] in, true or false out; past so many seconds of processor time
the system ends the process. It is run as a file and imports nothing of ours.
"""

import cmath
import functools
import json
import logging
import math
import resource
import sys

import sympy
from math_verify import LatexExtractionConfig, parse, verify

_MEMORY = 4 << 30  # bytes of address space; beyond it a comparison fails


@functools.lru_cache(maxsize=1 << 12)
def parsed(text: str) -> tuple:
    """What math-verify makes of an expression; nothing where it does not understand it."""
    config = LatexExtractionConfig(boxed_match_priority=0)
    found = parse(f"\\boxed{{{text}}}", [config], fallback_mode="no_fallback", parsing_timeout=None)
    return tuple(found)


@functools.lru_cache(maxsize=1 << 12)
def figure(found: sympy.Expr) -> complex | None:
    """The value of an expression, each variable at a number of its own; None if it has none."""
    point = {
        symbol: sympy.Rational(sum(map(ord, symbol.name)) * 7919 % 1009 + 211, 997)
        for symbol in found.free_symbols
    }
    try:
        value = complex(found.subs(point).evalf())
    except (TypeError, ValueError, OverflowError):
        return None
    return value if cmath.isfinite(value) else None


def _differ(first: list, second: list) -> bool:
    """Whether both are one expression, of values that are apart."""
    if len(first) != 1 or len(second) != 1:
        return False
    if not all(isinstance(found, sympy.Expr) for found in (*first, *second)):
        return False
    x, y = figure(first[0]), figure(second[0])
    return x is not None and y is not None and abs(x - y) > 1e-4 * max(1.0, abs(x), abs(y))


def equal(a: str, b: str) -> bool:
    """Whether either is right where the other is the gold answer: verify looks one way."""
    first, second = list(parsed(a)), list(parsed(b))
    if not first or not second:
        return False
    if _differ(first, second):
        return False  # the usual case, without the seconds that a proof may take
    return any(verify(*pair, timeout_seconds=None) for pair in ((first, second), (second, first)))


def _limit(seconds: int) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit = math.ceil(used.ru_utime + used.ru_stime) + seconds
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (limit, hard))


def main() -> None:
    """Answers until standard input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    logging.disable()
    equal(r"\frac{x^2}{2}", "x+1")  # what sympy and the parser do once
    print("ready", flush=True)
    for line in sys.stdin:
        a, b, seconds = json.loads(line)
        _limit(seconds)
        try:
            same = equal(a, b)
        except Exception:  # whatever a strange text leads to: it is not equal
            same = False
        print(json.dumps(bool(same)), flush=True)


if __name__ == "__main__":
    main()
