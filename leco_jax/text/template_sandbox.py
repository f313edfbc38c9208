"""jinja2 in a sandbox with limits in time and size, for templates that come with a model.

jinja2's own sandbox keeps a template from Python's insides, but not from looping, recursing or
growing texts for ever. Here every loop, call, filter and operator counts against the limits.
"""

from __future__ import annotations

import contextvars
import functools
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jinja2
import jinja2.sandbox
from jinja2 import nodes

SECONDS = 5.0  # of one rendering
OPERATIONS = 1_000_000  # iterations, calls, filters and operators of one rendering
LARGEST = 4_000_000  # characters of a text, items of a list, and numbers given to a function
_LARGEST_PRODUCT = 100 * LARGEST  # of two sizes, as in replace and join
_WIDTH = re.compile(r"[0-9]{6}|\*")  # of a format: "%999999d", "%*d"


class TemplateLimitError(jinja2.TemplateError):
    """A template ran longer or made something larger than allowed."""


class _Budget:
    """What one rendering has left."""

    def __init__(self):
        self._operations = OPERATIONS
        self._end = time.monotonic() + SECONDS

    def spend(self) -> None:
        self._operations -= 1
        if self._operations < 0:
            raise TemplateLimitError(f"more than {OPERATIONS:,} loops and calls")
        if time.monotonic() > self._end:
            raise TemplateLimitError(f"more than {SECONDS:g} s")


_budget: contextvars.ContextVar[_Budget] = contextvars.ContextVar("template_budget")


class LimitedEnvironment(jinja2.sandbox.ImmutableSandboxedEnvironment):
    """A sandbox for `render`, which limits what its templates may cost."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, *, filters: Mapping[str, Callable[..., Any]], **options: Any):
        """Makes an environment with jinja2's filters and further ones; the rest is jinja2's."""
        # Without the optimizer, which would compute constants where nothing is counted.
        super().__init__(optimized=False, finalize=_sized, **options)
        self.filters = {k: _limited(f) for k, f in (self.filters | dict(filters)).items()}
        self.filters |= {"_each": _each, "_join": _join}
        self.globals.pop("lipsum")

    concat = staticmethod(lambda parts: _join(parts))

    def from_string(self, source: Any, *args: Any, **kwargs: Any) -> jinja2.Template:
        """Compiles a template whose loops and "~" count too."""
        tree = self.parse(source)
        for loop in tree.find_all(nodes.For):
            loop.iter = nodes.Filter(loop.iter, "_each", [], [], None, None)
        for joined in list(tree.find_all(nodes.Concat)):
            items = nodes.List(joined.nodes)
            joined.nodes = [nodes.Filter(items, "_join", [], [], None, None)]
        return super().from_string(tree, *args, **kwargs)

    def wrap_str_format(self, value: Any) -> Any:
        """Refuses `str.format` with a huge width."""
        text = getattr(value, "__self__", None)
        wrapped = super().wrap_str_format(value)
        if wrapped is not None and _WIDTH.search(str(text)):
            raise TemplateLimitError("a format of too great a width")
        return wrapped

    def call(self, context: Any, obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Calls a function, method or macro from a template."""
        _check_arguments((getattr(obj, "__self__", None), *args, *kwargs.values()))
        return _sized(super().call(context, obj, *args, **kwargs))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Computes an operator that can make something large out of small things."""
        _budget.get().spend()
        if operator == "*":
            for times, value in ((left, right), (right, left)):
                if isinstance(times, int) and hasattr(value, "__len__"):
                    _check_size(_size(value) * times)
        elif operator == "**" and abs(right) > 1000:
            raise TemplateLimitError(f"a power of {right}")
        elif operator == "%" and isinstance(left, str) and _WIDTH.search(left):
            raise TemplateLimitError("a format of too great a width")
        return _sized(super().call_binop(context, operator, left, right))


def render(template: jinja2.Template, variables: Mapping[str, Any]) -> str:
    """Renders a template of a `LimitedEnvironment`.

    Raises:
      TemplateLimitError: it takes more than `SECONDS` or `OPERATIONS`, or makes something larger
        than `LARGEST`.
      Exception: the template's own refusal, or whatever its expressions raise.
    """
    token = _budget.set(_Budget())
    try:
        return template.render(variables)
    finally:
        _budget.reset(token)


def _limited(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)  # keeps jinja2's marks
    def limited(*args: Any, **kwargs: Any) -> Any:
        _check_arguments((*args, *kwargs.values()))
        if function.__name__ == "do_format" and _WIDTH.search(str(args[0])):
            raise TemplateLimitError("a format of too great a width")
        return _sized(function(*args, **kwargs))

    return limited


def _check_arguments(values: tuple[Any, ...]) -> None:
    _budget.get().spend()
    for value in values[1:]:
        if isinstance(value, int) and abs(value) > LARGEST:
            raise TemplateLimitError(f"a number of {value:.1e} given to a function")
    sizes = sorted(_size(value) for value in values)
    if len(sizes) > 1 and sizes[-1] * sizes[-2] > _LARGEST_PRODUCT:
        raise TemplateLimitError(f"texts of {sizes[-2]:,} and {sizes[-1]:,} characters combined")


def _each(values: Iterable[Any]) -> Iterator[Any]:
    budget = _budget.get()
    for value in values:
        budget.spend()
        yield value


def _join(parts: Iterable[Any]) -> str:
    texts: list[str] = []
    size = 0
    for part in parts:
        _sized(part)
        texts.append(str(part))
        size += len(texts[-1])
        _check_size(size)
    return "".join(texts)


def _sized(value: Any) -> Any:
    if isinstance(value, int) and value.bit_length() > 10_000:
        raise TemplateLimitError("a number of more than 3,000 digits")
    _check_size(_size(value))
    return value


def _check_size(size: int) -> None:
    if size > LARGEST:
        raise TemplateLimitError(f"a text or list of more than {LARGEST:,} characters")


def _size(value: Any) -> int:
    """Characters and items in a value with all that it holds; counts to `LARGEST` + 1 at most."""
    size, rest = 0, [value]
    while rest and size <= LARGEST:
        value = rest.pop()
        if isinstance(value, str | bytes):
            size += len(value)
        elif isinstance(value, jinja2.runtime.Context):
            continue  # given to filters such as `selectattr`; a Mapping without a length
        elif isinstance(value, Mapping):
            size += len(value)
            rest += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple | set | frozenset):
            size += len(value)
            rest += value
    return size
