"""What each command takes: a dataclass a command; its fields are the flags, its docstrings are the ``--help``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from cifarlab.config import Config, DataConfig
from cifarlab.evaluation.options import Options
from cifarlab.evaluation.sections import SECTIONS
from cifarlab.experiments.default_spaces import BUILT_IN
from cifarlab.experiments.presets import PRESETS
from cifarlab.recipes import RECIPES

DEFAULT_RECIPE = "fast90"


@dataclass(frozen=True, kw_only=True)
class FetchArguments:
    """Fetch a data set, verify it, and keep it in the cache. Nothing is done where it already is there."""

    dataset: tyro.conf.Positional[Literal["cifar10", "cifar100", "cifar10-c", "cifar10.1"]] = "cifar10"
    """Which data set; cifar10-c (corrupted test images, 2.9 GB) and cifar10.1 (new ones) serve evaluate only."""
    url: str = ""
    """Archive to try first, as CIFARLAB_CIFAR10_URL does; of cifar10-c and cifar10.1 the folder with the files."""
    json: bool = False
    """Print the result as JSON."""


@dataclass(frozen=True, kw_only=True)
class ExploreArguments:
    """Look at the data before training: balance, pictures, statistics, duplicates, split hashes."""

    out: Path = Path("exploration")
    """Folder for exploration.html and exploration.json."""
    data: DataConfig
    json: bool = False
    """Print where the results are as JSON."""


@dataclass(frozen=True, kw_only=True)
class TrainArguments(Config):
    """Train a run: a recipe, with any field changed by its flag.

    Models (--model.name): speednet, convnet, mixconv, resnet. Only the section of the chosen model counts.
    """

    recipe: Annotated[
        tyro.conf.Positional[str], tyro.conf.arg(help=f"Named configuration to start from: {', '.join(RECIPES)}.")
    ] = DEFAULT_RECIPE
    config: Path | None = None
    """YAML file to start from instead of a recipe, such as runs/x/config.yaml."""
    resume: str = ""
    """Run folder to continue to the bytes it would have reached without the stop; takes no other settings."""
    name: str = ""
    """Name of the run folder; by default the recipe's."""
    json: bool = False
    """Print the result as JSON."""


@dataclass(frozen=True, kw_only=True)
class EvaluateArguments:
    """Judge a finished run on images it was not trained on, or somebody else's answers from a file.

    Validation images unless test is asked for; each reading of test is written down in the run.
    """

    run: tyro.conf.Positional[str] = ""
    """Run folder, or its name below the runs folder."""
    split: Literal["val", "test"] = "val"
    """Which images."""
    sections: Annotated[
        tuple[str, ...],
        tyro.conf.arg(
            help="What is to be measured: quick (the default), all, or any of "
            + ", ".join(f"{name} ({'quick' if entry.quick else entry.cost})" for name, entry in SECTIONS.items())
        ),
    ] = ("quick",)
    require: float = 0.0
    """Exit with code 4 unless the lower end of the accuracy's 95 % interval reaches this, such as 0.9."""
    reason: str = ""
    """Why the test split is read; goes to test_reads.jsonl."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute."""
    answers: Path | None = None
    """Instead of a run: logits or probabilities of any model, as .npz, .npy or .csv (docs/predictions-file.md)."""
    labels: Path | None = None
    """With --answers: file of the true classes, where the answers' file does not hold them."""
    val_answers: Path | None = None
    """With --answers: the model's answers to other images, for what is fitted or chosen (temperature, threshold)."""
    val_labels: Path | None = None
    """With --val-answers: file of their true classes."""
    out: Path | None = None
    """With --answers: folder for figures, tables, plots and page."""
    options: tyro.conf.OmitArgPrefixes[Options] = field(default_factory=Options)
    """Settings of sections."""
    json: bool = False
    """Print the evaluation as JSON."""


@dataclass(frozen=True, kw_only=True)
class ReportArguments:
    """Build or buy: one page a manager can decide by, its figures as JSON and as a spreadsheet, and a model card.

    The page is about a run that was evaluated on test, about several runs that differ in the seed (the first is judged,
    all give the spread), or about a study.
    """

    sources: tyro.conf.Positional[tuple[str, ...]] = ()
    """Run folders, or one study's, or their names below the runs folder."""
    decision: Path | None = None
    """decision.yaml: volumes, prices, pay and requirements over the defaults."""
    write_decision: Path | None = None
    """Write the commented default decision.yaml to this path, to be edited, and nothing else."""
    vendor_predictions: Path | None = None
    """The vendor's answers to the same test images (docs/predictions-file.md), for a comparison image by image."""
    transfer: str = ""
    """Run that was fine-tuned on images of your own and evaluated on its test split."""
    out: Path | None = None
    """Folder for the report; by default that of the run or of the study."""
    json: bool = False
    """Print where everything is, and the answer, as JSON."""


@dataclass(frozen=True, kw_only=True)
class PredictArguments:
    """Classify image files and folders of any size and mode."""

    run: tyro.conf.Positional[str]
    """Run folder, or its name below the runs folder."""
    paths: tyro.conf.Positional[tuple[Path, ...]]
    """Files and folders."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute."""
    json: bool = False
    """Print all probabilities as JSON."""


@dataclass(frozen=True, kw_only=True)
class QuickstartArguments:
    """The main job: fetch CIFAR-10, explore it, train the default recipe, evaluate it, write the report."""

    recipe: tyro.conf.Positional[str] = DEFAULT_RECIPE
    """Which recipe."""
    seed: int = 0
    """Training seed."""
    url: str = ""
    """Archive to try before all others; CIFARLAB_CIFAR10_URL does the same."""


@dataclass(frozen=True, kw_only=True)
class DoctorArguments:
    """Report what this machine can do, what stands in the way, and which recipe fits it.

    Exit code 1 where training would not go right; warnings leave it at 0.
    """

    quick: bool = False
    """Leave out the measurements, which take some seconds."""
    json: bool = False
    """Print everything as JSON."""


@dataclass(frozen=True, kw_only=True)
class StudyArguments:
    """Compare configurations over seeds: every combination of the varied values, or a preset, or a list of arms.

    Every trial is an ordinary run, judged on validation images. A study that is stopped goes on with the same command;
    the same command in a second process or on another machine shares the work.
    """

    recipe: Annotated[
        tyro.conf.Positional[str],
        tyro.conf.arg(help=f"Recipe all trials start from: {', '.join(RECIPES)}. A preset brings its own."),
    ] = ""
    preset: Annotated[str, tyro.conf.arg(help=f"A study by name: {', '.join(PRESETS)}.")] = ""
    vary: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Field and its values, such as model.activation=relu,gelu; given several times, every combination is an arm."""
    arms: Path | None = None
    """YAML file with a list of arms instead: each label with the fields it changes."""
    set: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Field and value for all arms, such as train.epochs=5."""
    config: Path | None = None
    """YAML file to start from instead of a recipe."""
    seeds: int = 0
    """Trials of each arm; 0 takes the preset's number, else 5. A study can be given more seeds later."""
    name: str = ""
    """Name of the study; by default that of the preset, or of recipe and fields."""
    storage: str = ""
    """Where studies are recorded: postgresql://user@host/name, or an SQLite file; experiments.db in the runs folder."""
    join: bool = False
    """Work on a study that exists, and never create one; --name is enough to say which."""
    retry_failed: bool = False
    """Have failed trials done again."""
    test: bool = False
    """At the end read the test split once for every run, for figures to be published; each reading is written down."""
    plan: float | None = None
    """Only tell how many seeds would show a difference in accuracy, such as 0.001 for 0.1 point, and what they cost."""
    sd: float | None = None
    """With --plan: standard deviation over seeds to assume; by default that of the study's trials so far."""
    out: Path | None = None
    """Folder of the result page; by default studies/NAME in the runs folder."""
    json: bool = False
    """Print the result as JSON."""


@dataclass(frozen=True, kw_only=True)
class TuneArguments:
    """Search the settings of a recipe on validation images, give up trials that fall behind, write a recipe file.

    Every trial is an ordinary run. A search that is stopped goes on with the same command; the same command in a second
    process or on another machine shares the work. The best of many trials is an optimistic figure: --confirm trains the
    best again on fresh seeds and chooses by their means.
    """

    recipe: Annotated[tyro.conf.Positional[str], tyro.conf.arg(help=f"Recipe to start from: {', '.join(RECIPES)}.")] = (
        ""
    )
    search: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Field and what to try: optimizer.lr=log:0.01:0.5, train.batch_size=128,250, augment.cutout=0:12:4; repeatable."""
    space: Annotated[
        str,
        tyro.conf.arg(
            help="YAML file of such fields, or a built-in space: "
            + "; ".join(f"{name} ({what})" for name, what in BUILT_IN.items())
        ),
    ] = ""
    set: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Field and value for all trials, such as train.epochs=5; repeatable."""
    config: Path | None = None
    """YAML file to start from instead of a recipe."""
    trials: int | None = None
    """Trials of the search, whoever does them (the number asked for last, else 30 or a whole grid); more go on."""
    minutes: float | None = None
    """Begin no trial after so many minutes."""
    sampler: Literal["tpe", "random", "grid"] = "tpe"
    """How values are chosen: learnt from earlier trials (TPE), at random, or all combinations of lists and steps."""
    pruner: Literal["median", "hyperband", "none"] = "median"
    """When a trial is given up: its best so far is below the others' median at the epoch, by Hyperband, or never."""
    seeds_per_trial: int = 1
    """Runs of each trial, whose mean counts."""
    confirm: int = 0
    """At the end train the recipe and the best trials again on so many fresh seeds, and choose by their means."""
    top: int = 3
    """With --confirm: how many of the best trials."""
    name: str = ""
    """Name of the search; tune-RECIPE by default."""
    storage: str = ""
    """Where searches are recorded: a PostgreSQL URL or an SQLite file; by default experiments.db in the runs folder."""
    join: bool = False
    """Go on with a search that exists, as it was begun; --name or the recipe says which."""
    json: bool = False
    """Print the result as JSON."""


@dataclass(frozen=True, kw_only=True)
class CompareArguments:
    """Compare runs, and others' models, by their stored answers to the same images: which is better, and is it shown?

    Runs whose configurations differ in the seed only are one recipe, compared over its seeds.
    """

    sources: tyro.conf.Positional[tuple[str, ...]]
    """Run folders (or names below the runs folder) and files of predictions (docs/predictions-file.md), two or more."""
    split: Literal["auto", "test", "val"] = "auto"
    """Which images; auto is test where every run holds predictions on it, else val."""
    views: Literal["auto", "yes", "no"] = "auto"
    """Answers averaged over test-time views: where all runs have them, in any case, or never."""
    labels: str = ""
    """Without a run: file of the true classes, in a form of docs/predictions-file.md."""
    dataset: Literal["", "cifar10", "cifar100"] = ""
    """Without a run: public data set whose labels are true."""
    out: Path | None = None
    """Folder for the page, its plots and the JSON; by default one named after the sources, below the runs folder."""
    json: bool = False
    """Print the comparison as JSON."""
