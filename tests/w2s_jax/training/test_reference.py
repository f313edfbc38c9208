"""Stored references: computed once, never stale, and DPO against them starts at log 2."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from leco_jax.models.llama import Llama
from leco_jax.models.sharding import make_mesh
from leco_jax.models.weights import init_params
from w2s_jax.training import reference
from w2s_jax.training.batch_scores import batch_stats
from w2s_jax.training.losses import sequence_sum
from w2s_jax.training.objectives import Objective
from w2s_jax.training.reference import frozen_copy, store_reference, weights_fingerprint
from w2s_jax.training.train_step import StepConfig, make_eval_step, place_batch, split_model


@pytest.fixture(scope="module")
def params(tiny):
    return init_params(tiny, jax.random.key(0))


def store(data, params, model, directory, mesh=None, num_steps=6):
    return store_reference(
        data,
        params,
        num_steps=num_steps,
        directory=directory,
        model=model,
        mesh=mesh or make_mesh(devices=jax.devices()[:1]),
    )


@pytest.mark.heavy
def test_stored_values_are_those_of_the_model(tiny, params, random_data, tmp_path):
    data = random_data(rows=3, pairs=True)
    stored = store(data, params, tiny, tmp_path)
    assert stored.fingerprint() == data.fingerprint()
    assert stored.num_steps_per_epoch == data.num_steps_per_epoch
    for step in (0, 5):  # Step 5 is in the second epoch.
        batch = data.batch(step)
        logprob = batch_stats(params, jax.tree.map(jnp.asarray, batch), config=tiny).logprob
        expected = sequence_sum(logprob, batch["loss_mask"])
        found = stored.batch(step)
        np.testing.assert_allclose(found.pop("reference_logprob"), expected, atol=1e-5)
        jax.tree.map(np.testing.assert_array_equal, found, batch)


@pytest.mark.heavy
def test_the_file_is_read_again_and_not_for_other_weights(
    tiny, params, random_data, tmp_path, monkeypatch
):
    data = random_data(rows=3, pairs=True)
    first = store(data, params, tiny, tmp_path)
    (path,) = tmp_path.iterdir()

    def refuse(*args, **kwargs):
        raise AssertionError("computed again")

    with monkeypatch.context() as patch:
        patch.setattr(reference, "row_logprobs", refuse)
        again = store(data, params, tiny, tmp_path)
        np.testing.assert_array_equal(
            first.batch(2)["reference_logprob"], again.batch(2)["reference_logprob"]
        )
        changed = jax.tree.map(lambda x: x, params)
        changed["final_norm"] = changed["final_norm"].at[3].add(1e-6)
        for other in (
            lambda: store(data, changed, tiny, tmp_path),
            lambda: store(random_data(rows=3, pairs=True, seed=9), params, tiny, tmp_path),
            lambda: store(data, params, tiny.replace(norm_eps=1e-4), tmp_path),
        ):
            with pytest.raises(AssertionError, match="computed again"):
                other()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.heavy
def test_rows_are_computed_once(tiny, params, random_data, tmp_path, monkeypatch):
    placed = []
    monkeypatch.setattr(
        reference, "place_batch", lambda *a, **k: placed.append(1) or place_batch(*a, **k)
    )
    store(random_data(rows=2, pairs=True, steps_per_epoch=2), params, tiny, tmp_path, num_steps=9)
    assert len(placed) == 2


def test_a_row_without_a_stored_value_is_an_error(tiny, params, random_data, tmp_path):
    data = random_data(rows=2, pairs=True)
    stored = store(data, params, tiny, tmp_path, num_steps=2)
    stored.batch(1)
    with pytest.raises(KeyError, match="step 3 holds an example without a stored reference"):
        stored.batch(3)


@pytest.mark.heavy
@pytest.mark.parametrize("sizes", [{}, {"data": 2, "fsdp": 2, "tensor": 2}])
def test_dpo_against_stored_values_starts_at_log_2(tiny, random_data, tmp_path, sizes):
    mesh = make_mesh(**sizes, devices=jax.devices()[: math.prod(sizes.values())])
    model = Llama(tiny, rngs=jax.random.key(0), mesh=mesh)
    stored = store(random_data(pairs=True), model.params, tiny, tmp_path, mesh)
    step = make_eval_step(
        graph=split_model(model)[0],
        objective=Objective(name="dpo", beta=0.1),
        mesh=mesh,
        config=StepConfig(reference="stored"),
    )
    with jax.set_mesh(mesh):
        found = step(model.params, {}, place_batch(stored.batch(1), mesh, pairs=True))
    assert abs(float(found["loss"]) - math.log(2)) < 1e-6


@pytest.mark.heavy
def test_fingerprint_of_weights_is_of_the_bits_and_not_of_the_mesh(tiny, params):
    found = weights_fingerprint(params)
    assert found == weights_fingerprint(
        init_params(tiny, jax.random.key(0), make_mesh(fsdp=4, tensor=2))
    )
    swapped = jax.tree.map(lambda x: x, params)
    swapped["embed"] = swapped["embed"][jnp.array([1, 0, *range(2, tiny.vocab_size)])]
    assert found != weights_fingerprint(swapped)
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
    assert found != weights_fingerprint(half)
    assert weights_fingerprint(params, dtype="bfloat16") == weights_fingerprint(half)


def test_a_frozen_copy_shares_nothing_and_keeps_norms_in_float32(tiny, params):
    copy = frozen_copy(params, tiny.replace(dtype="bfloat16"))
    assert copy["embed"].dtype == jnp.bfloat16
    assert copy["layers"]["attn_norm"].dtype == jnp.float32
    same = frozen_copy(params, tiny)
    for ours, theirs in zip(jax.tree.leaves(same), jax.tree.leaves(params), strict=True):
        assert ours.unsafe_buffer_pointer() != theirs.unsafe_buffer_pointer()
