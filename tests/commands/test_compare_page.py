"""compare: the page holds the findings and pictures of the right images, and no name can break it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tests.commands.runs_to_compare import (  # noqa: F401 fixtures
    LABELS,
    PUBLIC,
    N,
    _no_real_images,
    _plots_cost_seconds,
    answers_of,
    make_run,
    predictions_file,
)
from tests.conftest import with_fields

from cifarlab import comparison_page
from cifarlab.cli import main
from cifarlab.commands import compare as module
from cifarlab.commands.compare import compare
from cifarlab.config import Config, DataConfig
from cifarlab.data import ImageSet, SourceData
from cifarlab.data.cifar import CIFAR10
from cifarlab.errors import DownloadError
from cifarlab.run import Predictions, Run


def test_the_page_holds_the_findings_the_pictures_and_nothing_from_elsewhere() -> None:
    make_run("good", 0.85, seed=1)
    make_run("bad", 0.4, config=with_fields(PUBLIC, optimizer__lr=0.3))
    result = compare(["good", "bad"])
    page = result.page.read_text(encoding="utf-8")
    for text in result.comparison.findings:
        assert text.replace("<", "&lt;") in page
    assert page.count("data:image/png;base64,") == sum(bool(side.positions) for side in result.comparison.sides) > 0
    assert "in what the recipes differ" in page.lower()
    assert "<code>optimizer.lr</code></td><td>0.1</td><td>0.3</td>" in page
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)
    assert "<script" not in page
    side = result.comparison.sides[0]
    assert f"good alone is right on {len(side.positions)} images" in page
    for name in ("accuracy", "differences", "classes", "right_alone_0"):
        for suffix in ("png", "svg"):
            assert (result.page.parent / "plots" / f"{name}.{suffix}").is_file()


def test_recipes_over_seeds_on_the_page() -> None:
    for n in range(3):
        make_run(f"x{n}", 0.8, seed=n)
        make_run(f"y{n}", 0.5, seed=n + 10, config=with_fields(PUBLIC, optimizer__lr=0.3))
    result = compare([f"{name}{n}" for name in "xy" for n in range(3)])
    assert [len(one.members) for one in result.comparison.recipes] == [3, 3]
    assert result.page.parent.name.startswith("compare-fast-optimizer.lr-0.1-fast")
    page = result.page.read_text(encoding="utf-8")
    assert "Welch" in page
    assert "too few seeds" in page
    assert "How alike" not in page
    assert "in that table stays below 5" in page  # and not over all tables of the page


def test_captions_on_the_page_count_what_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two recipes of two seeds and three single models: one pair of recipes is drawn, and none of 15 of models."""
    for n in range(2):
        make_run(f"x{n}", 0.8, seed=n)
        make_run(f"y{n}", 0.5, seed=n + 10, config=with_fields(PUBLIC, optimizer__lr=0.3))
    for n, lr in enumerate((0.4, 0.5, 0.6)):
        make_run(f"z{n}", 0.6, config=with_fields(PUBLIC, optimizer__lr=lr))
    monkeypatch.setattr(comparison_page, "_MOST_ROWS", 4)
    sources = ["x0", "x1", "y0", "y1", "z0", "z1", "z2"]
    result = compare(sources)
    assert (len(result.comparison.recipe_pairs), len(result.comparison.model_pairs)) == (1, 15)
    page = result.page.read_text(encoding="utf-8")
    assert "comparisons of" not in page.partition("Which differences are shown?")[2].partition("</figure>")[0]
    assert "The best 4 of 5." in page
    page = compare(["x0", "y0", "z0", "z1", "z2"]).page.read_text(encoding="utf-8")
    assert "The first 4 comparisons of 10." in page


def test_seeds_without_spread_are_told_on_the_page_and_in_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    for name, right in (("x", 150), ("y", 120)):
        for seed in range(3):
            config = PUBLIC if name == "x" else with_fields(PUBLIC, optimizer__lr=0.3)
            run = make_run(f"{name}{seed}", seed=seed, config=config, views=False)
            said = torch.where(torch.arange(N) < right, LABELS, (LABELS + 1) % 10)
            run.save_predictions("test", Predictions(torch.eye(10)[said], LABELS))
    assert main(["compare", *(f"{name}{seed}" for name in "xy" for seed in range(3))]) == 0
    shown = capsys.readouterr().out
    assert "no spread seen" in shown
    assert "nan" not in shown
    page = Path(re.search(r"page: (.*)", shown).group(1)).read_text(encoding="utf-8")  # type: ignore[union-attr]
    assert page.count("no spread seen") >= 4
    assert "nan" not in re.sub('base64,[^"]*', "", page).lower()


def test_names_cannot_break_the_page(tmp_path: Path) -> None:
    run = make_run("a")
    path = predictions_file(tmp_path / "<script>alert(1)&$x$.csv", answers_of(run))
    page = compare(["a", str(path)]).page
    assert "<script>" not in page.read_text(encoding="utf-8")
    assert page.parent.name.startswith("compare-script-alert-1-x-.csv-a-")


def test_images_that_cannot_be_had_leave_pictures_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise DownloadError("no source delivers cifar10\n  way out 1: fetch it")

    make_run("a", 0.8)
    make_run("b", 0.6, seed=1)
    monkeypatch.setattr(module, "load_source", fail)
    result = compare(["a", "b"])
    assert result.notes[-1] == "Pictures are left out, for the images cannot be had: no source delivers cifar10"
    assert result.notes[-1] in result.page.read_text(encoding="utf-8")
    other = ImageSet(torch.zeros(N, 3, 8, 8, dtype=torch.uint8), LABELS.flip(0), CIFAR10.class_names)
    monkeypatch.setattr(module, "load_source", lambda *_, **__: SourceData(other, None, other, "cifar10"))
    assert "have changed" in compare(["a", "b"]).notes[-1]


def test_the_pictures_are_those_of_the_split(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every image of a folder's test split is one colour, its position; the pictures show those of the list."""
    for n in range(40):
        for split in ("train", "test"):
            path = tmp_path / "photos" / split / f"class{n % 2}" / f"{n:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (5 * n, 0, 0)).save(path)
    monkeypatch.undo()
    monkeypatch.setenv("CIFARLAB_RUNS", str(tmp_path / "runs"))
    shown: list[list[int]] = []
    from cifarlab.plots import comparison as plots

    original = plots.pictures_figure

    def remember(images: torch.Tensor, *rest: Any) -> Any:
        shown.append((images[:, 0, 0, 0] // 5).tolist())
        return original(images, *rest)

    monkeypatch.setattr(plots, "pictures_figure", remember)
    config = Config(recipe="own", data=DataConfig(folder=str(tmp_path / "photos"), image_size=8))
    truth = torch.tensor([0] * 20 + [1] * 20)  # in the order of the folder: class0 holds the even numbers
    names = {"splits": {"test": {"class_names": ["class0", "class1"]}}}
    for name, wrong in (("a", [1, 30]), ("b", [2, 3, 35])):
        given = truth.clone()
        given[wrong] = 1 - given[wrong]
        run = Run.create(with_fields(config, train__seed=len(wrong)), name=name)
        run.save_predictions("test", Predictions(torch.eye(2)[given], truth))
        run.write_json("result.json", {})
        run.write_json("evaluation.json", names)
    result = compare(["a", "b"])
    assert [side.positions for side in result.comparison.sides] == [[2, 3, 35], [1, 30]]
    assert shown == [[4, 6, 31], [2, 21]]
