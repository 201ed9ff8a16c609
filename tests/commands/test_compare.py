"""compare: stored answers only, of the same images only; what is printed is in the JSON; every mistake is one line."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.commands.runs_to_compare import (  # noqa: F401 fixtures
    LABELS,
    PUBLIC,
    _no_real_images,
    _plots_cost_seconds,
    answers_of,
    make_run,
    predictions_file,
)
from tests.conftest import with_fields

from cifarlab.answers import load_answers
from cifarlab.cli import main
from cifarlab.commands.compare import compare
from cifarlab.config import Config, DataConfig
from cifarlab.data.cifar import CIFAR10
from cifarlab.errors import DataError, RunError, UsageError
from cifarlab.run import Run, runs_root


def test_the_answers_are_those_stored() -> None:
    a, b = make_run("a", seed=1), make_run("b", 0.6, config=with_fields(PUBLIC, optimizer__lr=0.3))
    loaded = load_answers(["a", str(b.path)])
    assert (loaded.split, loaded.with_views) == ("test", True)
    assert [one.name for one in loaded.candidates] == ["a", "b"]
    assert [one.predicted_N.tolist() for one in loaded.candidates] == [answers_of(a), answers_of(b)]
    plain = load_answers(["a", "b"], views="no")
    assert [one.predicted_N.tolist() for one in plain.candidates] == [answers_of(one, views=False) for one in (a, b)]
    assert loaded.class_names == CIFAR10.class_names
    assert loaded.notes == ()


def test_views_are_used_where_all_have_them() -> None:
    a, b = make_run("a"), make_run("b", views=False, config=with_fields(PUBLIC, optimizer__lr=0.3))
    loaded = load_answers(["a", "b"])
    assert not loaded.with_views
    assert [one.predicted_N.tolist() for one in loaded.candidates] == [answers_of(one, views=False) for one in (a, b)]
    assert "plain images" in loaded.notes[0]
    with pytest.raises(UsageError, match="b has no answers averaged over test-time views"):
        load_answers(["a", "b"], views="yes")


def test_the_split_is_test_where_all_were_evaluated_on_it() -> None:
    make_run("a", splits=("val", "test"))
    make_run("b", splits=("val",), config=with_fields(PUBLIC, optimizer__lr=0.3))
    loaded = load_answers(["a", "b"])
    assert loaded.split == "val"
    assert "b holds no predictions on test" in loaded.notes[0]
    with pytest.raises(RunError, match=r"cifarlab evaluate .*b --split test"):
        load_answers(["a", "b"], split="test")
    make_run("c", splits=("test",))
    with pytest.raises(RunError, match=r"b holds no predictions on test; make them with: cifarlab evaluate"):
        load_answers(["b", "c"])


def test_reading_stored_answers_adds_no_reading_of_test() -> None:
    runs = [make_run("a"), make_run("b", seed=1)]
    runs[0].log_test_read("evaluate --split test", "")
    compare(["a", "b"])
    assert [len(run.test_reads()) for run in runs] == [1, 0]


def test_runs_that_differ_in_the_seed_only_are_one_recipe() -> None:
    other = with_fields(PUBLIC, optimizer__lr=0.3, train__epochs=4.0)
    sources = [make_run(f"x{n}", seed=n) for n in range(3)] + [
        make_run(f"y{n}", 0.6, seed=n, config=other) for n in (0, 1)
    ]
    third = make_run("z", config=dataclasses.replace(PUBLIC, recipe="slow"))
    found = [one.recipe for one in load_answers([str(run.path) for run in (*sources, third)]).candidates]
    assert found == [
        *["fast (optimizer.lr 0.1, train.epochs 10.0)"] * 3,
        *["fast (optimizer.lr 0.3, train.epochs 4.0)"] * 2,
        "slow",
    ]


def test_recipes_that_differ_in_much_are_named_after_a_run() -> None:
    many = with_fields(PUBLIC, optimizer__lr=0.3, train__epochs=4.0, augment__translate=4, schedule__name="one_cycle")
    make_run("a")
    make_run("b", config=many)
    assert [one.recipe for one in load_answers(["a", "b"]).candidates] == ["fast as in a", "fast as in b"]


def test_recipes_named_after_runs_of_one_name_are_told_apart_by_their_paths(tmp_path: Path) -> None:
    """Folders such as lr3/seed0 and lr4/seed0: seeds of two recipes, which must not be pooled as seeds of one."""
    long = with_fields(PUBLIC, train__epochs=4.0, augment__translate=4, schedule__name="one_cycle")
    sources = []
    for folder, lr in (("lr3", 0.3), ("lr4", 0.4)):
        for seed in (0, 1):
            run = make_run(f"{folder}-{seed}", seed=seed, config=with_fields(long, optimizer__lr=lr))
            (tmp_path / folder).mkdir(exist_ok=True)
            sources.append(str(run.path.rename(tmp_path / folder / f"seed{seed}")))
    make_run("plain", config=PUBLIC)
    found = [one.recipe for one in load_answers([*sources, "plain"]).candidates]
    assert found == [*[f"fast as in {sources[0]}"] * 2, *[f"fast as in {sources[2]}"] * 2, "fast as in plain"]
    assert len(compare([*sources, "plain"]).comparison.recipe_pairs) == 1


def test_a_repeated_seed_is_no_further_seed() -> None:
    for name, seed in (("a", 0), ("b", 1), ("c", 1)):
        make_run(name, seed=seed)
    loaded = load_answers(["a", "b", "c"])
    assert [one.recipe for one in loaded.candidates] == ["fast", "fast", "c, a repeated seed"]
    assert "c repeats seed 1 of fast" in loaded.notes[0]


def test_a_repeated_seed_is_none_either_where_its_run_is_named_after_the_recipe() -> None:
    """The first run of a recipe has the recipe's name, unless another is given."""
    for name, seed in (("fast-2", 0), ("fast", 0), ("fast-3", 1)):
        make_run(name, seed=seed)
    comparison = compare(["fast-2", "fast", "fast-3"]).comparison
    assert {one.name: one.members for one in comparison.recipes} == {
        "recipe fast": ("fast-2", "fast-3"),
        "fast": ("fast",),
    }


def test_models_of_one_name_go_by_their_paths(tmp_path: Path) -> None:
    run = make_run("a")
    files = []
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        files.append(str(predictions_file(tmp_path / folder / "p.csv", answers_of(run))))
    assert [one.name for one in load_answers(["a", *files]).candidates] == ["a", *files]


FOLDER = Config(recipe="own", data=DataConfig(folder="/photos", image_size=8))


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ({}, {"labels": LABELS[:100]}, "200 against 100"),
        ({}, {"labels": LABELS.flip(0)}, "200 of 200 labels differ"),
        ({}, {"config": FOLDER, "recorded": {"split_sha256": "t"}}, "their splits differ"),
        ({"config": FOLDER}, {"config": FOLDER, "recorded": {"split_sha256": "t"}}, "their splits differ"),
        (
            {"config": FOLDER},
            {"config": FOLDER, "recorded": {"split_sha256": "s", "data_sha256": "e"}},
            "the training images beside them differ",
        ),
    ],
)
def test_different_images_are_refused(first: dict[str, Any], second: dict[str, Any], message: str) -> None:
    make_run("a", **first)
    make_run("b", seed=1, **second)
    for run in ("a", "b"):
        Run.open(run).write_json("evaluation.json", {"splits": {"test": {"class_names": list(CIFAR10.class_names)}}})
    with pytest.raises(DataError, match="were judged on different test images") as error:
        load_answers(["a", "b"])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_the_public_test_set_is_the_same_whatever_was_held_out_for_validation() -> None:
    make_run("a", splits=("test", "val"))
    held = with_fields(PUBLIC, data__val_fraction=0.02)
    make_run("b", config=held, splits=("test", "val"), recorded={"split_sha256": "other", "data_sha256": "other"})
    assert len(load_answers(["a", "b"]).candidates) == 2
    with pytest.raises(DataError, match="their splits differ"):
        load_answers(["a", "b"], split="val")


def test_a_run_that_records_no_split_is_compared_with_a_note() -> None:
    names = {"splits": {"test": {"class_names": [str(k) for k in range(10)]}}}
    for name, recorded in (("a", {"split_sha256": "s"}), ("b", {})):
        make_run(name, config=FOLDER, seed=len(name + str(recorded)), recorded=recorded).write_json(
            "evaluation.json", names
        )
    assert "does not record its split" in load_answers(["a", "b"]).notes[0]


def test_classes_of_own_images_are_those_of_the_model() -> None:
    names = tuple("zyxwvutsrq")
    for name, seed in (("a", 0), ("b", 1)):
        run = make_run(name, config=FOLDER, seed=seed, splits=("test",))
        run.save_model({"weight": torch.zeros(1)}, {"class_names": names if name == "a" else names[::-1]})
    with pytest.raises(DataError, match="different classes"):
        load_answers(["a", "b"])
    Run.open("b").save_model({"weight": torch.zeros(1)}, {"class_names": names})
    assert load_answers(["a", "b"]).class_names == names


def test_the_folder_of_a_comparison_is_its_own(tmp_path: Path) -> None:
    """Long names that begin alike, another split, other views: nothing of that may overwrite another's page."""
    pages = {}
    for first, second in (("a", "b"), ("c", "d")):
        names = [f"{'a-very-long-name-' * 5}{end}" for end in (first, second)]
        for seed, name in enumerate(names):
            make_run(name, seed=seed, splits=("val", "test"))
        for options in ({}, {"split": "val"}, {"views": "no"}):
            pages[first, str(options)] = compare(names, **options).page
            assert compare(names[::-1], **options).page == pages[first, str(options)]
    assert len(set(pages.values())) == 6
    assert max(len(page.parent.name) for page in pages.values()) <= 90


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["compare", "a"], 2, "name two runs or files"),
        (["compare", "a", "a"], 2, "a is given twice"),
        (["compare", "a", "nothing"], 1, "nothing is not a run folder"),
        (["compare", "a", "nothing.csv"], 3, "there is no file nothing.csv"),
        (["compare", "a", "b", "--labels", "x.csv"], 2, "knows its images; leave out --labels"),
        (["compare", "a", "b", "--dataset", "cifar10"], 2, "leave out --dataset"),
        (["compare", "x.csv", "y.csv", "--labels", "z.csv", "--dataset", "cifar10"], 2, "give one of them"),
        (["compare", "a", "b", "--split", "val"], 1, "holds no predictions on val"),
        (["compare", "a", "b", "--out", "a-run"], 1, "a-run is a run; name another folder"),
        (["compare", "a", "short.csv"], 3, "holds 3 predictions, but the test split has 200 images"),
        (["compare", "a", "unfinished"], 1, "is not finished"),
        (["compare", "x.csv", "y.csv", "--labels", "empty.npy"], 3, "empty.npy is empty"),
        (["compare", "x.csv", "y.csv", "--labels", "scores.npy"], 3, "scores.npy holds scores; --labels needs"),
        (["compare", "one.csv", "other.csv", "--labels", "one.csv"], 3, "compare answers to several"),
        (["compare", "a", "v\udcff.csv"], 2, "is not UTF-8, so no page can hold it; rename the file"),
    ],
    ids=lambda value: " ".join(value[1:]) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line(
    words: list[str], code: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    make_run("a")
    make_run("b", seed=1)
    (make_run("unfinished").path / "result.json").unlink()
    Path("a-run").mkdir()
    Path("a-run/config.yaml").write_text("")
    Path("short.csv").write_text("1\n2\n3\n")
    for name in ("x.csv", "y.csv"):
        Path(name).write_text("1\n2\n")
    for name in ("one.csv", "other.csv"):
        Path(name).write_text("1\n")
    np.save("empty.npy", np.zeros(0, dtype=np.int64))
    np.save("scores.npy", np.eye(2))
    assert main(words) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert len(captured.err.strip().splitlines()) == 1
    assert message in captured.err


def test_the_command_prints_what_the_tests_support(capsys: pytest.CaptureFixture[str]) -> None:
    make_run("good", 0.85, seed=1)
    make_run("bad", 0.4, config=with_fields(PUBLIC, optimizer__lr=0.3))
    assert main(["compare", "good", "bad"]) == 0
    text = capsys.readouterr().out
    assert re.search(
        r"good is right on \d+ images more than bad, of 200: \+[\d.]+ points \[[\d.]+, [\d.]+\], McNemar p <", text
    )
    assert "200 test images, with test-time views" in text
    page = Path(re.search(r"page: (.*)", text).group(1))  # type: ignore[union-attr]
    assert re.fullmatch(r"compare-bad-good-[0-9a-f]{6}", page.parent.name)
    assert (page.parent.parent, page.name) == (runs_root(), "comparison.html")
    assert main(["compare", "good", "bad", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    written = json.loads((page.parent / "comparison.json").read_text())
    assert printed["findings"] == written["findings"]
    assert printed["sources"] == {"good": str(Run.open("good").path), "bad": str(Run.open("bad").path)}
    assert {key: value for key, value in written.items() if key != "time"} == {
        k: v for k, v in printed.items() if k != "page"
    }
