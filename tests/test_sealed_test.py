"""The sealed test: nothing but those who write it down, and few named others, can reach the labels of the test split.

Two proofs. By reading the code: every place that touches the test part of a source or of splits stands in a list, with
the reason why it may. By poisoning: where every label and pixel of the test split is changed, all that trains, studies,
searches, compares, or judges on validation images, leaves the same bytes.
"""

import ast
import functools
import json
import re
from pathlib import Path

import pytest
import torch

import cifarlab
from cifarlab.commands.compare import compare
from cifarlab.commands.evaluate import evaluate
from cifarlab.commands.study import study
from cifarlab.commands.train import train
from cifarlab.commands.tune import tune
from cifarlab.data import ImageSet, SourceData
from cifarlab.evaluation import conduct, writing
from cifarlab.experiments import page as study_page
from cifarlab.experiments.arms import Arm
from cifarlab.experiments.search import SearchSpec
from cifarlab.experiments.space import parse_space
from cifarlab.experiments.study import StudySpec
from cifarlab.run import read_tensors
from tests.conftest import make_images, with_fields
from tests.experiments.pretend import draw_nothing

SOURCE = Path(cifarlab.__file__).parent
BENCHMARKS = SOURCE.parents[1] / "benchmarks"

# what gives, or is, a set of splits that holds the test images
LOADERS = {"load_splits", "make_splits", "load_source", "load_cifar", "load_folder", "load_csv", "Splits", "SourceData"}
HOLDERS = re.compile(r"\b(Splits|SourceData)\b")
# what else leads to them
OTHER_DOORS = {"split_images", "test_labels_N", "test_images_NCHW"}
WHOLE = {"vars", "getattr", "asdict", "astuple", "fields", "iter"}

ALLOWED = {
    # how test images come to be, before anybody asks for them
    "cifarlab/data/cifar.py:CifarArrays.checksums": "checksums of the arrays",
    "cifarlab/data/cifar.py:verify": "compares shapes, counts and checksums with those of the data set",
    "cifarlab/data/sources.py:source_data": "puts the arrays that were verified into a SourceData",
    "cifarlab/data/splits.py:make_splits": "hands the test set on as the source brings it, or holds one out",
    # who reads them for a purpose of their own, told to the user
    "cifarlab/commands/evaluate.py:_choose_split": "evaluate --split test; written down before any image is used",
    "cifarlab/commands/explore.py:_load": "looks at data before any model: counts, pictures, duplicates across splits",
    "cifarlab/commands/compare.py:_images": "pictures of images on which models differ, whose answers are stored",
    "cifarlab/answers.py:split_images": "the one door of compare to a split",
    "cifarlab/answers.py:_Key.image_names": "files of images whose stored answers are compared; labels must be equal",
    "cifarlab/answers.py:_key_without_runs": "labels for others' predictions with --dataset; no run of ours is there",
    "cifarlab/evaluation/unknown_images.py:cifar100_set": "CIFAR-100 as images of no class of another data set",
    # who only counts them
    "cifarlab/commands/train.py:_describe_data": "number of test images, for environment.json",
    # measurements that are published, each written down in the run it reads for
    "benchmarks/arms.py:_train_and_judge": "benchmark of a recipe chosen on validation; writes it down",
    "benchmarks/arms.py:warm_up": "number of images only",
    "benchmarks/throughput.py:benchmark": "accuracy beside speed; writes it down",
}


@functools.cache
def parsed(path: Path) -> ast.Module:
    """Return the syntax tree of a source file."""
    return ast.parse(path.read_text(encoding="utf-8"))


def doors(tree: ast.AST) -> set[str]:
    """Return the functions (with their classes) that touch a test split, the whole of splits, or another door to it."""
    found: set[str] = set()

    def visit(node: ast.AST, where: tuple[str, ...], held: frozenset[str]) -> None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            where = (*where, node.name)
            held |= held_names(node)
        if touches(node, held):
            in_class = bool(where) and where[0].lstrip("_")[:1].isupper()
            found.add(".".join(where[: 2 if in_class else 1]) or "module")
        for child in ast.iter_child_nodes(node):
            visit(child, where, held)

    visit(tree, (), held_names(tree))
    return found


def held_names(scope: ast.AST) -> frozenset[str]:
    """Return the names in a scope that stand for splits or a source: by annotation, by assignment, by what they say."""
    names = {"splits", "source"}
    for node in ast.walk(scope):
        if isinstance(node, ast.arg) and node.annotation is not None and HOLDERS.search(ast.unparse(node.annotation)):
            names.add(node.arg)
        if isinstance(node, ast.AnnAssign) and HOLDERS.search(ast.unparse(node.annotation)):
            names.add(ast.unparse(node.target))
        if isinstance(node, ast.Assign) and is_loaded(node.value):
            names |= {ast.unparse(target) for target in node.targets}
        if isinstance(node, ast.NamedExpr) and is_loaded(node.value):
            names.add(ast.unparse(node.target))
    return frozenset(names)


def is_loaded(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in LOADERS


def is_held(node: ast.AST, held: frozenset[str]) -> bool:
    return is_loaded(node) or ast.unparse(node).split(".")[-1] in held or ast.unparse(node) in held


def touches(node: ast.AST, held: frozenset[str]) -> bool:
    if isinstance(node, ast.Attribute):
        one = node.attr in ("test", "__dict__") and is_held(node.value, held)
        return one or node.attr in OTHER_DOORS
    if isinstance(node, ast.Call):
        name = ast.unparse(node.func).split(".")[-1]
        whole = name in WHOLE and any(is_held(argument, held) for argument in node.args[:1])
        return whole or name in OTHER_DOORS
    return False


@pytest.mark.parametrize(
    ("code", "reached"),
    [
        ("def f(config):\n    return load_splits(config).test", True),
        ("def f(config):\n    s = data.load_splits(config)\n    return s.test.labels_N", True),
        ("def f(x: Splits | None):\n    return x.test", True),
        ("def f(splits):\n    return vars(splits)", True),
        ("def f(self):\n    return self.splits.test", True),
        ("def f(data):\n    return split_images(data, name)", True),
        ("def f(arm):\n    return arm.test", False),
        ("def f(splits):\n    return splits.val", False),
    ],
)
def test_the_reading_of_code_sees_what_it_should(code, reached):
    assert bool(doors(ast.parse(code))) is reached


def test_every_place_in_the_code_that_reaches_the_test_split_is_known():
    found = set()
    for root, name in ((SOURCE, "cifarlab"), (BENCHMARKS, "benchmarks")):
        for path in sorted(root.rglob("*.py")):
            place = f"{name}/{path.relative_to(root).as_posix()}"
            found |= {f"{place}:{function}" for function in doors(parsed(path))}
    assert found == set(ALLOWED), "give the reason in ALLOWED, and let the reading be written down"


def test_only_those_named_ask_for_an_evaluation_of_test():
    """Whoever calls evaluate with a split of its own choosing reads test only if it says so in its code."""
    callers = {
        f"{path.relative_to(SOURCE).as_posix()}:{ast.unparse(keyword.value)}"
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "evaluate"
        for keyword in node.keywords
        if keyword.arg == "split" and ast.unparse(keyword.value) != "'val'"
    }
    assert callers == {
        "cli_evaluate.py:arguments.split",  # the user's own --split
        "commands/quickstart.py:'test'",  # the main job, once, at its end
        "commands/study.py:'test'",  # study --test
    }


# Poison


def poisoned(source: SourceData) -> SourceData:
    """Return the same training images beside a test set of which every pixel and every label is another."""
    test = source.test
    return SourceData(
        source.train,
        source.val,
        ImageSet(255 - test.images_NCHW, (test.labels_N + 1) % len(test.class_names), test.class_names),
        source.origin,
    )


CLOCKS = re.compile(r"time|seconds|clock|per_second|memory|started|created|ended|duration|host|pid|load")


def without_clocks(value):
    """Return JSON without what two runs of one thing never share."""
    if isinstance(value, dict):
        return {key: without_clocks(item) for key, item in value.items() if not CLOCKS.search(key)}
    return [without_clocks(item) for item in value] if isinstance(value, list) else value


def left_behind(root: Path) -> dict[str, object]:
    """Return the content of all files below a folder but for pages, which are made of the JSON beside them."""
    found: dict[str, object] = {}
    for path in sorted(root.rglob("*")):
        if path.is_dir() or path.suffix in (".html", ".md", ".db", ".svg", ".png"):
            continue
        name = path.relative_to(root).as_posix()
        if path.suffix == ".json":
            found[name] = without_clocks(json.loads(path.read_text().replace(str(root), "here")))
        elif path.suffix == ".jsonl":
            found[name] = [without_clocks(json.loads(line)) for line in path.read_text().splitlines()]
        elif path.parent.name == "checkpoint":  # which holds clocks beside the state
            tensors, _ = read_tensors(path)
            found[name] = {key: tensor.numpy().tobytes() for key, tensor in tensors.items()}
        elif path.name not in ("study.csv", "tune.csv"):  # whose columns are those of the JSON, clocks included
            found[name] = path.read_bytes()
    return found


@pytest.fixture
def everything(config, monkeypatch, tmp_path):
    """Return a function that does all that may not see test, in a folder of its own, and returns what it left."""
    pytest.importorskip("optuna")
    draw_nothing(monkeypatch)
    monkeypatch.setattr(study_page, "_figures", lambda findings, evidence: {})
    monkeypatch.setattr(writing, "save_plots", lambda folder, split, figures: None)
    monkeypatch.setattr(conduct, "write_mistakes", lambda *arguments: None)
    config = with_fields(config, train__epochs=1)

    def do(name: str, source: SourceData) -> Path:
        root = tmp_path / name
        root.mkdir()
        monkeypatch.chdir(root)
        monkeypatch.setenv("CIFARLAB_RUNS", "runs")
        monkeypatch.setattr("cifarlab.data.sources.load_cifar", lambda dataset, **rest: source)
        runs = [train(with_fields(config, train__seed=seed), name=f"run-{seed}") for seed in (0, 1)]
        arms = (Arm("few", {"train.batch_size": 27}), Arm("many", {"train.batch_size": 54}))
        study(StudySpec(name="s", question="", base=config, arms=arms, seeds=1))
        space = parse_space(("optimizer.lr=0.01,0.02",), config)
        tune(SearchSpec(name="t", recipe=config, space=space, sampler="grid"), train=train, trials=2)
        for run in runs:
            evaluate(run, device="cpu")
        compare([str(run.path) for run in runs], split="val", out=root / "compared")
        return root

    return do


def test_poisoned_test_labels_change_nothing_but_the_evaluation_of_test(everything):
    source = SourceData(train=make_images(120, seed=1), val=None, test=make_images(60, seed=2), origin="tiny")
    roots = [everything("clean", source), everything("poisoned", poisoned(source))]
    clean, other = (left_behind(root) for root in roots)
    assert len([name for name in clean if name.endswith("model.safetensors")]) == 6
    assert {"compared/comparison.json", "runs/run-0/evaluation.json", "runs/run-0/predictions/val.safetensors"} <= set(
        clean
    )
    assert set(clean) == set(other)
    assert [name for name in clean if clean[name] != other[name]] == []
    assert not list(roots[0].rglob("test_reads.jsonl"))


def test_the_poison_works(everything, monkeypatch, config, tmp_path):
    source = SourceData(train=make_images(120, seed=1), val=None, test=make_images(60, seed=2), origin="tiny")
    monkeypatch.setattr("cifarlab.data.sources.load_cifar", lambda dataset, **rest: source)
    run = train(with_fields(config, train__epochs=1), name="one")
    first = evaluate(run, split="test", sections=(), device="cpu")
    monkeypatch.setattr("cifarlab.data.sources.load_cifar", lambda dataset, **rest: poisoned(source))
    second = evaluate(run, split="test", sections=(), device="cpu")
    assert first.confusion != second.confusion
    assert not torch.equal(source.test.labels_N, poisoned(source).test.labels_N)
