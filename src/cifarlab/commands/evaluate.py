"""Evaluate: what a finished run, or a file of answers, is worth on images it was not trained on.

Shape suffixes: N images, K classes.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import torch

from cifarlab.data import ImageSet, Splits, load_splits
from cifarlab.errors import IntegrityError, RunError, UsageError
from cifarlab.evaluation.conduct import conduct
from cifarlab.evaluation.foreign import read_answers_file
from cifarlab.evaluation.headline import Conditions, Evaluation, Proportion, headline_logits, judge
from cifarlab.evaluation.options import Options
from cifarlab.evaluation.page import About
from cifarlab.evaluation.section import Scored, Subject
from cifarlab.evaluation.sections import choose, require_files
from cifarlab.evaluation.writing import read_splits
from cifarlab.inference import Classifier, predict_logits
from cifarlab.run import Predictions, Run

__all__ = ["Evaluation", "Proportion", "evaluate", "evaluate_answers"]

_PRECISION = "fp32"  # as in Classifier: what is judged is what is shipped, and no machine rounds differently
_NO_OPTIONS = Options()


def evaluate(
    run: Run,
    *,
    split: Literal["val", "test"] = "val",
    sections: Sequence[str] = ("quick",),
    options: Options = _NO_OPTIONS,
    reason: str = "",
    device: str = "auto",
    notify: Callable[[str], None] = lambda line: None,
) -> Evaluation:
    """Predict a split, and write predictions, figures, tables, plots and a page into the run folder.

    A reading of test is recorded before it happens. Results of the other split, and of sections not asked for, stay.

    Args:
        run: A finished run.
        split: Which images.
        sections: Names of sections; 'quick' and 'all' stand for several.
        options: Settings of the sections.
        reason: Why the test split is read, for the record.
        device: 'auto', 'cpu', 'cuda' or 'mps'.
        notify: Takes one-line notices.

    Raises:
        RunError: If the run is not finished, is damaged, or cannot be written to.
        UsageError: If the run has no images in that split, a section does not exist, or none heeds a setting.
        DataError: If the images are not those the run was trained beside, or a file that a setting names is no use.
    """
    names = choose(sections, options)
    command = _command(str(run.path), *(["--split", "test"] if split == "test" else []), *_settings(sections, options))
    about = About(name=run.name, command=command, run=run.quoted)  # its clock begins
    run.require_finished()
    classifier = Classifier.load(run, device)
    splits = load_splits(run.config.data)
    images = _choose_split(run, splits, split)
    notices = _check_data(run, splits, classifier)
    require_files(options, images.class_names, split, len(images))
    read_splits(run.path)  # a damaged file is told before test is read
    if split == "test":
        run.log_test_read("evaluate --split test", reason)
    predictions = _predict(classifier, images)
    run.save_predictions(split, predictions)
    conditions = Conditions(classifier.views, classifier.views_margin, _PRECISION, classifier.device.type, notices)
    evaluation = judge(split, predictions, images.class_names, conditions, images.names)
    judged = Scored(headline_logits(predictions), images.labels_N, images)
    val = judged if split == "val" else _val(run, classifier, splits) if names else None
    subject = Subject(split, images.class_names, judged, val, classifier, lambda: splits.train, options, notify)
    facts = (("recipe", run.config.recipe), ("seed", str(run.config.train.seed)))
    about = dataclasses.replace(about, facts=facts, test_reads=run.test_reads())
    return conduct(run.path, evaluation, subject, names, about)


def evaluate_answers(
    answers: Path,
    *,
    out: Path,
    labels: Path | None = None,
    val_answers: Path | None = None,
    val_labels: Path | None = None,
    sections: Sequence[str] = ("quick",),
    options: Options = _NO_OPTIONS,
    notify: Callable[[str], None] = lambda line: None,
) -> Evaluation:
    """Judge logits or probabilities that somebody else's model gave.

    Args:
        answers: .npz, .npy or .csv of logits or probabilities.
        out: Folder for what is written.
        labels: True classes; None where the answers' file holds them.
        val_answers: Answers to other images, on which what is fitted or chosen is; None leaves such figures out.
        val_labels: Their true classes; None where their file holds them.
        sections: Names of sections; 'quick' and 'all' stand for several.
        options: Settings of the sections.
        notify: Takes one-line notices.

    Raises:
        DataError: If a file cannot be read, or does not fit.
        UsageError: If a section does not exist, none heeds a setting, or the two files have not as many classes.
        RunError: If the folder cannot be written.
    """
    chosen = choose(sections, options)
    files = {"answers": answers, "labels": labels, "val-answers": val_answers, "val-labels": val_labels, "out": out}
    named = [word for name, path in files.items() if path is not None for word in (f"--{name}", str(path))]
    about = About(name=answers.name, command=_command(*named, *_settings(sections, options)))
    found = read_answers_file(answers, labels or "")
    judged = found.scored
    class_names = found.class_names or tuple(f"class {k}" for k in range(judged.logits_NK.shape[1]))
    require_files(options, class_names, "given", len(judged.labels_N))
    val, notes = _val_answers(val_answers, val_labels, len(class_names)) if val_answers is not None else (None, ())
    predictions = Predictions(judged.logits_NK, judged.labels_N)
    evaluation = judge("given", predictions, class_names, Conditions(notices=(*found.notes, *notes)))
    subject = Subject("given", class_names, judged, val, None, None, options, notify)
    return conduct(out, evaluation, subject, chosen, about)


def _val_answers(path: Path, labels: Path | None, num_classes: int) -> tuple[Scored, tuple[str, ...]]:
    """Return a model's answers to its validation images from a file, and what was assumed or changed."""
    found = read_answers_file(path, labels or "", "--val-labels")
    known = found.scored.logits_NK.shape[1]
    if known != num_classes:
        raise UsageError(f"{path} has {known} classes, and the answers to judge have {num_classes}; name one model's")
    return found.scored, tuple(f"{path.name}: {note}" for note in found.notes)


def _command(*words: str) -> str:
    return shlex.join(["cifarlab", "evaluate", *words])


def _settings(sections: Sequence[str], options: Options) -> list[str]:
    """Return the flags of what differs from the usual, so that the command on the page repeats the evaluation."""
    words = ["--sections", *sections] if tuple(sections) != ("quick",) else []
    for field in dataclasses.fields(Options):
        value = getattr(options, field.name)
        if value != field.default:
            words += [f"--{field.name.replace('_', '-')}", str(value)]
    return words


def _choose_split(run: Run, splits: Splits, split: str) -> ImageSet:
    images = splits.test if split == "test" else splits.val
    if images is not None and len(images):
        return images
    other = "val" if split == "test" else "test"
    raise UsageError(
        f"{run.path} has no {split} images; take --split {other}, or train with data.{split}_fraction above 0"
    )


def _check_data(run: Run, splits: Splits, classifier: Classifier) -> tuple[str, ...]:
    """Make sure that the images are those the run was trained beside, and split as they were then."""
    if splits.train.class_names != classifier.class_names:
        raise IntegrityError(
            f"the images have the classes {', '.join(splits.train.class_names)}, but {run.path} was trained on "
            f"{', '.join(classifier.class_names)}; restore its images"
        )
    path = run.path / "environment.json"
    recorded = run.read_json(path.name) if path.is_file() else {}
    if "split_sha256" not in recorded:
        return ("The run does not record its split, so images it was trained on could be among those judged here.",)
    same = recorded["split_sha256"] == splits.sha256
    if same and "data_sha256" in recorded:
        same = recorded["data_sha256"] == splits.train.sha256()
    if not same:
        raise IntegrityError(
            f"the images or their split have changed since {run.path} was trained; restore them or train anew"
        )
    return ()


def _predict(classifier: Classifier, images: ImageSet) -> Predictions:
    logits_NK, logits_tta_NK = predict_logits(
        classifier.model,
        images.images_NCHW,
        views=classifier.views,
        views_margin=classifier.views_margin,
        batch_size=classifier.batch_size,
        precision=_PRECISION,
        device=classifier.device,
    )
    return Predictions(logits_NK, images.labels_N, logits_tta_NK)


def _val(run: Run, classifier: Classifier, splits: Splits) -> Scored | None:
    """Return the answers to the validation images, on which sections fit and choose; None where there are none.

    Those that training stored serve where it computed as here; else they are asked for again, and not stored.
    """
    if splits.val is None or not len(splits.val):
        return None
    predictions = _stored_val(run, splits.val)
    if predictions is None:
        predictions = _predict(classifier, splits.val)
    return Scored(headline_logits(predictions), splits.val.labels_N, splits.val)


def _stored_val(run: Run, val: ImageSet) -> Predictions | None:
    computed_alike = run.read_json("result.json").get("precision") == _PRECISION
    if not computed_alike:
        return None
    try:
        stored = run.load_predictions("val")
    except RunError:
        return None
    return stored if torch.equal(stored.labels_N, val.labels_N) else None
