"""One step: the same on every mesh and however it is cut; references; layouts of a batch."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from leco_jax.models.attention import causal_attend
from leco_jax.models.llama import Llama
from leco_jax.models.lora import LoraConfig
from leco_jax.models.sharding import make_mesh
from leco_jax.models.weights import init_params
from w2s_jax.training.batch_scores import batch_stats
from w2s_jax.training.objectives import Objective
from w2s_jax.training.optimizer import OptimizerConfig, make_optimizer, make_schedule
from w2s_jax.training.reference import frozen_copy
from w2s_jax.training.train_step import (
    StepConfig,
    init_state,
    make_eval_step,
    make_train_step,
    place_batch,
    split_model,
)

# Small: what is compared is a step, not how three of them magnify rounding.
OPTIMIZER = OptimizerConfig(learning_rate=1e-3, schedule="constant", weight_decay=0.1)
MESHES = {
    "one": {},
    "data": {"data": 8},
    "fsdp": {"fsdp": 8},
    "all": {"data": 2, "fsdp": 2, "tensor": 2},
}


def mesh_of(name):
    sizes = MESHES[name]
    return make_mesh(**sizes, devices=jax.devices()[: math.prod(sizes.values())])


def run(
    model,
    data,
    *,
    mesh="one",
    objective=None,
    steps=3,
    reference_weights=None,
    prepare=lambda model: None,
    **config,
):
    """Trains a few steps; gives each step's metrics, the last state and the step function."""
    mesh = mesh_of(mesh)
    objective = objective or Objective()
    module = Llama(model, rngs=jax.random.key(0), mesh=mesh)
    prepare(module)
    graph, trainable, rest = split_model(module)
    frozen = {"base": rest, "reference": reference_weights(mesh) if reference_weights else None}
    tx = make_optimizer(OPTIMIZER, 100)
    state, shardings = init_state(trainable, tx, mesh)
    step = make_train_step(
        graph=graph,
        objective=objective,
        tx=tx,
        schedule=make_schedule(OPTIMIZER, 100),
        mesh=mesh,
        shardings=shardings,
        config=StepConfig(**config),
    )
    found = []
    with jax.set_mesh(mesh):
        for i in range(steps):
            batch = place_batch(data.batch(i), mesh, pairs=objective.pairs)
            state, metrics = step(state, frozen, batch)
            found.append({k: float(v) for k, v in metrics.items()})
    return found, state, step


def assert_same(found, expected, rtol=2e-5):
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.keys() == theirs.keys()
        assert abs(ours["loss"] - theirs["loss"]) < 1e-5
        for name, value in theirs.items():
            np.testing.assert_allclose(ours[name], value, rtol=rtol, atol=2e-5, err_msg=name)


# --- the same step everywhere -----------------------------------------------------------------

DPO = Objective(name="dpo", beta=0.5)


def start(model):
    return lambda mesh: init_params(model, jax.random.key(7), mesh)


@pytest.fixture(scope="module")
def sft_on_one_device(tiny, random_data):
    return run(tiny, random_data())[0]


@pytest.fixture(scope="module")
def dpo_on_one_device(tiny, random_data):
    data = random_data(pairs=True)
    return run(tiny, data, objective=DPO, reference="frozen", reference_weights=start(tiny))[0]


@pytest.mark.heavy
@pytest.mark.parametrize(
    "mesh",
    [*(pytest.param(axis, marks=pytest.mark.slow) for axis in ("data", "fsdp")), "all"],
)
def test_sft_gives_the_same_numbers_on_every_mesh(tiny, random_data, sft_on_one_device, mesh):
    found, state, _ = run(tiny, random_data(), mesh=mesh)
    assert_same(found, sft_on_one_device)
    if mesh != "data":
        # No device holds a weight that could be sharded as a whole.
        weight = state.trainable["layers"]["up_proj"]
        moments = [x for x in jax.tree.leaves(state.opt_state) if x.shape == weight.shape]
        assert len(moments) == 4  # two moments each of up_proj and gate_proj
        for x in (weight, *moments):
            assert max(shard.data.size for shard in x.addressable_shards) < x.size


@pytest.mark.heavy
def test_dpo_gives_the_same_numbers_on_every_mesh(tiny, random_data, dpo_on_one_device):
    data = random_data(pairs=True)
    found, *_ = run(
        tiny, data, objective=DPO, mesh="all", reference="frozen", reference_weights=start(tiny)
    )
    assert_same(found, dpo_on_one_device)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("mesh", "pairs"),
    [
        ("one", False),
        ("all", True),
        pytest.param("all", False, marks=pytest.mark.slow),
        pytest.param("one", True, marks=pytest.mark.slow),
    ],
)
def test_leaving_out_what_no_loss_reads_changes_nothing(tiny, random_data, mesh, pairs):
    class LateData(random_data):
        """The loss reads up to five positions at the end of a row, and none of some rows."""

        def batch(self, step):
            batch = super().batch(step)
            ends = (batch["segment_ids"] > 0).sum(axis=1, keepdims=True)
            late = np.arange(self.length)[None] >= ends - 5
            batch["loss_mask"] *= late
            batch["loss_mask"][1] = 0
            return batch

    data = LateData(pairs=pairs)
    options = (
        {"objective": DPO, "reference": "frozen", "reference_weights": start(tiny)} if pairs else {}
    )
    options |= {"stats": ("entropy", "max_logprob")}
    every, *_ = run(tiny, data, mesh=mesh, **options)
    some, *_ = run(tiny, data, mesh=mesh, most_scored=5, **options)
    assert_same(some, every)


@pytest.mark.heavy
def test_orpo_over_prompts_scores_them_whatever_the_loss_mask_says(tiny, random_data):
    data = random_data(pairs=True)
    objective = Objective(name="orpo", nll="all")
    every, *_ = run(tiny, data, objective=objective)
    some, *_ = run(tiny, data, objective=objective, most_scored=5)
    assert_same(some, every)


@pytest.mark.heavy
@pytest.mark.parametrize(("mesh", "parts"), [("one", 4), ("all", 2)])
def test_a_batch_in_parts_gives_the_same_step(tiny, random_data, sft_on_one_device, parts, mesh):
    found, *_ = run(tiny, random_data(), accumulate=parts, mesh=mesh)
    assert_same(found, sft_on_one_device)


@pytest.mark.heavy
def test_pairs_in_parts_give_the_same_step(tiny, random_data, dpo_on_one_device):
    data = random_data(pairs=True)
    found, *_ = run(
        tiny, data, objective=DPO, accumulate=2, reference="frozen", reference_weights=start(tiny)
    )
    assert_same(found, dpo_on_one_device)


@pytest.mark.heavy
@pytest.mark.parametrize("remat", ["none", "dots_no_batch"])
def test_what_is_recomputed_changes_nothing(tiny, random_data, sft_on_one_device, remat):
    found, *_ = run(tiny, random_data(), remat=remat)
    assert_same(found, sft_on_one_device)


def test_a_batch_that_cannot_be_cut_is_refused(tiny, random_data):
    with pytest.raises(ValueError, match="8 rows cannot be cut into 3 equal parts"):
        run(tiny, random_data(), accumulate=3)


@pytest.mark.heavy
def test_one_program_for_the_whole_run(tiny, random_data):
    _, state, step = run(tiny, random_data(), mesh="all", steps=5)
    assert step._cache_size() == 1
    assert int(state.step) == 5


@pytest.mark.heavy
def test_the_state_is_donated(tiny, random_data):
    held = []
    run(tiny, random_data(), mesh="fsdp", steps=1, prepare=held.append)
    assert all(x.is_deleted() for x in jax.tree.leaves(held[0].params))


@pytest.mark.heavy
def test_bfloat16_compute_keeps_float32_masters(tiny, random_data, sft_on_one_device):
    found, state, _ = run(tiny.replace(dtype="bfloat16"), random_data(), mesh="all")
    assert {x.dtype.name for x in jax.tree.leaves(state.trainable)} == {"float32"}
    assert found[0]["loss"] != sft_on_one_device[0]["loss"]
    for ours, theirs in zip(found, sft_on_one_device, strict=True):
        np.testing.assert_allclose(ours["loss"], theirs["loss"], atol=0.03)


# --- references -------------------------------------------------------------------------------


@pytest.mark.heavy
@pytest.mark.parametrize("mesh", ["one", "all"])
def test_dpo_starts_at_log_2_against_a_frozen_copy(tiny, random_data, mesh):
    def same(mesh):
        return frozen_copy(init_params(tiny, jax.random.key(0), mesh), tiny)

    found, *_ = run(
        tiny,
        random_data(pairs=True, steps_per_epoch=1),
        objective=Objective(name="dpo", beta=0.1),
        mesh=mesh,
        reference="frozen",
        reference_weights=same,
    )
    assert abs(found[0]["loss"] - math.log(2)) < 1e-6
    assert abs(found[0]["rewards/margins"]) < 1e-5
    assert found[2]["loss"] < math.log(2) - 1e-3


@pytest.mark.heavy
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_dpo_starts_at_log_2_with_lora_off_as_reference(tiny, random_data, dropout):
    lora = LoraConfig(rank=2, dropout=dropout)
    found, state, _ = run(
        tiny,
        random_data(pairs=True),
        objective=Objective(name="dpo", beta=0.1),
        mesh="all",
        reference="lora_off",
        prepare=lambda model: model.add_adapters(lora, rngs=jax.random.key(1), mesh=mesh_of("all")),
    )
    assert set(state.trainable["adapters"]) == set(lora.targets)
    # Fresh adapters change nothing, whatever they drop.
    assert abs(found[0]["loss"] - math.log(2)) < 1e-6
    assert found[1]["loss"] != pytest.approx(math.log(2), abs=1e-5)


@pytest.mark.heavy
@pytest.mark.parametrize("name", ["ipo", "simpo", "orpo"])
def test_training_widens_the_margin(tiny, random_data, name):
    needs = Objective(name=name).needs_reference
    found, *_ = run(
        tiny,
        random_data(pairs=True, steps_per_epoch=1),
        objective=Objective(name=name, beta=0.5),
        reference="frozen" if needs else "none",
        reference_weights=start(tiny) if needs else None,
    )
    assert found[2]["rewards/margins"] > found[0]["rewards/margins"]


@pytest.mark.parametrize(
    ("objective", "reference", "message"),
    [
        (Objective(), "frozen", "'sft' has no use for a reference"),
        (DPO, "none", "'dpo' needs a reference"),
    ],
)
def test_reference_and_objective_must_fit(tiny, random_data, objective, reference, message):
    with pytest.raises(ValueError, match=message):
        run(tiny, random_data(pairs=objective.pairs), objective=objective, reference=reference)


def test_bad_step_options_are_refused():
    with pytest.raises(ValueError, match="accumulate=0"):
        StepConfig(accumulate=0)
    with pytest.raises(ValueError, match="reference 'ema' is not one of none, frozen"):
        StepConfig(reference="ema")


# --- evaluation and layouts -------------------------------------------------------------------


@pytest.mark.heavy
def test_evaluation_is_the_loss_of_the_step_without_dropout(tiny, random_data):
    mesh = mesh_of("all")
    lora = LoraConfig(rank=2, dropout=0.5)

    def prepare(model):
        model.add_adapters(lora, rngs=jax.random.key(1), mesh=mesh)
        nnx.update(model, jax.tree.map(lambda x: x + 0.1, nnx.state(model, nnx.LoRAParam)))

    model = Llama(tiny, rngs=jax.random.key(0), mesh=mesh)
    prepare(model)
    graph, adapters, base = split_model(model)
    step = make_eval_step(graph=graph, objective=Objective(), mesh=mesh, config=StepConfig())
    data = random_data()
    with jax.set_mesh(mesh):
        batch = place_batch(data.batch(0), mesh, pairs=False)
        first = step(adapters, {"base": base}, batch)
        again = step(adapters, {"base": base}, batch)
    assert float(first["loss"]) == float(again["loss"])
    found, *_ = run(
        tiny,
        data,
        mesh="all",
        steps=1,
        prepare=prepare,
    )
    assert abs(found[0]["loss"] - float(first["loss"])) > 1e-4


@pytest.mark.heavy
def test_plain_padded_and_packed_rows_have_the_same_log_probabilities(tiny):
    params = init_params(tiny, jax.random.key(0))
    random = np.random.default_rng(3)
    documents = [random.integers(0, tiny.vocab_size, n + 1) for n in (5, 7, 4)]

    def row(parts, length, left=0):
        fields = {
            k: np.zeros(length, np.int32) for k in ("tokens", "targets", "positions", "segment_ids")
        }
        at = left
        for number, ids in enumerate(parts, 1):
            span = slice(at, at + len(ids) - 1)
            fields["tokens"][span], fields["targets"][span] = ids[:-1], ids[1:]
            fields["positions"][span] = np.arange(len(ids) - 1)
            fields["segment_ids"][span] = number
            at = span.stop
        return {k: jnp.array(v)[None] for k, v in fields.items()}

    def logprobs(batch):
        found = batch_stats(params, batch, config=tiny).logprob
        return np.asarray(found)[np.asarray(batch["segment_ids"]) > 0]

    plain = np.concatenate([logprobs(row([ids], len(ids) - 1)) for ids in documents])
    padded = np.concatenate([logprobs(row([ids], 20)) for ids in documents])
    left = np.concatenate([logprobs(row([ids], 20, left=6)) for ids in documents])
    packed = logprobs(row(documents, 20))
    for other in (padded, left, packed):
        np.testing.assert_allclose(other, plain, atol=2e-5)


@pytest.mark.heavy
@pytest.mark.parametrize("window", [None, 5])
def test_attention_in_blocks_is_attention(tiny, window):
    config = tiny.replace(sliding_window=window)
    keys = jax.random.split(jax.random.key(0), 3)
    q, k, v = (
        jax.random.normal(key, (2, 22, heads, 4))
        for key, heads in zip(keys, (4, 2, 2), strict=True)
    )
    segments = jnp.array([[1] * 9 + [2] * 10 + [0] * 3, [1] * 22])
    positions = jnp.array([[*range(9), *range(10), 0, 0, 0], [*range(22)]])
    whole = causal_attend(positions, config, segment_ids_BT=segments)

    def out(attend):
        def loss(q, k, v):
            return jnp.sum(
                jnp.where(segments[..., None, None] > 0, attend(q, k, v, None)[0], 0) ** 2
            )

        return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))(q, k, v)

    expected = out(whole)
    for block in (8, 22, 64):
        found = out(causal_attend(positions, config, segment_ids_BT=segments, block=block))
        for ours, theirs in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_a_pair_lives_on_one_device(random_data):
    mesh = mesh_of("data")
    batch = random_data(pairs=True).batch(0)
    placed = place_batch(batch, mesh, pairs=True)
    assert placed["tokens"].shape == (8, 2, 12)
    for i in range(8):
        np.testing.assert_array_equal(placed["tokens"][i, 0], batch["tokens"][i])
        np.testing.assert_array_equal(placed["tokens"][i, 1], batch["tokens"][8 + i])
    assert {shard.data.shape for shard in placed["tokens"].addressable_shards} == {(1, 2, 12)}
