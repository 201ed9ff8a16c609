"""compare: stored answers only, of the same images only, with a page and JSON that agree; every mistake is one line."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.conftest import with_fields

from cifarlab import comparison_page
from cifarlab.answers import load_answers
from cifarlab.cli import main
from cifarlab.commands import compare as module
from cifarlab.commands.compare import compare
from cifarlab.config import Config, DataConfig
from cifarlab.data import ImageSet, SourceData
from cifarlab.data.cifar import CIFAR10
from cifarlab.errors import DataError, DownloadError, RunError, UsageError
from cifarlab.run import Predictions, Run, runs_root

N = 200
LABELS = torch.arange(N) % 10
PUBLIC = Config(recipe="fast", data=DataConfig(val_fraction=0.5))


@pytest.fixture(autouse=True)
def _no_real_images(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = torch.randint(0, 256, (N, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = ImageSet(pixels, LABELS, CIFAR10.class_names)
    monkeypatch.setattr(module, "load_source", lambda *_, **__: SourceData(images, None, images, "cifar10"))


@pytest.fixture(autouse=True)
def _plots_cost_seconds(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if not {"page", "pictures"} & set(request.node.name.split("_")):
        monkeypatch.setattr(module, "write_page", lambda *_: None)


def logits(accuracy: float, draw: int) -> torch.Tensor:
    """Logits of a model that is right where a difficulty common to all lies below its accuracy, but for some noise."""
    generator = np.random.default_rng(draw)
    right = np.random.default_rng(99).random(N) + 0.1 * generator.normal(size=N) < accuracy
    answers = np.where(right, LABELS.numpy(), (LABELS.numpy() + generator.integers(1, 10, N)) % 10)
    return torch.from_numpy(generator.random((N, 10)).astype(np.float32)) + 2 * torch.eye(10)[answers]


def make_run(
    name: str,
    accuracy: float = 0.7,
    *,
    config: Config = PUBLIC,
    seed: int = 0,
    splits: tuple[str, ...] = ("test",),
    views: bool = True,
    labels: torch.Tensor = LABELS,
    recorded: dict[str, Any] | None = None,
) -> Run:
    run = Run.create(with_fields(config, train__seed=seed), name=name)
    run.write_json("environment.json", {"split_sha256": "s", "data_sha256": "d"} if recorded is None else recorded)
    for split in splits:
        plain, averaged = logits(accuracy, seed + 1), logits(accuracy + 0.1, seed + 101)
        run.save_predictions(
            split, Predictions(plain[: len(labels)], labels, averaged[: len(labels)] if views else None)
        )
    run.write_json("result.json", {"format": 1})
    return run


def answers_of(run: Run, *, views: bool = True) -> list[int]:
    said = run.load_predictions("test")
    chosen = said.logits_tta_NK if views else said.logits_NK
    assert chosen is not None
    return [int(k) for k in chosen.argmax(1)]


def predictions_file(path: Path, ids: list[int], labels: list[int] | None = None) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["index", "prediction"] + ["label"] * (labels is not None))
        writer.writerows([n, k, *([labels[n]] if labels else [])] for n, k in enumerate(ids))
    return path


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


def test_foreign_predictions_against_a_run(tmp_path: Path) -> None:
    run = make_run("a")
    theirs = [(k + 1) % 10 if n % 4 == 0 else k for n, k in enumerate(answers_of(run))]
    path = predictions_file(tmp_path / "vendor.csv", theirs, LABELS.tolist())
    result = compare(["a", str(path)])
    assert [one.name for one in result.comparison.models] == ["a", "vendor.csv"]
    assert result.comparison.models[1].correct == int((np.array(theirs) == LABELS.numpy()).sum())
    names = [{"image": n, "class": CIFAR10.class_names[k]} for n, k in enumerate(theirs)]
    (tmp_path / "vendor.json").write_text(json.dumps(names))
    again = compare(["a", str(tmp_path / "vendor.json")], out=tmp_path / "out")
    assert again.comparison.model_pairs[0].paired == result.comparison.model_pairs[0].paired
    assert again.page == tmp_path / "out" / "comparison.html"


def test_files_tell_the_images_of_a_folder(tmp_path: Path) -> None:
    """The answers stand in another order than the images, and only the files' names say which is whose."""
    truth = torch.tensor([0] * 5 + [1] * 5)
    for n in range(10):
        for split in ("train", "test"):
            path = tmp_path / "photos" / split / f"class{n // 5}" / f"{n}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (5 * n, 0, 0)).save(path)
    data = DataConfig(folder=str(tmp_path / "photos"), image_size=8, val_fraction=0.5)
    run = Run.create(Config(recipe="own", data=data), name="a")
    run.save_predictions("test", Predictions(torch.eye(2)[truth], truth))
    run.write_json("result.json", {})
    run.write_json("evaluation.json", {"splits": {"test": {"class_names": ["class0", "class1"]}}})
    order = [7, 2, 9, 0, 4, 5, 1, 8, 3, 6]
    (tmp_path / "vendor.csv").write_text(
        "filename,prediction\n" + "".join(f"{n}.png,{n // 5 if n != 3 else 1}\n" for n in order)
    )
    found = load_answers(["a", str(tmp_path / "vendor.csv")])
    assert np.flatnonzero(found.candidates[1].predicted_N != found.labels_N).tolist() == [3]
    (tmp_path / "photos" / "test" / "class0" / "99.png").write_bytes(path.read_bytes())
    with pytest.raises(DataError, match="have changed since they were judged"):
        load_answers(["a", str(tmp_path / "vendor.csv")])


def test_foreign_labels_that_differ_are_refused(tmp_path: Path) -> None:
    run = make_run("a")
    labels = LABELS.tolist()
    labels[7] = 3
    path = predictions_file(tmp_path / "vendor.csv", answers_of(run), labels)
    with pytest.raises(
        DataError, match=r"other labels than .*a for 1 of 200 images \(first: image 7, cat against horse\)"
    ):
        load_answers(["a", str(path)])


def test_two_files_need_to_know_what_is_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = predictions_file(tmp_path / "a.csv", LABELS.tolist())
    second = predictions_file(tmp_path / "b.csv", [0] * N)
    truth = predictions_file(tmp_path / "truth.csv", LABELS.tolist())
    with pytest.raises(UsageError, match="nothing says what is true; add a run, or --dataset cifar10"):
        load_answers([str(first), str(second)])
    by_file = compare([str(first), str(second)], labels=str(truth))
    assert [one.correct for one in by_file.comparison.models] == [N, N // 10]
    assert any("only the labels" in note for note in by_file.notes)
    monkeypatch.setattr(
        "cifarlab.answers.split_images",
        lambda data, split: ImageSet(torch.zeros(N, 3, 8, 8, dtype=torch.uint8), LABELS, CIFAR10.class_names),
    )
    by_name = compare([str(first), str(second)], dataset="cifar10")
    assert [one.correct for one in by_name.comparison.models] == [N, N // 10]
    labelled = predictions_file(tmp_path / "c.csv", [0] * N, LABELS.tolist())
    by_column = compare([str(first), str(labelled)])
    assert [one.correct for one in by_column.comparison.models] == [N, N // 10]
    assert any("c.csv" in note and "What is true" in note for note in by_column.notes)


def files_of(tmp_path: Path, **texts: list[object]) -> list[str]:
    for name, entries in texts.items():
        (tmp_path / f"{name}.csv").write_text("".join(f"{entry}\n" for entry in entries))
    return [str(tmp_path / f"{name}.csv") for name in texts]


def test_labels_by_name_and_predictions_by_id_are_not_matched_by_the_alphabet(tmp_path: Path) -> None:
    names, ids = ["wolf", "ant", "bee"] * 4, [0, 1, 2] * 4  # in the order of their maker
    *both, labels = files_of(tmp_path, one=ids, two=ids, labels=names)
    with pytest.raises(DataError, match=r"one\.csv, line 1: the class is 0, but nothing tells which of ant, bee, wolf"):
        load_answers(both, labels=labels)
    *both, labels = files_of(tmp_path, one=names, two=names[::-1], labels=names)
    assert load_answers(both, labels=labels).class_names == ("ant", "bee", "wolf")
    tutorial = ["plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    *both, labels = files_of(tmp_path, one=list(range(10)), two=tutorial, labels=tutorial)
    found = load_answers(both, labels=labels)
    assert [one.predicted_N.tolist() for one in found.candidates] == [list(range(10))] * 2


def test_classes_that_no_image_has_can_be_predicted_and_are_told(tmp_path: Path) -> None:
    *both, labels = files_of(tmp_path, one=[0, 1, 2, 9], two=[0, 1, 2, 3], labels=[0, 1, 2, 2])
    found = load_answers(both, labels=labels)
    assert [one.predicted_N.tolist() for one in found.candidates] == [[0, 1, 2, 9], [0, 1, 2, 3]]
    assert "No image is labelled 3 and 9, though they are predicted." in found.notes
    *both, labels = files_of(
        tmp_path, one=["ant", "bee", "wolf"], two=["ant", "ANT", "bee"], labels=["ant", "bee", "bee"]
    )
    found = load_answers(both, labels=labels)
    assert found.class_names == ("ant", "bee", "wolf")
    assert "No image is labelled wolf, though it is predicted." in found.notes
    *both, labels = files_of(tmp_path, one=["ant", "bee"], two=["bee", "bee"], labels=["Ant", "bee"])
    assert not any("No image" in note for note in load_answers(both, labels=labels).notes)


def test_files_are_matched_to_those_of_the_labels(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("file,label\nb.png,1\na.png,0\nc.png,2\n")
    (tmp_path / "one.csv").write_text("path,prediction\nphotos/a.png,0\nphotos/c.png,2\nphotos/b.png,0\n")
    (tmp_path / "two.csv").write_text("index,prediction\n0,1\n1,0\n2,2\n")
    both = [str(tmp_path / f"{name}.csv") for name in ("one", "two")]
    found = load_answers(both, labels=str(tmp_path / "labels.csv"))
    assert [one.predicted_N.tolist() for one in found.candidates] == [[0, 0, 2], [1, 0, 2]]
    assert found.labels_N.tolist() == [1, 0, 2]


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
