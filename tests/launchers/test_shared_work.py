"""What several processes share through the store; here they are threads, and it is a dict."""

import concurrent.futures
import threading
import time
import types

import jax
import pytest

from launchers import shared_work
from leco_jax.evaluation.processes import ONE, from_lead, same_everywhere
from leco_jax.evaluation.shared_results import SharedResults
from leco_jax.storage.files import read_json
from w2s_jax.pipeline.artifacts import ArtifactStore
from w2s_jax.pipeline.graph import Graph, Interrupted, Stage


class _Store:
    """The calls of jax's client that are used."""

    def __init__(self):
        self._values, self._lock = {}, threading.Lock()

    def key_value_set(self, key, value):
        with self._lock:
            assert key not in self._values
            self._values[key] = value

    def key_value_increment(self, key, increment):
        with self._lock:
            self._values[key] = self._values.get(key, 0) + increment
            return self._values[key]

    def key_value_try_get(self, key):
        if key not in self._values:
            raise jax.errors.JaxRuntimeError(f"NOT_FOUND: {key}")
        return self._values[key]

    def key_value_dir_get(self, key):
        return [item for item in self._values.items() if item[0].startswith(key + "/")]

    def blocking_key_value_get(self, key, milliseconds):
        if key not in self._values:
            time.sleep(0.001)
            raise jax.errors.JaxRuntimeError("DEADLINE_EXCEEDED: nothing yet")
        return self._values[key]


@pytest.fixture
def each(monkeypatch):
    """Calls a function once for each of so many processes, at the same time."""

    def run(count, function, kind=shared_work._Several):
        state = types.SimpleNamespace(client=_Store())
        monkeypatch.setattr(shared_work, "global_state", state)
        monkeypatch.setattr(jax, "process_count", lambda: count)
        made = []
        for index in range(count):
            monkeypatch.setattr(jax, "process_index", lambda index=index: index)
            made.append(kind())
        with concurrent.futures.ThreadPoolExecutor(count) as pool:
            return [future.result() for future in [pool.submit(function, p) for p in made]]

    return run


def test_every_number_falls_to_one_process_and_a_slow_one_takes_fewer(each):
    def take(processes):
        again = processes.take(3)
        taken = []
        for number in processes.take(60):
            taken.append(number)
            time.sleep(0.01 if processes.lead else 0.001)
        return taken, list(again)

    (slow, first), (fast, second) = each(2, take)
    assert sorted(slow + fast) == list(range(60))
    assert 0 < len(slow) < len(fast)
    assert sorted(first + second) == [0, 1, 2]


def test_values_are_exchanged_and_a_difference_is_named(each):
    def exchange(processes):
        found = processes.exchange({"index": processes._index})
        same_everywhere(processes, "config", {"seed": 1})
        with pytest.raises(ValueError, match=r"process 2 differs from process 0 in config\.seed:"):
            same_everywhere(processes, "config", {"seed": processes._index // 2})
        return found

    assert each(3, exchange) == [[{"index": i} for i in range(3)]] * 3


@pytest.mark.parametrize("kind", [shared_work._Several, shared_work._LockStep])
def test_a_stop_that_one_is_asked_for_is_one_for_all(each, kind, monkeypatch):
    monkeypatch.setattr(shared_work, "_SECONDS_TO_STOP", 0.0)

    def run(processes):
        asked = iter([False] * 3 + [not processes.lead] * 10**6)
        stop = processes.stop(lambda: next(asked))
        calls = 1
        while not stop():
            time.sleep(0.001)
            calls += 1
        return calls

    first, second = each(2, run, kind)
    assert second == 4
    assert first == 4 or kind is shared_work._Several


def test_results_are_joined_in_order_and_what_is_missing_is_the_same_everywhere(each, tmp_path):
    path, order = tmp_path / "results.jsonl", [f"p{i}" for i in range(9)]

    def run(processes, name):
        results = SharedResults(path, key=lambda row: row["id"], order=order, processes=processes)
        for number in processes.take(len(results.missing)):
            results.append({"id": results.missing[number]})
            if name == "killed" and number >= 2:
                break
        if name == "killed":
            for file in {results._own, results._whole} - {None}:
                file.close()
            return None
        rows, reports = results.close(name)
        return results.missing, list(rows), reports

    for count in (3, 2):
        each(count, lambda processes: run(processes, "killed"))
    assert list(tmp_path.glob("results.part*"))
    first, *others = each(3, lambda processes: run(processes, "whole"))
    assert first[1:] == (order, ["whole"] * 3)
    for missing, rows, reports in others:
        assert missing == first[0]
        assert len(missing) < len(order)
        assert (rows, reports) == ([], [])
    assert [path.name for path in tmp_path.iterdir()] == ["results.jsonl"]
    whole = path.read_bytes()
    # Alone, or in lock-step, there are no parts.
    for kind in (None, shared_work._LockStep):
        path.write_bytes(whole[: len(whole) // 2])
        if kind is None:
            found = [run(ONE, "one")]
        else:
            found = each(2, lambda processes: run(processes, "one"), kind)
        assert found[0][1:] == (order, ["one"])
        assert path.read_bytes() == whole


def test_sigterm_that_jax_heard_stops_all(each):
    def run(processes):
        stop = processes.stop(lambda: False)
        before = stop()
        processes.exchange(None)
        if processes.lead:
            processes._store.key_value_set(shared_work._NOTICE, "now")
        processes.exchange(None)
        processes._looked = 0.0
        return before, stop()

    assert each(2, run) == [(False, True)] * 2
    assert each(2, run, shared_work._LockStep) == [(False, True)] * 2


def test_all_run_a_shared_stage_and_process_0_the_others_and_writes_artifacts(each, tmp_path):
    def make(processes, ran, stopped):
        def choose(work):
            ran.append("choose")
            (work.directory / "chosen").write_text("abcde")
            return {}

        def answer(work):
            ran.append("answer")
            order, among = (work.inputs["choose"] / "chosen").read_text(), work.processes
            results = SharedResults(
                work.directory / "rows.jsonl", key=lambda row: row["id"], order=order,
                processes=among,
            )  # fmt: skip
            for number in among.take(len(results.missing)):
                results.append({"id": results.missing[number]})
                if stopped:
                    break
            count = among.exchange(len(results.close(None)[0]))[0]
            if count < len(order):
                raise Interrupted
            return {"rows": count, "lead": among.lead}

        options = {"settings": {}}
        graph = Graph(
            [
                Stage(name="choose", needs=(), run=choose, **options),
                Stage(name="answer", needs=("choose",), run=answer, shared=True, **options),
            ]
        )
        store = ArtifactStore(tmp_path, graph)
        for name in graph.stages:
            if from_lead(processes, lambda name=name: store.state(name)) != "done":
                store.make(name, stop=lambda: False, processes=processes)

    def stopped(processes):
        ran = []
        with pytest.raises(Interrupted):
            make(processes, ran, stopped=True)
        return ran

    def whole(processes):
        ran = []
        make(processes, ran, stopped=False)
        return ran

    assert each(2, stopped) == [["choose", "answer"], ["answer"]]
    assert not (tmp_path / "answer").exists()
    assert each(1, stopped) == [["answer"]]
    assert each(3, whole) == [["answer"]] * 3
    assert each(2, whole) == [[], []]
    assert whole(ONE) == []
    described = read_json(tmp_path / "answer" / "artifact.json")
    assert described["summary"] == {"rows": 5, "lead": True}
    assert list(described["files"]) == ["rows.jsonl"]
    rows = (tmp_path / "answer" / "rows.jsonl").read_text()
    assert rows == "".join(f'{{"id": "{letter}"}}\n' for letter in "abcde")


def test_a_replica_lies_in_one_process_or_on_all(monkeypatch):
    assert shared_work.find(3) is ONE
    for name, value in (("process_count", 4), ("local_device_count", 4), ("device_count", 16)):
        monkeypatch.setattr(jax, name, lambda value=value: value)
    monkeypatch.setattr(shared_work, "global_state", types.SimpleNamespace(client=_Store()))
    assert shared_work.find(4).shared
    assert not shared_work.find(16).shared
    with pytest.raises(ValueError, match=r"tensor=8: a replica lies within one process"):
        shared_work.find(8)
