"""Answers: what runs and files of predictions say about one split, checked to be about the same images.

Only stored predictions are read; no model runs. Reading ``predictions/test.safetensors`` is no new reading of the test
split: that was written down when ``evaluate`` made the file, and ``report`` reads its figures in the same way.

Shape suffix: N images.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cifarlab.candidate_names import distinct, each_seed_once, recipe_labels
from cifarlab.comparison import Candidate
from cifarlab.config import Config, DataConfig
from cifarlab.data import ImageSet, load_splits
from cifarlab.errors import DataError, UsageError
from cifarlab.phrases import listed
from cifarlab.predictions_file import SUFFIXES, Classes, Table, read_table, resolve, vocabulary
from cifarlab.run import Predictions, Run

Split = Literal["test", "val"]
Views = Literal["auto", "yes", "no"]
_NAMED = 3  # names in a note; the rest is counted


@dataclass(frozen=True)
class Answers:
    """What several models say about the same images.

    Attributes:
        split: 'test' or 'val'; empty for labels from a file.
        labels_N: int64, N.
        class_names: K names in label order.
        candidates: The models, in the order given.
        sources: Where the answers of each stand, in that order.
        configs: Configuration of each, None for files.
        with_views: Whether the answers of runs are averaged over test-time views.
        data: The images' source; None where only labels are known.
        notes: What the reader should know.
    """

    split: str
    labels_N: NDArray[np.int64]
    class_names: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    sources: tuple[str, ...]
    configs: tuple[Config | None, ...]
    with_views: bool
    data: DataConfig | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Key:
    """What is true of the images, and where that is known from."""

    split: str
    labels_N: NDArray[np.int64]
    classes: Classes
    data: DataConfig | None
    origin: str
    files: tuple[str, ...] = ()

    def image_names(self, files: Iterable[Table]) -> tuple[str, ...]:
        """Return the file of each image, N, if a table tells its images by file alone; empty where there are none.

        Raises:
            DataError: If the images cannot be had, or have changed since they were judged.
        """
        wanted = any(table.files is not None and table.index is None for table in files)
        if self.files or not wanted or self.data is None or not (self.data.folder or self.data.csv):
            return self.files
        images = split_images(self.data, self.split)
        if images is None or not np.array_equal(images.labels_N.numpy(), self.labels_N):
            raise DataError(f"the images of {self.origin} have changed since they were judged, so no file can be found")
        return images.names


def load_answers(
    sources: Sequence[str],
    *,
    split: Literal["auto", "test", "val"] = "auto",
    views: Views = "auto",
    labels: str = "",
    dataset: Literal["", "cifar10", "cifar100"] = "",
) -> Answers:
    """Load stored answers to the same images.

    Args:
        sources: Run folders (or names below the runs folder) and files of predictions; at least two.
        split: Which split; auto is test where every run holds predictions on it, else val.
        views: Answers averaged over test-time views: where all runs have them, or in any case, or never.
        labels: File of true classes; only without a run.
        dataset: Public data set whose labels are true; only without a run.

    Raises:
        UsageError: If the sources cannot be compared as asked.
        RunError: If a run is missing, unfinished, or holds no predictions on the split.
        DataError: If a file cannot be read or does not fit, or two sources speak of different images.
    """
    for source in (*sources, labels):
        if any("\ud800" <= character <= "\udfff" for character in source):  # bytes of a name that is not UTF-8
            raise UsageError(f"the name {source!r} is not UTF-8, so no page can hold it; rename the file or folder")
    paths = [Path(source) for source in sources]
    files = {path: read_table(path) for path in paths if _is_file(path)}
    runs = {path: Run.open(path) for path in paths if path not in files}
    _check_usage(paths, runs, labels, dataset)
    if runs:
        return _with_runs(paths, files, runs, split, views)
    key = _key_without_runs(files, "test" if split == "auto" else split, labels, dataset)
    assumed: dict[str, list[str]] = {}
    candidates = [_foreign(path.name, table, key, key.files, assumed) for path, table in files.items()]
    notes = [f"What is true is taken from {key.origin}.", *_told(assumed), *_unlabelled(key, candidates)]
    return Answers(
        key.split,
        key.labels_N,
        key.classes.names,
        distinct(candidates, paths),
        tuple(map(str, paths)),
        (None,) * len(paths),
        False,
        key.data,
        tuple(notes),
    )


def _is_file(path: Path) -> bool:
    return path.is_file() or (path.suffix.lower() in SUFFIXES and not path.is_dir())


def _check_usage(paths: Sequence[Path], runs: dict[Path, Run], labels: str, dataset: str) -> None:
    if len(paths) < 2:
        raise UsageError("name two runs or files of predictions, or more: cifarlab compare runs/a runs/b")
    places = [runs[path].path.resolve() if path in runs else path.resolve() for path in paths]
    for path, place in zip(paths, places, strict=True):
        if places.count(place) > 1:
            raise UsageError(f"{path} is given twice; name every run once")
    if labels and dataset:
        raise UsageError("--labels and --dataset both say what is true; give one of them")
    if runs and (labels or dataset):
        raise UsageError(f"{next(iter(runs))} knows its images; leave out {'--labels' if labels else '--dataset'}")


def _with_runs(
    paths: Sequence[Path],
    files: dict[Path, Table],
    runs: dict[Path, Run],
    split: Literal["auto", "test", "val"],
    views: Views,
) -> Answers:
    for run in runs.values():
        run.require_finished()
    notes: list[str] = []
    chosen = _choose_split(list(runs.values()), split, notes)
    predictions = {path: run.load_predictions(chosen) for path, run in runs.items()}
    with_views = _choose_views(runs, predictions, views, notes)
    configs = {path: run.config for path, run in runs.items()}
    first_path, first = next(iter(runs.items()))
    labels_N = predictions[first_path].labels_N.numpy().astype(np.int64)
    names = _class_names(first, chosen, predictions[first_path].logits_NK.shape[1])
    key = _Key(chosen, labels_N, Classes(names), configs[first_path].data, str(first.path))
    for path, run in list(runs.items())[1:]:
        notes += _require_same_images(first, run, chosen, labels_N, predictions[path])
        if _class_names(run, chosen, predictions[path].logits_NK.shape[1]) != names:
            raise DataError(f"{run.path} and {first.path} have different classes; compare models of one task")
    labels = recipe_labels(configs)
    candidates = []
    assumed: dict[str, list[str]] = {}
    image_names = key.image_names(files.values())
    for path in paths:
        if path in files:
            candidates.append(_foreign(path.name, files[path], key, image_names, assumed))
            continue
        said = predictions[path]
        logits_NK = said.logits_tta_NK if with_views and said.logits_tta_NK is not None else said.logits_NK
        candidates.append(
            Candidate(runs[path].name, labels[path], configs[path].train.seed, logits_NK.argmax(1).numpy())
        )
    independent = each_seed_once(distinct(candidates, paths), notes)
    return Answers(
        chosen,
        labels_N,
        names,
        independent,
        tuple(str(runs[path].path if path in runs else path) for path in paths),
        tuple(configs.get(path) for path in paths),
        with_views,
        key.data,
        (*notes, *_told(assumed)),
    )


def _choose_split(runs: Sequence[Run], split: Literal["auto", "test", "val"], notes: list[str]) -> Split:
    if split != "auto":
        return split
    without = [run for run in runs if not (run.path / "predictions" / "test.safetensors").is_file()]
    if not without:
        return "test"
    if all((run.path / "predictions" / "val.safetensors").is_file() for run in runs):
        notes.append(f"Compared on val, for {without[0].path} holds no predictions on test.")
        return "val"
    return "test"  # whose absence is then reported, with the way on


def _choose_views(runs: dict[Path, Run], predictions: dict[Path, Predictions], views: Views, notes: list[str]) -> bool:
    without = [runs[path] for path, said in predictions.items() if said.logits_tta_NK is None]
    if views == "yes" and without:
        raise UsageError(f"{without[0].path} has no answers averaged over test-time views; leave out --views yes")
    if views == "auto" and without and len(without) < len(runs):
        notes.append(f"Answers are to the plain images, for {without[0].path} has no test-time views.")
    return views != "no" and not without


def _class_names(run: Run, split: str, num_classes: int) -> tuple[str, ...]:
    """Return a run's class names: those of its evaluation, else of its public data set, else of its model."""
    path = run.path / "evaluation.json"
    judged = run.read_json(path.name).get("splits", {}).get(split) if path.is_file() else None
    if judged:
        return tuple(judged["class_names"])
    data = run.config.data
    if data.dataset == "cifar10" and not (data.folder or data.csv):
        from cifarlab.data.cifar import CIFAR10

        return CIFAR10.class_names
    names = run.load_model()[1].get("class_names") or [str(k) for k in range(num_classes)]
    return tuple(names)


def _require_same_images(
    first: Run, run: Run, split: Split, labels_N: NDArray[np.int64], said: Predictions
) -> list[str]:
    """Make sure that two runs were judged on the same images; return a note where that cannot be made sure of.

    Equal labels are needed and not enough. The official test set of a public data set is always the same, and its
    validation split follows from two fields; of other images only an equal hash of the whole split tells.
    """
    where = f"{first.path} and {run.path} were judged on different {split} images"
    remedy = "compare runs with equal --data settings"
    theirs_N = said.labels_N.numpy()
    if len(labels_N) != len(theirs_N):
        raise DataError(f"{where}: {len(labels_N):,} against {len(theirs_N):,}; {remedy}")
    if differ := int((labels_N != theirs_N).sum()):
        raise DataError(f"{where}: {differ:,} of {len(labels_N):,} labels differ; {remedy}")
    public = _public(first.config.data, split)
    if public is not None and public == _public(run.config.data, split):
        return []
    ours, others = (_recorded(one) for one in (first, run))
    for key, what in (("split_sha256", "their splits"), ("data_sha256", "the training images beside them")):
        if ours.get(key) and others.get(key) and ours[key] != others[key]:
            raise DataError(f"{where}: {what} differ ({key} in environment.json); {remedy}")
    silent = [str(one.path) for one, known in ((first, ours), (run, others)) if not known.get("split_sha256")]
    return [
        f"{path} does not record its split: only equal labels show that its images are the same." for path in silent
    ]


def _public(data: DataConfig, split: Split) -> tuple[Any, ...] | None:
    """Return what decides which images of a public data set are in a split; None for a folder or CSV."""
    if data.folder or data.csv:
        return None
    return (data.dataset,) if split == "test" else (data.dataset, data.val_fraction, data.split_seed)


def _recorded(run: Run) -> dict[str, Any]:
    recorded = run.read_json("environment.json") if (run.path / "environment.json").is_file() else {}
    return recorded if isinstance(recorded, dict) else {}


def _told(assumed: dict[str, list[str]]) -> list[str]:
    """Return one line for each thing that was assumed, however many files it was assumed of."""
    lines = []
    for note, names in assumed.items():
        lines.append(f"{listed(names, _NAMED + 1)}: {note}.")
    return lines


def _unlabelled(key: _Key, candidates: Sequence[Candidate]) -> list[str]:
    """Return a line if classes are predicted that no image is labelled as: what is true may not be all there is."""
    said = np.concatenate([one.predicted_N for one in candidates])
    names = [key.classes.names[k] for k in np.setdiff1d(said, key.labels_N)]
    what = "it is" if len(names) == 1 else "they are"
    return [f"No image is labelled {listed(names, _NAMED + 1)}, though {what} predicted."] if names else []


def _foreign(
    name: str, table: Table, key: _Key, image_names: Sequence[str], assumed: dict[str, list[str]]
) -> Candidate:
    found = resolve(table, key.classes, len(key.labels_N), key.split or "labelled", image_names)
    for note in found.notes:
        assumed.setdefault(note, []).append(name)
    if found.labels_N is not None and (differ := np.flatnonzero(found.labels_N != key.labels_N)).size:
        at = int(differ[0])
        raise DataError(
            f"{table.path} gives other labels than {key.origin} for {differ.size:,} of {len(key.labels_N):,} images "
            f"(first: image {at}, {key.classes.names[found.labels_N[at]]} against "
            f"{key.classes.names[key.labels_N[at]]}); its images or their order differ"
        )
    return Candidate(name, str(table.path), None, found.predicted_N)


def _key_without_runs(files: dict[Path, Table], split: Split, labels: str, dataset: str) -> _Key:
    """Return what is true where no run tells: a public data set, a file of labels, or labels in one of the files."""
    if dataset:
        data = DataConfig(dataset="cifar10" if dataset == "cifar10" else "cifar100")
        images = split_images(data, split)
        assert images is not None  # a public data set has both splits
        return _Key(split, images.labels_N.numpy(), Classes(images.class_names), data, f"{dataset}, {split} split")
    if labels:
        table = read_table(Path(labels))
        entries = table.labels if table.labels is not None else table.predictions
        if entries is None:
            raise DataError(f"{table.path} holds scores; --labels needs the true class of every image, its id or name")
    else:
        table = next((table for table in files.values() if table.labels is not None), next(iter(files.values())))
        entries = table.labels
    if entries is None:
        raise UsageError(
            "nothing says what is true; add a run, or --dataset cifar10 --split test, or --labels FILE of true classes"
        )
    classes = vocabulary(entries, files.values())
    truth = replace(table, predictions=entries, scores=None, labels=None, files=None)
    found = resolve(truth, classes, len(table.rows), "labelled")
    names = tuple(map(str, table.files)) if table.files is not None and table.index is None else ()
    return _Key("", found.predicted_N, classes, None, str(table.path), names)


def split_images(data: DataConfig, split: str) -> ImageSet | None:
    """Return the images of a split; None if there are none.

    Raises:
        DataError: If the images cannot be had.
    """
    splits = load_splits(data)
    return splits.test if split == "test" else splits.val
