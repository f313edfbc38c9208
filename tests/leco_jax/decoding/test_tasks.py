"""Tasks over an engine that is written down here: a chain ends in the step after its submission."""

import jax
import pytest

from leco_jax.decoding.request import Chain, Request
from leco_jax.decoding.tasks import run_tasks, run_units, together

REQUEST = Request(prompt=(1,), max_new_tokens=1)


class _Engine:
    slots = 2

    def __init__(self, log=None):
        self.queue = []
        self.log = [] if log is None else log

    @property
    def waiting(self):
        return len(self.queue)

    def submit(self, request):
        self.queue.append(Chain(request))
        return self.queue[-1]

    @property
    def free(self):
        return self.slots

    def begin_step(self):
        self.log.append((self, len(self.queue)))

    def end_step(self):
        ended, self.queue = self.queue, []
        for chain in ended:
            chain.finish = "length"
        return ended


def _task(engine, number, error=None):
    for i in range(number):
        yield [engine.submit(REQUEST)]
        if error is not None and i == number - 1:
            raise error
    return number


def test_tasks_of_any_length_end_with_their_results():
    engine = _Engine()
    outcomes = list(run_tasks(engine, ((n, _task(engine, n)) for n in (3, 0, 1, 2, 5))))
    assert sorted((o.key, o.result, o.error) for o in outcomes) == [
        (n, n, None) for n in (0, 1, 2, 3, 5)
    ]


@pytest.mark.parametrize("error", [ValueError("too long"), KeyError("x")])
def test_an_exception_ends_its_own_task(error, caplog):
    engine = _Engine()
    tasks = [("bad", _task(engine, 2, error)), ("good", _task(engine, 3))]
    outcomes = {o.key: o for o in run_tasks(engine, tasks)}
    assert outcomes["good"].result == 3
    assert outcomes["bad"].result is None
    assert outcomes["bad"].error is error
    assert ("Traceback" in caplog.text) == (not isinstance(error, ValueError))


@pytest.mark.parametrize("error", [MemoryError("full"), jax.errors.JaxRuntimeError("INTERNAL")])
def test_what_is_wrong_with_the_device_ends_all(error):
    engine = _Engine()
    tasks = [("bad", _task(engine, 1, error)), ("good", _task(engine, 3))]
    with pytest.raises(type(error)):
        list(run_tasks(engine, tasks))


def test_a_stop_is_asked_for_before_every_step():
    engine = _Engine()
    asked = iter([False, False, True])
    tasks = [(n, _task(engine, n)) for n in (1, 2, 3)]
    outcomes = list(run_tasks(engine, tasks, stop=lambda: next(asked)))
    assert [o.key for o in outcomes] == [1, 2]


def test_tasks_together_end_as_one_with_all_results():
    engine = _Engine()
    tasks = [(0, together([_task(engine, 3), _task(engine, 0), _task(engine, 1)]))]
    (outcome,) = run_tasks(engine, tasks)
    assert outcome.result == [3, 0, 1]


def test_an_error_in_one_of_several_closes_the_others():
    engine, closed = _Engine(), []

    def other():
        try:
            while True:
                yield [engine.submit(REQUEST)]
        finally:
            closed.append(True)

    (outcome,) = run_tasks(engine, [(0, together([other(), _task(engine, 2, ValueError("x"))]))])
    assert str(outcome.error) == "x"
    assert closed == [True]


def _units(numbers):
    for number in numbers:
        yield lambda engine, n=number: [((n, i, engine), _task(engine, n)) for i in range(2)]


def test_units_go_to_the_first_engine_with_room_and_engines_are_made_when_they_are_needed():
    log, made = [], []

    def engines(count):
        for _ in range(count):
            made.append(_Engine(log))
            yield made[-1]

    taken = []
    units = (taken.append(n) or unit for n, unit in enumerate(_units([1] * 6)))
    coming = run_units(engines(3), units)
    first = next(coming)
    # Each has as many chains as slots, and no unit is taken before its turn, before any ends.
    assert log == [(engine, 2) for engine in made]
    assert len(made) == 3
    assert taken == [0, 1, 2]
    outcomes = [first, *coming]
    assert taken == list(range(6))
    assert sorted(o.result for o in outcomes) == [1] * 12
    assert {o.key[2] for o in outcomes} == set(made)
    assert [engine for engine, _ in log] == made * 2

    made.clear()
    assert len(list(run_units(engines(3), _units([1])))) == 2
    assert len(made) == 2  # the first was full; the second finds nothing left
