"""evaluate: the page is one safe file, and says what was judged and what to run next."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest
from tests.commands.run_to_evaluate import (  # noqa: F401 fixtures
    _answers,
    _plots_cost_seconds,
    _run,
    _splits,
    add_section,
    found,
    make_run,
    page_of,
)

from cifarlab.cli_evaluate import print_evaluation
from cifarlab.commands import evaluate as module
from cifarlab.commands.evaluate import evaluate, evaluate_answers
from cifarlab.data import Splits
from cifarlab.evaluation.section import Section, Subject
from cifarlab.run import Run


def test_the_page_is_one_file_that_trusts_no_name(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    add_section(monkeypatch, "well", found)
    evaluate(run, split="test", sections=("well",), reason="<script>alert(1)</script>", device="cpu")
    text = page_of(run, "test")
    assert "It is &lt;b&gt;well&lt;/b&gt;." in text
    assert "Of &lt;classes&gt;" in text
    assert "<script>alert" not in text
    assert text.count("<script>") == 1
    assert not re.findall(r'(?:src|href)="(?!data:|#)', text), "nothing is loaded from anywhere"
    targets = re.findall(r'href="#([^"]+)"', text)
    assert targets
    assert all(f'id="{target}"' in text for target in targets)
    assert "were read once" in text
    assert "50.00\u00a0%" in text
    assert "Only a test." in text


def test_the_first_three_of_three_classes_are_no_figure(
    run: Run, answers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = evaluate(run, sections=(), device="cpu")
    many = evaluate_answers(answers, out=run.path / "given", sections=())
    shown = [page_of(run, "val"), (run.path / "given" / "evaluation" / "given.html").read_text(encoding="utf-8")]
    assert ["among the first three" in page for page in shown] == [False, True]
    for evaluation, told in ((few, False), (many, True)):
        print_evaluation(evaluation)
        assert ("top-3" in capsys.readouterr().out) == told


@pytest.mark.parametrize(
    ("margin", "said"), [(1.0, r"averaging over views; on"), (0.02, r"views of the [\d.]+\s% of them")]
)
def test_the_page_says_which_images_got_views(
    tmp_path: Path, splits: Splits, monkeypatch: pytest.MonkeyPatch, margin: float, said: str
) -> None:
    monkeypatch.setattr(module, "load_splits", lambda config: splits)
    run = make_run(tmp_path, splits, views_margin=margin)
    assert (evaluate(run, sections=(), device="cpu").views_share == 1) == (margin == 1)
    assert re.search(said, page_of(run, "val"))


def test_the_page_of_val_says_how_to_get_the_figure_to_publish(run: Run) -> None:
    evaluate(run, sections=(), device="cpu")
    text = page_of(run, "val")
    assert f"cifarlab evaluate {run.path} --split test" in text
    spaced = Run.open(run.path.rename(run.path.parent / "a run"))
    evaluate(spaced, sections=(), device="cpu")
    assert html.unescape(page_of(spaced, "val")).count(f"cifarlab evaluate '{spaced.path}'") == 3
    run = Run.open(spaced.path.rename(run.path))
    assert "Not asked for" in text
    evaluate(run, split="test", sections=(), device="cpu")
    evaluate(run, split="test", sections=(), device="cpu")
    assert "were read 2 times" in page_of(run, "test")


def test_plots_of_sections_are_on_the_page_and_not_drawn_twice(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from cifarlab.plots.style import new_figure

    def drawing(subject: Subject) -> Section:
        return Section(findings=("Drawn.",), plots={"mistakes": new_figure()[0]}, captions={"mistakes": "Only axes."})

    add_section(monkeypatch, "drawing", drawing)
    evaluate(run, sections=("drawing",), device="cpu")
    text = page_of(run, "val")
    assert text.count("data:image/") == 1
    assert "Only axes." in text
    assert [path.name for path in (run.path / "plots").glob("*.png")] == ["mistakes_val.png"]
