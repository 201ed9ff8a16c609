"""compare: the page holds the findings and pictures of the right images, and no name can break it."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
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
from cifarlab.phrases import p_text, p_value
from cifarlab.run import Predictions, Run, runs_root


def cells_of(page: str) -> list[list[str]]:
    """Every row of every table, as a reader sees its cells."""
    rows = re.findall(r"<tr>(.*?)</tr>", page, re.DOTALL)
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in rows]
    return [[" ".join(html.unescape(re.sub("<[^>]*>", " ", cell)).split()) for cell in row] for row in cells]


def counted(first: str, second: str) -> dict[str, Any]:
    """What two runs have right, counted from their answers."""
    a, b = (np.array(answers_of(Run.open(name))) for name in (first, second))
    truth = LABELS.numpy()
    only_a, only_b = int(((a == truth) & (b != truth)).sum()), int(((a != truth) & (b == truth)).sum())
    exact = stats.binomtest(only_a, only_a + only_b).pvalue
    wrong = (a != truth) & (b != truth)
    return {
        "only": (only_a, only_b),
        "exact": exact,
        "mid": exact - stats.binom.pmf(min(only_a, only_b), only_a + only_b, 0.5),
        "same": np.mean(a == b),
        "both_right": np.mean((a == truth) & (b == truth)),
        "both_wrong": np.mean(wrong),
        "common": wrong.sum() / ((a != truth) | (b != truth)).sum(),
        "alike": (wrong & (a == b)).sum() / wrong.sum(),
    }


def test_the_cells_of_two_models_on_the_page() -> None:
    make_run("good", 0.72, seed=1)
    make_run("bad", 0.69, seed=2)
    page = compare(["good", "bad"]).page.read_text(encoding="utf-8")
    known = counted("good", "bad")
    assert known["exact"] > 0.001, "so that the p-values are figures"
    assert known["only"][0] > known["only"][1] > 1
    cells = cells_of(page)
    assert ["McNemar's exact test", f"{p_text(known['exact'])} (mid-{p_text(known['mid'])})"] in cells
    assert ["Right by good alone", f"{known['only'][0]} images"] in cells
    assert "<h2>How alike do they answer?</h2>" in page
    assert ["Same answer, right or wrong", f"{100 * known['same']:.2f} % of the images"] in cells
    assert ["Both right", f"{100 * known['both_right']:.2f} %"] in cells
    assert ["Both wrong", f"{100 * known['both_wrong']:.2f} %"] in cells
    assert ["Errors in common", f"{100 * known['common']:.2f} % of the images that at least one has wrong"] in cells
    assert ["Same wrong answer", f"{100 * known['alike']:.2f} % of the images that both have wrong"] in cells


def test_the_cells_of_three_models_on_the_page() -> None:
    for seed, (name, accuracy) in enumerate((("good", 0.72), ("bad", 0.69), ("worst", 0.5))):
        make_run(name, accuracy, seed=seed + 1)
    sources = ["good", str(predictions_file(runs_root() / "bad.csv", answers_of(Run.open("bad")))), "worst"]
    page = compare(sources).page.read_text(encoding="utf-8")
    known = counted("good", "bad")
    rows = {row[0]: row[1:] for row in cells_of(page) if row}
    tested = rows["good against bad.csv"]
    assert p_value(known["exact"]) != p_value(known["mid"]), "so that no other cell can stand in"
    assert len(tested) == 9
    assert tested[:2] == [str(count) for count in known["only"]]
    assert tested[4:6] == [p_value(known["exact"]), p_value(known["mid"])]
    shares = ("same", "both_right", "both_wrong", "common", "alike")
    assert rows["good and bad.csv"] == [f"{100 * known[share]:.2f} %" for share in shares]
    heads = next(row for row in cells_of(page) if row[:2] == ["Models", "Same answer"])
    assert heads[2:4] == ["Both right", "Both wrong"]


def test_of_many_rivals_the_page_has_pictures_of_the_best_two(tmp_path: Path) -> None:
    make_run("good", 0.85, seed=1)
    files = []
    for n in range(6):
        run = make_run(f"other{n}", 0.75 - n / 20, seed=n + 2)
        files.append(str(predictions_file(tmp_path / f"{n}.csv", answers_of(run))))
    result = compare(["good", *files])
    page = result.page.read_text(encoding="utf-8")
    first, second = result.comparison.sides
    assert page.count("data:image/png;base64,") == bool(first.positions) + bool(second.positions) > 0
    assert "Of 7 rivals hardly one is ever right alone." in page
    assert f"{first.name} {len(first.positions)} image" in page
    assert f"{second.name} {len(second.positions)} image" in page


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
    assert "How alike do they answer?</h2>" in page
    (alike,) = result.comparison.alike
    assert f"<p>{alike}</p>" in page
    cells = cells_of(page)
    answers = {name: np.array(answers_of(Run.open(name))) for name in ("x0", "x1", "x2", "y0", "y1", "y2")}
    same = [100 * np.mean(answers[f"x{n}"] == answers[f"y{m}"]) for n in range(3) for m in range(3)]
    row = next(row for row in cells if row[:1] == [" and ".join(result.comparison.rivals)])
    assert row[1:3] == ["9", f"{np.mean(same):.2f} % {min(same):.2f} to {max(same):.2f}"]
    own = [100 * np.mean(answers[a] == answers[b]) for a, b in (("x0", "x1"), ("x0", "x2"), ("x1", "x2"))]
    row = next(row for row in cells if row[:1] == [f"two seeds of {result.comparison.rivals[0]}"])
    assert row[1:3] == ["3", f"{np.mean(own):.2f} % {min(own):.2f} to {max(own):.2f}"]
    low, high = (f"{100 * end:.1f}" for end in result.comparison.recipe_pairs[0].new_images)
    assert ["95 % interval with the choice of images counted as chance too", f"[{low}, {high}] points"] in cells
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
