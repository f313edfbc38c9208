import jax
import jax.numpy as jnp
import numpy as np
import pytest

from leco_jax.models import transformer
from leco_jax.models.architectures import preset
from leco_jax.models.attention import causal_attend
from leco_jax.models.weights import init_params
from w2s_jax.training import data
from w2s_jax.training.data.sources import Order


@pytest.fixture(scope="module")
def encoded(examples, tokenizer):
    return data.encode_examples(examples, tokenizer, length=256)


def _completions(batch):
    """The target ids of every completion in a batch."""
    found = []
    for r in range(len(batch["tokens"])):
        for segment in range(1, batch["segment_ids"][r].max(initial=0) + 1):
            here = (batch["segment_ids"][r] == segment) & (batch["loss_mask"][r] > 0)
            found.append(tuple(batch["targets"][r][here].tolist()))
    return found


def test_a_row_by_hand():
    encoded = data.Encoded(
        tokens=np.array([1, 5, 6, 7, 2, 1, 8, 2], np.int32),
        ends=np.array([5, 8]),
        prompts=np.array([2, 1], np.int32),
        pad_id=2,
        cut_prompts=0,
        cut_completions=0,
    )
    source = data.ExampleSource(encoded, rows=1, length=8, packed=True)
    batch = source.batch(0)
    assert batch["tokens"].tolist() == [[1, 5, 6, 7, 1, 8, 2, 2]]
    assert batch["targets"].tolist() == [[5, 6, 7, 2, 8, 2, 2, 2]]
    # EOS is learnt although it is also the pad.
    assert batch["loss_mask"].tolist() == [[0, 1, 1, 1, 1, 1, 0, 0]]
    assert batch["positions"].tolist() == [[0, 1, 2, 3, 0, 1, 0, 0]]
    assert batch["segment_ids"].tolist() == [[1, 1, 1, 1, 2, 2, 0, 0]]
    assert {k: v.dtype.name for k, v in batch.items()} == {
        "tokens": "int32",
        "targets": "int32",
        "loss_mask": "float32",
        "positions": "int32",
        "segment_ids": "int32",
    }


@pytest.mark.parametrize("packed", [False, True])
def test_an_epoch_sees_every_example_once_in_a_new_order(encoded, packed):
    source = data.ExampleSource(encoded, rows=7, length=256, packed=packed, seed=3)
    steps = source.num_steps_per_epoch
    rows = [r for s in range(2 * steps) for r in _completions(source.batch(s))]
    wanted = sorted(
        tuple(encoded.sequence(i)[encoded.prompts[i] :].tolist()) for i in range(len(encoded))
    )
    assert len(encoded) % 7
    assert sorted(rows[: len(encoded)]) == wanted
    assert sorted(rows[len(encoded) : 2 * len(encoded)]) == wanted
    assert rows[:8] != rows[len(encoded) : len(encoded) + 8]

    # Evaluation goes through one epoch, and its last batch is filled up with padding.
    alone = data.ExampleSource(encoded, rows=7, length=256, packed=packed, seed=3, once=True)
    assert alone.num_steps_per_epoch == steps
    batches = [alone.batch(step) for step in range(steps)]
    assert [r for batch in batches for r in _completions(batch)] == rows[: len(encoded)]
    assert {len(batch["tokens"]) for batch in batches} == {7}
    assert not alone.batch(steps)["segment_ids"].any()
    assert alone.fingerprint() != source.fingerprint()


def test_a_batch_depends_on_its_step_alone(encoded):
    def make(seed=5):
        return data.ExampleSource(encoded, rows=4, length=256, packed=True, seed=seed)

    one, other = make(), make()
    for step in (40, 3, 1000):
        for _ in range(2):
            other.batch(step + 1)
        for name, value in one.batch(step).items():
            np.testing.assert_array_equal(value, other.batch(step)[name])
    assert any((one.batch(0)[k] != make(seed=6).batch(0)[k]).any() for k in ("tokens",))


def test_epochs_follow_each_other_without_a_gap():
    order = Order(5, seed=0)
    items = order.items(0, 15)
    assert [sorted(items[i : i + 5]) for i in (0, 5, 10)] == [list(range(5))] * 3
    np.testing.assert_array_equal(order.items(3, 12), items[3:12])


def test_a_process_gets_its_rows_of_the_batch_in_their_order(encoded, pairs, tokenizer):
    mine = np.array([1, 2, 7])
    options = {"rows": 8, "length": 256, "seed": 1}
    whole = data.ExampleSource(encoded, **options).batch(2)
    part = data.ExampleSource(encoded, process_rows=mine, **options).batch(2)
    for name in whole:
        np.testing.assert_array_equal(part[name], whole[name][mine])
    sides = data.encode_pairs(pairs, tokenizer, length=256)
    whole = data.PairSource(sides, **options).batch(1)
    part = data.PairSource(sides, process_rows=mine, **options).batch(1)
    for name in whole:
        np.testing.assert_array_equal(part[name], whole[name][[*mine, *(mine + 8)]])


def test_pairs_stand_chosen_first_with_the_same_prompt(pairs, tokenizer):
    encoded = data.encode_pairs(pairs, tokenizer, length=256)
    source = data.PairSource(encoded, rows=4, length=256, seed=2)
    batch = source.batch(0)
    assert batch["tokens"].shape == (8, 256)
    chosen = {tuple(tokenizer.encode(p.prompt + p.chosen)[-5:]) for p in pairs}
    for i in range(4):
        prompts = [
            batch["tokens"][r][: int(np.argmax(batch["loss_mask"][r] > 0)) + 1].tolist()
            for r in (i, i + 4)
        ]
        assert prompts[0] == prompts[1]
        targets = batch["targets"][i][batch["loss_mask"][i] > 0]
        assert tuple(targets[-6:-1].tolist()) in chosen
        text = tokenizer.decode(batch["tokens"][i][batch["segment_ids"][i] > 0][1:])
        assert text in {p.prompt + p.chosen for p in pairs}
    assert source.num_steps_per_epoch == len(pairs) // 4
    once = data.PairSource(encoded, rows=7, length=256, seed=2, once=True)
    last = once.batch(once.num_steps_per_epoch - 1)
    real = len(pairs) % 7
    assert last["loss_mask"].any(axis=1).tolist() == 2 * ([True] * real + [False] * (7 - real))


def test_fingerprints_tell_what_decides_the_batches(encoded, pairs, tokenizer):
    def of(encoded=encoded, **options):
        return data.ExampleSource(encoded, **{"rows": 4, "length": 256, **options}).fingerprint()

    assert of() == of(process_rows=np.arange(2))
    others = [of(rows=8), of(length=300), of(packed=True), of(seed=1)]
    assert len({of(), *others}) == 5
    side = data.encode_pairs(pairs, tokenizer, length=256)
    assert data.PairSource(side, rows=4, length=256).fingerprint() != of()


def test_data_encoded_for_longer_rows_is_refused(encoded, pairs, tokenizer):
    with pytest.raises(ValueError, match="more than length=64"):
        data.ExampleSource(encoded, rows=4, length=64)
    with pytest.raises(ValueError, match="more than length=64"):
        data.PairSource(data.encode_pairs(pairs, tokenizer, length=256), rows=4, length=64)


@pytest.mark.heavy
def test_plain_padded_and_packed_batches_give_the_same_loss(encoded):
    config = preset("tiny", vocab_size=560)
    params = init_params(config, jax.random.key(0))

    @jax.jit
    def per_token(batch):
        attend = causal_attend(batch["positions"], config, segment_ids_BT=batch["segment_ids"])
        hidden, _ = transformer.forward(
            params, batch["tokens"], batch["positions"], config=config, attend=attend
        )
        logprobs = jax.nn.log_softmax(transformer.logits(params, hidden, config=config))
        found = jnp.take_along_axis(logprobs, batch["targets"][..., None], axis=-1)[..., 0]
        return found * batch["loss_mask"]

    def losses(source, steps):
        """Each completion's loss, by its target ids."""
        found = {}
        for step in range(steps):
            batch = source.batch(step)
            values = np.asarray(per_token(batch))
            for r, segments in enumerate(batch["segment_ids"]):
                for segment in range(1, segments.max(initial=0) + 1):
                    here = segments == segment
                    key = (*batch["tokens"][r][here], *batch["targets"][r][here][-1:])
                    found[key] = -values[r][here].sum()
        return found

    few = data.Encoded(
        tokens=encoded.tokens[: encoded.ends[11]],
        ends=encoded.ends[:12],
        prompts=encoded.prompts[:12],
        pad_id=encoded.pad_id,
        cut_prompts=0,
        cut_completions=0,
    )
    padded = data.ExampleSource(few, rows=4, length=300)
    packed = data.ExampleSource(few, rows=2, length=512, packed=True)
    assert packed.num_steps_per_epoch * 2 < 12
    expected = losses(padded, 3)
    ours = losses(packed, packed.num_steps_per_epoch)
    assert set(ours) == set(expected)
    assert len(ours) == 12
    for key, loss in ours.items():
        assert loss == pytest.approx(expected[key], rel=1e-5)
    for i in (0, 5):
        # Plain: one sequence, no padding, no segments.
        one = data.Encoded(few.sequence(i), np.array([few.lengths[i]]), few.prompts[[i]], 0, 0, 0)
        plain = data.ExampleSource(one, rows=1, length=int(few.lengths[i]) - 1).batch(0)
        assert plain["segment_ids"].all()
        assert -per_token(plain).sum() == pytest.approx(
            expected[tuple(few.sequence(i).tolist())], rel=1e-5
        )


def test_no_row_has_more_scored_positions_than_the_source_says(encoded, pairs, tokenizer):
    sources = [
        data.ExampleSource(encoded, rows=3, length=256),
        data.PairSource(data.encode_pairs(pairs, tokenizer, length=256), rows=3, length=256),
    ]
    for source in sources:
        steps = range(source.num_steps_per_epoch)
        assert source.most_scored < 256
        most = max(int(source.batch(step)["loss_mask"].sum(axis=1).max()) for step in steps)
        assert most == source.most_scored
    assert data.ExampleSource(encoded, rows=3, length=256, packed=True).most_scored == 256
