"""Unknown inputs: figures against second implementations, thresholds from val, and models with known confidence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import roc_curve

from cifarlab.data.cifar import CifarArrays
from cifarlab.errors import DataError
from cifarlab.evaluation import unknown_images
from cifarlab.evaluation.arrays import confidences
from cifarlab.evaluation.options import Options
from cifarlab.evaluation.section import Scored, Subject
from cifarlab.evaluation.unknown import keeping_threshold, set_figures, unknown_section
from cifarlab.evaluation.unknown_images import cifar100_set, drawn_sets, folder_set
from cifarlab.plots.style import save_figure

NAMES = ("cat", "dog", "pickup truck")
SIZE = 12


@pytest.fixture(autouse=True)
def _no_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(unknown_images, "data_places", lambda: [tmp_path / "nothing"])


def scored(confidence: float, count: int, seed: int = 0) -> Scored:
    """Answers whose highest probability is about the one given."""
    generator = torch.Generator().manual_seed(seed)
    highest = (confidence + 0.02 * torch.rand(count, generator=generator)).clamp(max=0.9999)
    rest = (1 - highest) / 2
    return Scored(torch.stack([highest, rest, rest], 1).log(), torch.zeros(count, dtype=torch.int64))


def sure_of_noise(images: torch.Tensor) -> torch.Tensor:
    """Logits of a model that says nothing of one colour, and is certain of anything else."""
    plain = images.float().flatten(2).std(2).sum(1) == 0
    logits = torch.zeros(len(images), 3)
    logits[~plain, 1] = 50
    return logits


def subject(
    judged: Scored, val: Scored | None, logits: Callable[[torch.Tensor], torch.Tensor], folder: Path | str = ""
) -> Subject:
    classifier = SimpleNamespace(image_size=SIZE, resize="squash", logits=logits)
    split = "val" if val is judged else "test"
    return Subject(split, NAMES, judged, val, classifier, None, Options(unknown=str(folder)))  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [1, 19, 20, 60, 97, 180, 1000])
def test_the_threshold_is_the_highest_that_keeps_95_per_cent(count):
    values = np.random.default_rng(count).uniform(size=count)
    threshold = keeping_threshold(values)
    assert threshold in values
    assert 20 * (values >= threshold).sum() >= 19 * count
    assert 20 * (values > threshold).sum() < 19 * count


def test_equal_confidences_are_all_kept():
    assert keeping_threshold(np.full(50, 0.7)) == 0.7


@pytest.mark.parametrize("digits", [1, 9], ids=["many ties", "no ties"])
def test_auroc_and_false_positives_agree_with_pairs_and_with_the_curve(digits):
    generator = np.random.default_rng(2)
    known, unknown = generator.beta(6, 2, 400).round(digits), generator.beta(4, 3, 300).round(digits)
    found = set_figures(known, unknown, 0.6)
    pairs = (known[:, None] > unknown).mean() + (known[:, None] == unknown).mean() / 2
    assert found["auroc"]["value"] == pytest.approx(pairs)
    low, high = found["auroc"]["interval"]
    assert 0 < low < pairs < high < 1
    labels = np.concatenate([np.ones(400), np.zeros(300)])
    false, true, _ = roc_curve(labels, np.concatenate([known, unknown]), drop_intermediate=False)
    assert found["fpr_at_95_tpr"]["value"] == pytest.approx(false[true >= 0.95].min())
    assert found["rejected"]["count"] == (unknown < 0.6).sum()
    assert found["mean_confidence"]["value"] == pytest.approx(unknown.mean())


def test_the_interval_of_auroc_covers_as_often_as_it_says():
    """P(known > unknown) of two exponential distributions with rates 1 and 2 is 2/3."""
    generator = np.random.default_rng(5)
    inside = 0
    for _ in range(300):
        known, unknown = generator.exponential(1, 60), generator.exponential(0.5, 40)
        low, high = set_figures(known, unknown, 0.5)["auroc"]["interval"]
        inside += low <= 2 / 3 <= high
    assert 0.91 <= inside / 300 <= 0.985


def test_confidence_is_the_highest_probability_also_of_huge_logits():
    logits = np.array([[0.0, 0, 0], [1000, 0, 0], [0, np.log(2), 0]])
    assert confidences(logits) == pytest.approx([1 / 3, 1, 0.5])


def test_drawn_images_are_what_their_names_say():
    drawn = {one.name: one.images_NCHW for one in drawn_sets(32, seed=0, count=200)}
    assert all(images.shape == (200, 3, 32, 32) and images.dtype == torch.uint8 for images in drawn.values())
    values = {name: images.float() for name, images in drawn.items()}
    assert values["uniform_noise"].mean() == pytest.approx(127.5, abs=1)
    assert values["uniform_noise"].std() == pytest.approx(256 / 12**0.5, abs=1)
    assert drawn["uniform_noise"].unique().numel() == 256
    assert values["gaussian_noise"].mean() == pytest.approx(127.5, abs=1)
    assert 58 < values["gaussian_noise"].std() < 64  # its tails are cut off
    assert (values["flat_colours"].std((2, 3)) == 0).all()
    assert values["flat_colours"].std() > 60

    def neighbours(images: torch.Tensor) -> float:
        pair = torch.stack([images[..., 1:].flatten(), images[..., :-1].flatten()])
        return float(torch.corrcoef(pair)[0, 1])

    assert neighbours(values["smooth_noise"]) > 0.8
    assert abs(neighbours(values["uniform_noise"])) < 0.05
    assert values["smooth_noise"].std((2, 3)).min() > 40


@pytest.mark.parametrize("size", [1, 5, 32])
def test_images_are_drawn_in_any_size_and_again_from_the_same_seed(size):
    first, second, other = (drawn_sets(size, seed, count=4) for seed in (7, 7, 8))
    for one, same, different in zip(first, second, other, strict=True):
        assert torch.equal(one.images_NCHW, same.images_NCHW)
        assert size == 1 or not torch.equal(one.images_NCHW, different.images_NCHW)


def test_what_the_model_says_nothing_of_is_rejected_and_what_it_is_sure_of_is_not(tmp_path: Path):
    judged, val = scored(0.8, 200), scored(0.8, 100, seed=1)
    found = unknown_section(subject(judged, val, sure_of_noise))
    sets = found.figures["sets"]
    assert sets["flat_colours"]["auroc"]["value"] == 1
    assert sets["flat_colours"]["rejected"]["value"] == 1
    assert sets["flat_colours"]["mean_confidence"]["value"] == pytest.approx(1 / 3)
    assert sets["uniform_noise"]["auroc"]["value"] == 0
    assert sets["uniform_noise"]["rejected"]["value"] == 0
    assert sets["uniform_noise"]["fpr_at_95_tpr"]["value"] == 1
    assert "100 % of flat colours" in found.findings[0]
    assert "uniform noise, gaussian noise and smooth noise" in found.findings[2]
    row = next(row for row in found.tables["unknown"].rows if row[0] == "uniform noise")
    assert row[-2:] == ("dog", 1.0)
    for name, plot in found.plots.items():
        save_figure(plot, tmp_path / name)


def test_nearly_all_is_not_called_all():
    """Of 500 flat colours a single one is answered, and of 500 images of noise a single one is not."""

    def nearly(images: torch.Tensor) -> torch.Tensor:
        logits = sure_of_noise(images)
        logits[0, 1] = 50 - logits[0, 1]  # the other way about
        return logits

    judged = scored(0.8, 200)
    found = unknown_section(subject(judged, scored(0.8, 100, seed=1), nearly))
    assert found.figures["sets"]["flat_colours"]["rejected"]["count"] == 499
    assert "99.8 % of flat colours" in found.findings[0]
    assert "0.2 % of uniform noise" in found.findings[0]


def test_a_threshold_and_an_auroc_of_nearly_one_are_not_called_one():
    sure_NK = torch.zeros(2000, 3)
    sure_NK[:, 0] = torch.linspace(9, 12, 2000)
    judged = Scored(sure_NK, torch.zeros(2000, dtype=torch.int64))
    found = unknown_section(subject(judged, judged, lambda images: sure_of_noise(images) * (5 / 50)))
    assert found.figures["threshold"] > 0.9995
    assert "confidence below 99.98 % can be rejected" in found.findings[0]
    nearly = scored(0.8, 2000)
    nearly.logits_NK[0] = 0.0  # one of the known images as the unknown ones are
    found = unknown_section(subject(nearly, nearly, lambda images: torch.zeros(len(images), 3)))
    assert "surer of the known one in 99.98 % (95 % interval" in found.findings[1]


def test_the_threshold_is_chosen_on_val_and_checked_on_the_split():
    judged, val = scored(0.5, 100), scored(0.8, 100, seed=1)
    found = unknown_section(subject(judged, val, sure_of_noise)).figures
    assert found["threshold_chosen_on"] == "val"
    assert found["threshold"] >= 0.8
    assert found["known"]["kept"]["count"] == 0
    # the false positive rate needs no threshold of val: it is that of the judged images
    assert found["sets"]["flat_colours"]["fpr_at_95_tpr"]["value"] == 0


@pytest.mark.parametrize("with_val", [True, False])
def test_where_there_is_no_other_split_it_is_said(with_val):
    judged = scored(0.8, 200)
    found = unknown_section(subject(judged, judged if with_val else None, sure_of_noise))
    assert found.figures["known"]["kept"]["count"] == 190
    assert any("by choice" in note for note in found.notes)
    assert "the same images" in found.findings[0]


def test_answers_without_a_model_are_passed_over():
    judged = scored(0.8, 10)
    assert "model itself" in unknown_section(Subject("given", NAMES, judged, None, None, None, Options())).skipped


def picture(path: Path, colour: tuple[int, int, int], size: tuple[int, int] = (20, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def test_a_folder_is_read_with_its_folders_and_brought_to_the_models_size(tmp_path: Path):
    picture(tmp_path / "odd" / "b.png", (200, 0, 0))
    picture(tmp_path / "odd" / "deep" / "a.JPG", (0, 0, 200), (7, 5))
    picture(tmp_path / "odd" / ".hidden" / "c.png", (0, 0, 0))
    (tmp_path / "odd" / "broken.png").write_bytes(b"no picture")
    (tmp_path / "odd" / "text.txt").write_text("no picture")
    found, note = folder_set(tmp_path / "odd", image_size=SIZE, resize="squash", seed=0)
    assert found.images_NCHW.shape == (2, 3, SIZE, SIZE)
    assert found.title == "odd"
    assert found.images_NCHW[0, :, 3, 3].tolist() == [200, 0, 0]
    assert "1 of the images" in note
    assert "broken.png" in note
    judged = scored(0.8, 40)
    section = unknown_section(subject(judged, judged, sure_of_noise, tmp_path / "odd"))
    assert section.figures["sets"]["folder"]["rejected"]["images"] == 2
    assert note in section.notes


def test_a_folder_that_is_called_like_another_kind_hides_none(tmp_path: Path):
    picture(tmp_path / "flat colours" / "a.png", (200, 0, 0))
    judged = scored(0.8, 40)
    found = unknown_section(subject(judged, judged, sure_of_noise, tmp_path / "flat colours"))
    titles = ["uniform noise", "gaussian noise", "smooth noise", "flat colours", "folder flat colours"]
    assert [row[0] for row in found.tables["unknown"].rows] == titles
    assert all(f"% of {title}" in found.findings[0] for title in titles)


def test_of_many_images_some_are_taken_at_random(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(unknown_images, "NUM_PICTURES", 5)
    for value in range(20):
        picture(tmp_path / "many" / f"{value:02}.png", (value, value, value), (2, 2))
    first, note = folder_set(tmp_path / "many", image_size=2, resize="squash", seed=0)
    again, _ = folder_set(tmp_path / "many", image_size=2, resize="squash", seed=0)
    other, _ = folder_set(tmp_path / "many", image_size=2, resize="squash", seed=1)
    values = first.images_NCHW[:, 0, 0, 0].tolist()
    assert len(set(values)) == 5
    assert torch.equal(first.images_NCHW, again.images_NCHW)
    assert values != other.images_NCHW[:, 0, 0, 0].tolist()
    assert "5 of the 20 images" in note


def test_a_folder_without_a_readable_image_is_an_error_of_one_line(tmp_path: Path):
    with pytest.raises(DataError, match="there is no folder"):
        folder_set(tmp_path / "none", image_size=4, resize="squash", seed=0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no image in"):
        folder_set(tmp_path / "empty", image_size=4, resize="squash", seed=0)
    (tmp_path / "empty" / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match="none of the images"):
        folder_set(tmp_path / "empty", image_size=4, resize="squash", seed=0)


def small_cifar100() -> CifarArrays:
    labels = (np.arange(12) % 4).astype(np.uint8)
    images = np.repeat(labels[:, None], 3 * 4 * 4, 1).reshape(12, 3, 4, 4)
    return CifarArrays(images, labels, images, labels, ("apple", "pickup_truck", "rose", "dog"))


def test_classes_of_cifar100_that_the_model_knows_are_left_out(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(unknown_images, "_cached_cifar100", small_cifar100)
    found, note = cifar100_set(NAMES, seed=0)
    assert found is not None
    assert set(found.images_NCHW.unique().tolist()) == {0, 2}  # apple and rose
    assert len(found.images_NCHW) == 6
    assert "without the 2" in note
    nothing, note = cifar100_set(("Apple", "rose", "dog", "pickup truck"), seed=0)
    assert nothing is None
    assert "All classes" in note


def test_cifar100_is_not_fetched_but_a_damaged_file_of_it_does_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    found, note = cifar100_set(NAMES, seed=0)
    assert found is None
    assert "cifarlab fetch cifar100" in note
    monkeypatch.setattr(unknown_images, "data_places", lambda: [tmp_path])
    (tmp_path / "cifar100.safetensors").write_bytes(b"damaged")
    assert cifar100_set(NAMES, seed=0)[0] is None
