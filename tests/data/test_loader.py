"""Batches made in parts, as several ranks make them, are the parts of the whole batch."""

import pytest
import torch
from tests.conftest import with_fields

from cifarlab.data.loader import BatchLoader

AUGMENTATIONS = {
    "none": {"augment__flip": "none"},
    "random_flip": {"augment__flip": "random"},
    "alternating_flip": {"augment__flip": "alternating"},
    "translate": {"augment__translate": 2},
    "warp": {"augment__crop_scale": 0.6, "augment__rotate": 15.0},
    "cutout": {"augment__cutout": 5},
    "mixup": {"augment__mixup": 0.4},
    "cutmix": {"augment__cutmix": 1.0},
    "color_jitter": {"augment__color_jitter": 0.3, "augment__translate": 1},
}


@pytest.mark.parametrize("case", AUGMENTATIONS)
@pytest.mark.parametrize("step", [0, 5])
def test_parts_are_those_of_the_whole(config, splits, case, step):
    config = with_fields(config, **AUGMENTATIONS[case])
    device = torch.device("cpu")
    whole = BatchLoader(splits.train, config, device)
    rows = [slice(start, start + 9) for start in (0, 9, 18)]
    parts = [BatchLoader(splits.train, config, device, part).batch(step) for part in rows]
    assert len(whole.batch(step)[0]) == 27
    for expected, *pieces in zip(whole.batch(step), *parts, strict=True):
        assert [len(piece) for piece in pieces] == [9, 9, 9]
        assert torch.equal(torch.cat(pieces), expected)
