import json
import os
import shutil
import socket

import pytest

from leco_jax.storage.jsonl import write_rows
from w2s_jax.pipeline.artifacts import ArtifactStore
from w2s_jax.pipeline.graph import Cost, Graph, Interrupted, Stage, StageError


def stage(name, *needs, value=0, calls=None, fail=None):
    def run(work):
        if calls is not None:
            calls.append(name)
        inputs = sum(int((path / "value").read_text()) for path in work.inputs.values())
        (work.directory / "value").write_text(str(inputs + value))
        if fail:
            raise fail
        return {"value": inputs + value}

    return Stage(name=name, needs=needs, settings={"value": value}, run=run)


def diamond(calls, *, left=2, fail=None):
    return Graph(
        [
            stage("top", value=1, calls=calls),
            stage("left", "top", value=left, calls=calls),
            stage("right", "top", value=3, calls=calls, fail=fail),
            stage("bottom", "left", "right", calls=calls),
        ]
    )


def make_all(graph, directory, names=None):
    store = ArtifactStore(directory, graph)
    for name in names or graph.stages:
        if store.state(name) != "done":
            store.make(name, stop=lambda: False)
    return store


def test_each_stage_is_made_once_and_its_summary_kept(tmp_path):
    calls = []
    store = make_all(diamond(calls), tmp_path)
    assert calls == ["top", "left", "right", "bottom"]
    assert store.summary("bottom") == {"value": 1 + 2 + 1 + 3}
    make_all(diamond(calls), tmp_path)
    assert len(calls) == 4
    assert list((tmp_path / ".partial").iterdir()) == []


def test_a_change_redoes_what_depends_on_it_and_nothing_else(tmp_path):
    calls = []
    make_all(diamond(calls), tmp_path)
    del calls[:]
    changed = diamond(calls, left=20)
    store = ArtifactStore(tmp_path, changed)
    states = {name: store.state(name) for name in changed.stages}
    assert states == {"top": "done", "left": "stale", "right": "done", "bottom": "stale"}
    store = make_all(changed, tmp_path)
    assert calls == ["left", "bottom"]
    assert store.summary("bottom")["value"] == 25


def test_the_description_names_what_it_was_made_from(tmp_path):
    graph = diamond([])
    store = make_all(graph, tmp_path)
    described = json.loads((store.path("left") / "artifact.json").read_text())
    assert described["key"] == graph.keys["left"]
    assert described["made_from"] == {"top": graph.keys["top"]}
    assert described["settings"] == {"value": 2}


def test_an_interrupted_stage_is_begun_and_goes_on_in_its_directory(tmp_path):
    broken = diamond([], fail=Interrupted())
    store = ArtifactStore(tmp_path, broken)
    store.make("top", stop=lambda: True)
    with pytest.raises(Interrupted):
        store.make("right", stop=lambda: True)
    assert store.state("right") == "begun"
    assert not store.path("right").exists()
    whole = diamond([])
    (begun,) = (tmp_path / ".partial").glob("right-*")
    (begun / "from_before").touch()
    store = make_all(whole, tmp_path, ["left", "right"])
    assert (store.path("right") / "from_before").exists()


def test_what_was_begun_with_other_settings_is_not_gone_on_with(tmp_path):
    for left, fail in ((2, Interrupted()), (5, None)):
        graph = Graph([stage("left", value=left, fail=fail)])
        store = ArtifactStore(tmp_path, graph)
        if fail:
            with pytest.raises(Interrupted):
                store.make("left", stop=lambda: False)
        else:
            store.make("left", stop=lambda: False)
    assert store.summary("left") == {"value": 5}
    assert list((tmp_path / ".partial").iterdir()) == []


def test_a_whole_artifact_left_in_the_making_is_put_in_place(tmp_path):
    calls = []
    graph = Graph([stage("left", value=2, calls=calls)])
    store = make_all(graph, tmp_path)
    # As if the process had been killed between the description and the renaming.
    store.path("left").rename(tmp_path / ".partial" / f"left-{graph.keys['left']}")
    assert store.state("left") == "begun"
    make_all(graph, tmp_path)
    assert calls == ["left"]
    assert store.state("left") == "done"


def test_a_stage_without_its_needs_names_them(tmp_path):
    store = ArtifactStore(tmp_path, diamond([]))
    with pytest.raises(StageError, match=r"'bottom' needs left, right first.*--until=bottom"):
        store.make("bottom", stop=lambda: False)


def test_until_keeps_to_what_is_needed():
    graph = diamond([])
    assert graph.until("right") == ["top", "right"]
    assert graph.until("bottom") == ["top", "left", "right", "bottom"]
    with pytest.raises(StageError, match="no stage 'other'; there are: top, left"):
        graph.until("other")


def test_a_graph_out_of_order_is_refused():
    with pytest.raises(StageError, match="'left' needs 'top', which is not before it"):
        Graph([stage("left", "top"), stage("top")])
    with pytest.raises(StageError, match="two stages are called 'top'"):
        Graph([stage("top"), stage("top")])


def test_costs_add_up():
    assert Cost(1, 2) + Cost(3, 4) == Cost(4, 6)
    assert sum([Cost(1, 2), Cost(3, 4)], start=Cost()) == Cost(4, 6)


def damaged(tmp_path, damage):
    """What a finished diamond says after one file of "left" was damaged, and its states."""

    def run(work):
        (work.directory / "run").mkdir(exist_ok=True)
        (work.directory / "run" / "shard").write_bytes(b"x" * 3_000_000)
        write_rows(work.directory / "rows.jsonl", [{"id": str(i)} for i in range(50)])
        return {}

    left = Stage(name="left", needs=(), settings={}, run=run)
    right = Stage(name="right", needs=("left",), settings={}, run=lambda work: {})
    graph = Graph([left, right])
    store = make_all(graph, tmp_path, ["left"])
    store.check("left")
    damage(store.path("left"))
    assert store.state("left") == "damaged"
    for call in (lambda: store.check("left"), lambda: store.make("right", stop=lambda: False)):
        with pytest.raises(StageError) as caught:
            call()
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(f": remove {store.path('left')} to have it made again")
    shutil.rmtree(store.path("left"))
    make_all(graph, tmp_path)
    return str(caught.value)


def test_a_cut_file_is_named_with_its_stage_and_what_to_remove(tmp_path):
    said = damaged(tmp_path, lambda path: os.truncate(path / "rows.jsonl", 300))
    assert said.startswith(
        f"stage 'left': {tmp_path / 'left' / 'rows.jsonl'} has 300 bytes, and 640"
    )
    assert " in 50 rows were written" in said


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: os.truncate(path / "run" / "shard", 2_000_000), "shard has 2,000,000 bytes"),
        (lambda path: (path / "run" / "shard").unlink(), "shard is missing"),
        (lambda path: (path / "run" / "shard").write_bytes(b"x" * 2_999_999 + b"y"), "has changed"),
        (lambda path: (path / "rows.jsonl").unlink(), "rows.jsonl is missing"),
        (lambda path: os.truncate(path / "artifact.json", 100), "artifact.json: not valid JSON"),
        (lambda path: os.truncate(path / "artifact.json", 0), "artifact.json: not valid JSON"),
    ],
)
def test_damage_of_every_kind_is_named(tmp_path, damage, reason):
    assert reason in damaged(tmp_path, damage)


def test_an_artifact_of_another_config_is_stale_whatever_became_of_it(tmp_path):
    make_all(diamond([]), tmp_path)
    (tmp_path / "left" / "value").unlink()
    store = ArtifactStore(tmp_path, diamond([], left=20))
    assert store.state("left") == "stale"
    assert make_all(diamond([], left=20), tmp_path).state("left") == "done"


def test_drafts_of_a_killed_writer_do_not_come_into_an_artifact(tmp_path):
    def run(work):
        draft = work.directory / f".value-{socket.gethostname()}-1234.tmp.json"
        draft.touch()
        return {}

    store = make_all(Graph([Stage(name="left", needs=(), settings={}, run=run)]), tmp_path)
    assert [path.name for path in store.path("left").iterdir()] == ["artifact.json"]
