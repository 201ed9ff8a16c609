import numpy as np
import pytest
import torch
from sklearn.model_selection import train_test_split
from tests.conftest import make_images, with_fields

from cifarlab.config import Config, DataConfig, TrainConfig
from cifarlab.data import ImageSet, SourceData
from cifarlab.data.loader import BatchLoader, make_plan
from cifarlab.data.splits import make_splits, stratified_split
from cifarlab.errors import DataError


def numbered(count: int, num_classes: int = 4) -> ImageSet:
    """Images that carry their own number in the first pixels."""
    images = torch.zeros(count, 3, 8, 8, dtype=torch.uint8)
    images[:, 0, 0, 0], images[:, 0, 0, 1] = torch.arange(count) % 256, torch.arange(count) // 256
    return ImageSet(images, torch.arange(count) % num_classes, tuple("abcdefgh"[:num_classes]))


def numbers(images: ImageSet) -> set[int]:
    return set((images.images_NCHW[:, 0, 0, 0].int() + 256 * images.images_NCHW[:, 0, 0, 1].int()).tolist())


def source(count=400, test=None):
    return SourceData(numbered(count), None, test, "x")


def test_splits_are_disjoint_complete_and_stratified():
    splits = make_splits(source(), DataConfig())
    parts = [numbers(part) for part in (splits.train, splits.val, splits.test)]
    assert sorted(map(len, parts)) == [36, 40, 324]
    assert set.union(*parts) == set(range(400))
    assert sum(map(len, parts)) == 400
    for part in (splits.train, splits.val, splits.test):
        assert part.class_counts.max() - part.class_counts.min() <= 1


def test_a_source_with_its_own_test_set_keeps_it():
    test = numbered(40)
    splits = make_splits(source(test=test), DataConfig())
    assert splits.test is test
    assert len(splits.val) == 40


def test_the_split_follows_its_seed_and_nothing_else():
    hashes = [make_splits(source(), DataConfig(split_seed=seed)).sha256 for seed in (0, 0, 1)]
    assert hashes[0] == hashes[1] != hashes[2]
    assert make_splits(source(), DataConfig(train_limit=100)).sha256 != hashes[0]


def test_the_hash_is_frozen():
    # A change here means that every earlier run's val images are no longer its val images.
    assert make_splits(source(), DataConfig()).sha256[:16] == "29f1a8dd34379326"


def test_no_validation_split_on_request():
    splits = make_splits(source(test=numbered(40)), DataConfig(val_fraction=0))
    assert splits.val is None
    assert numbers(splits.train) == set(range(400))


def test_limit_is_stratified_and_taken_from_train_only():
    splits = make_splits(source(), DataConfig(train_limit=100))
    assert splits.train.class_counts.tolist() == [25] * 4
    assert not numbers(splits.train) & (numbers(splits.val) | numbers(splits.test))


def test_too_few_images_say_so():
    with pytest.raises(DataError, match="cannot split 6 images of 4 classes to hold out 1 for test"):
        make_splits(source(6), DataConfig())
    odd = ImageSet(numbered(40).images_NCHW, numbered(40).labels_N, tuple("abcde"))
    with pytest.raises(DataError, match="no training image for class e"):
        make_splits(SourceData(odd, None, None, "x"), DataConfig(val_fraction=0, test_fraction=0))


def test_too_low_a_limit_says_so():
    with pytest.raises(DataError, match=r"to hold out 3 for training; add images, or change data\.train_limit$"):
        make_splits(source(), DataConfig(train_limit=3))
    rare = ImageSet(numbered(102).images_NCHW, (torch.arange(102) < 2).long(), ("a", "b"))
    config = DataConfig(train_limit=10, val_fraction=0, test_fraction=0)
    with pytest.raises(DataError, match=r"no training image for class b; raise data\.train_limit$"):
        make_splits(SourceData(rare, None, None, "x"), config)


def test_stratified_split_is_sorted_and_partitions():
    first, second = stratified_split(torch.arange(50) % 5, 0.3, 0, "x")
    assert torch.equal(torch.cat([first, second]).sort().values, torch.arange(50))
    assert torch.equal(first, first.sort().values)


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (torch.zeros(2, 3, 4, 4), torch.zeros(2, dtype=torch.int64)),
        (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64)),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64)),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([0, 1])),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([0, -1])),
    ],
)
def test_an_image_set_refuses_what_it_is_not(images, labels):
    with pytest.raises(DataError):
        ImageSet(images, labels, ("a",))


def test_hash_tells_images_and_labels_apart():
    one = numbered(8)
    swapped = ImageSet(one.images_NCHW, one.labels_N.flip(0), one.class_names)
    assert one.sha256() == numbered(8).sha256() != swapped.sha256()


@pytest.mark.parametrize(
    ("images", "batch", "epochs", "expected"),
    [
        (100, 30, 2, (30, 3, 6, 2)),
        (100, 30, 0.5, (30, 3, 2, 1)),
        (10, 30, 3, (10, 1, 3, 3)),
        (100, 30, 0.01, (30, 3, 1, 1)),
    ],
)
def test_plan(images, batch, epochs, expected):
    plan = make_plan(Config(train=TrainConfig(epochs=epochs, batch_size=batch)), images)
    assert (plan.batch_size, plan.steps_per_epoch, plan.num_steps, plan.num_epochs) == expected


def test_an_epoch_takes_every_image_once_and_epochs_differ(config):
    train = numbered(108)
    loader = BatchLoader(train, with_fields(config, augment__flip="none"), torch.device("cpu"))
    seen = []
    for step in range(8):
        images, _, labels = loader.batch(step)
        pixels = (images[:, 0, 0, :2] * 255).round().int()
        batch = (pixels[:, 0] + 256 * pixels[:, 1]).tolist()
        assert torch.equal(labels, train.labels_N[batch])
        seen.append(batch)
    first, second = [i for b in seen[:4] for i in b], [i for b in seen[4:] for i in b]
    assert sorted(first) == sorted(second) == list(range(108))
    assert first != second


def test_batches_can_be_asked_in_any_order(config):
    train = make_images(108, seed=0)
    one, other = (BatchLoader(train, config, torch.device("cpu")) for _ in range(2))
    expected = [one.batch(step)[0] for step in range(8)]
    for step in (7, 0, 5, 3):
        assert torch.equal(other.batch(step)[0], expected[step])


def test_alternating_flip_shows_both_sides_in_two_epochs(config):
    train = make_images(108, seed=0)
    config = with_fields(config, augment__flip="alternating")
    loader = BatchLoader(train, config, torch.device("cpu"))

    def shown(epoch):
        batches = [loader.batch(4 * epoch + position)[0] for position in range(4)]
        order = loader._order_N
        restored = torch.empty(108, 3, 16, 16)
        restored[order] = torch.cat([batch.contiguous() for batch in batches])
        return restored

    first, second, third = (shown(epoch) for epoch in range(3))
    assert torch.equal(first, second.flip(-1))
    assert torch.equal(first, third)
    flipped = (first != train.images_NCHW.float() / 255).flatten(1).any(1).float().mean()
    assert 0.3 < flipped < 0.7


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5])
def test_the_split_is_that_of_scikit_learn_where_classes_are_equal(share):
    labels = torch.arange(2000)[torch.randperm(2000, generator=torch.Generator().manual_seed(0))] % 10
    first, second = stratified_split(labels, share, seed=3, what="validation")
    expected = train_test_split(np.arange(2000), test_size=round(share * 2000), random_state=3, stratify=labels.numpy())
    assert np.array_equal(first.numpy(), np.sort(expected[0]))
    assert np.array_equal(second.numpy(), np.sort(expected[1]))


@pytest.mark.parametrize("counts", [(17, 5, 40), (2, 100), (9, 9, 9, 9), (1000, 3)])
def test_every_class_is_held_out_in_proportion(counts):
    labels = torch.cat([torch.full((count,), label) for label, count in enumerate(counts)])
    size = round(0.3 * len(labels))
    _, held = stratified_split(labels, 0.3, seed=0, what="test")
    assert len(held) == size
    for label, count in enumerate(counts):
        assert abs((labels[held] == label).sum().item() - count * size / len(labels)) < 1
