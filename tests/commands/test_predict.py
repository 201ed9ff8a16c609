"""predict: files and folders of any size and mode, one bad file among good ones, bounded memory."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from cifarlab.commands import predict as module
from cifarlab.commands.predict import predict
from cifarlab.config import Config, DataConfig, EvaluateConfig, ModelConfig, SpeednetConfig
from cifarlab.errors import RunError, UsageError
from cifarlab.inference import Classifier, model_metadata
from cifarlab.models import build_model, fit_to_images
from cifarlab.run import Run

COLORS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 40, 220)}
NAMES = tuple(COLORS)
SIZE = 12


def noisy_squares(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels_N = torch.arange(count) % 3
    colors = torch.tensor(list(COLORS.values()))[labels_N][:, :, None, None].float()
    images = colors + 25 * torch.randn(count, 3, SIZE, SIZE, generator=generator)
    return images.clamp(0, 255).to(torch.uint8), labels_N


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose model tells three colours apart, after a second of training."""
    config = Config(
        data=DataConfig(image_size=SIZE, resize="squash"),
        model=ModelConfig(name="speednet", speednet=SpeednetConfig(widths=(8, 8, 8), logit_scale=1.0)),
        evaluate=EvaluateConfig(views="flip", views_margin=0.5),
    )
    images, labels = noisy_squares(96)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_model(config.model, 3, SIZE)
        fit_to_images(model, images)
        optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.01)
        for _ in range(25):
            optimizer.zero_grad()
            F.cross_entropy(model(images), labels).backward()
            optimizer.step()
    run = Run.create(config, name="colors", root=tmp_path_factory.mktemp("runs"))
    run.save_model(model.state_dict(), model_metadata(config, NAMES))
    run.write_json("result.json", {"format": 1})
    return run


def paint(path: Path, color: str, size: tuple[int, int] = (SIZE, SIZE), mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, COLORS[color]).convert(mode).save(path)
    return path


def test_files_of_any_size_and_mode(run: Run, tmp_path: Path) -> None:
    paths = [
        paint(tmp_path / "a.png", "red"),
        paint(tmp_path / "b.jpg", "green", (300, 41)),
        paint(tmp_path / "c.png", "blue", (1, 1), "RGBA"),
        paint(tmp_path / "d.png", "red", (20, 90), "P"),
        paint(tmp_path / "e.jpg", "green", (64, 64), "CMYK"),
    ]
    predictions = predict(run, paths, device="cpu")
    assert [one.path for one in predictions] == paths
    assert [one.label for one in predictions] == ["red", "green", "blue", "red", "green"]
    for one in predictions:
        assert one.error is None
        assert tuple(one.probabilities) == NAMES
        assert sum(one.probabilities.values()) == pytest.approx(1, abs=1e-5)
        assert one.probability == max(one.probabilities.values()) == one.probabilities[one.label or ""]


def test_answers_are_those_of_the_classifier(run: Run, tmp_path: Path) -> None:
    images, _ = noisy_squares(5)
    paths = [tmp_path / f"{i}.png" for i in range(5)]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    expected = Classifier.load(run, "cpu").probabilities(images)
    for batch_size in (1, 2, 64):
        predictions = predict(run, paths, device="cpu", batch_size=batch_size)
        found = torch.tensor([list(one.probabilities.values()) for one in predictions])
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_folders_are_searched_in_order_without_what_is_hidden_or_no_image(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    kept = [
        paint(folder / "a" / "z.PNG", "red"),
        paint(folder / "b" / "c" / "deep.jpeg", "blue"),
        paint(folder / "b.png", "green"),
    ]
    paint(folder / ".hidden" / "x.png", "red")
    paint(folder / "a" / "._z.png", "red")
    (folder / "notes.txt").write_text("not an image")
    single = paint(tmp_path / "named without suffix.png", "blue").rename(tmp_path / "named")
    predictions = predict(run, [folder, single], device="cpu")
    assert [one.path for one in predictions] == [*sorted(kept), single]
    assert predictions[-1].label == "blue"


def test_one_unreadable_file_does_not_stop_the_others(run: Run, tmp_path: Path) -> None:
    good = paint(tmp_path / "a.png", "red")
    cut = tmp_path / "b.png"
    cut.write_bytes(good.read_bytes()[:40])
    text = tmp_path / "c.jpg"
    text.write_text("no image at all")
    absent = tmp_path / "absent.png"
    last = paint(tmp_path / "d.png", "green")
    predictions = predict(run, [good, cut, text, absent, last], device="cpu", batch_size=2)
    assert [one.label for one in predictions] == ["red", None, None, None, "green"]
    for one in predictions[1:4]:
        assert one.error
        assert "\n" not in one.error
        assert one.path.name in one.error
        assert (one.probability, one.probabilities) == (None, {})


def test_nothing_to_classify_is_a_mistake_of_the_user(run: Run, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not an image")
    for paths in ([tmp_path], [tmp_path / "absent"], []):
        with pytest.raises(UsageError, match="no image found"):
            predict(run, paths, device="cpu")


def test_a_batch_size_below_one_is_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="batch size"):
        predict(run, [paint(tmp_path / "a.png", "red")], device="cpu", batch_size=0)


def test_a_run_without_a_model_is_refused(tmp_path: Path) -> None:
    unfinished = Run.create(Config(), name="unfinished", root=tmp_path)
    with pytest.raises(RunError, match="--resume"):
        predict(unfinished, [paint(tmp_path / "a.png", "red")], device="cpu")


def test_no_more_than_a_batch_of_images_is_held(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [paint(tmp_path / f"{i}.png", "red") for i in range(10)]
    order = []
    read, ask = module.read_image, Classifier.probabilities

    def counted_read(*args: object, **kwargs: object) -> torch.Tensor:
        order.append("read")
        return read(*args, **kwargs)

    def counted_ask(self: Classifier, images_NCHW: torch.Tensor) -> torch.Tensor:
        order.append("ask")
        return ask(self, images_NCHW)

    monkeypatch.setattr(module, "read_image", counted_read)
    monkeypatch.setattr(Classifier, "probabilities", counted_ask)
    predict(run, paths, device="cpu", batch_size=4)
    assert [(key, len(list(group))) for key, group in itertools.groupby(order)] == [
        ("read", 4),
        ("ask", 1),
        ("read", 4),
        ("ask", 1),
        ("read", 2),
        ("ask", 1),
    ]
