"""Subsets in proportion, plain answers, and means whose intervals are those of a bootstrap over images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from tests.evaluation.models import Brightest, classifier, coloured

from cifarlab.evaluation.probing import bootstrap_means, plain_answers, stratified


@pytest.mark.parametrize(("count", "expected"), [(10, [6, 3, 1]), (11, [7, 3, 1]), (5, [3, 2, 0]), (100, [60, 30, 10])])
def test_each_class_has_its_share(count: int, expected: list[int]) -> None:
    labels = torch.arange(3).repeat_interleave(torch.tensor([60, 30, 10]))
    labels = labels[torch.randperm(100, generator=torch.Generator().manual_seed(0))]
    chosen = stratified(labels, count, 0, "test")
    assert torch.bincount(labels[chosen], minlength=3).tolist() == expected
    assert len(chosen.unique()) == count
    assert chosen.tolist() == sorted(chosen.tolist())


def test_zero_and_more_than_there_are_choose_all() -> None:
    labels = torch.tensor([0, 1, 0])
    for count in (0, 3, 50):
        assert stratified(labels, count, 0, "test").tolist() == [0, 1, 2]


def test_the_choice_is_that_of_seed_and_purpose() -> None:
    labels = torch.arange(300) % 3
    chosen = stratified(labels, 60, 1, "a").tolist()
    assert chosen == stratified(labels, 60, 1, "a").tolist()
    assert chosen != stratified(labels, 60, 2, "a").tolist()
    assert chosen != stratified(labels, 60, 1, "b").tolist()


def test_plain_answers_are_those_of_the_model() -> None:
    images = coloured(700)
    answers = plain_answers(classifier(Brightest()), images.images_NCHW)
    assert answers.dtype == np.int64
    np.testing.assert_array_equal(answers, images.labels_N.numpy())


def test_intervals_are_those_of_the_normal_curve_where_it_holds() -> None:
    draw = np.random.default_rng(0)
    values = np.stack([draw.random(4000), draw.random(4000) < 0.3, draw.normal(5, 2, 4000)], axis=1)
    for figure, column in zip(bootstrap_means(values, 0, "test"), values.T, strict=True):
        error = column.std() / np.sqrt(4000)
        assert figure["value"] == pytest.approx(column.mean())
        expected = stats.norm.interval(0.95, column.mean(), error)
        np.testing.assert_allclose(figure["interval"], expected, atol=0.2 * error)


def test_images_are_drawn_whole() -> None:
    """A difference that is the same for every image has no spread, however much its parts have."""
    values = np.random.default_rng(0).random((500, 1))
    figures = bootstrap_means(np.hstack([values, values + 0.25, np.full((500, 1), 0.25)]), 0, "test")
    np.testing.assert_allclose(np.subtract(figures[1]["interval"], figures[0]["interval"]), 0.25)
    assert figures[2]["value"] == 0.25
    assert figures[2]["interval"] is None
