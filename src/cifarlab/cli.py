"""The command line: a table of commands that parse, call and print. The work is done in cifarlab.commands.

What each command takes stands in cifarlab.cli_arguments. Imports are lazy, so that ``--help`` answers at once.
"""

from __future__ import annotations

import errno
import io
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cifarlab
from cifarlab import console, ranks
from cifarlab.cli_arguments import (
    DEFAULT_RECIPE,
    DoctorArguments,
    ExploreArguments,
    FetchArguments,
    PredictArguments,
    QuickstartArguments,
    TrainArguments,
)
from cifarlab.cli_compare import run_compare
from cifarlab.cli_evaluate import print_evaluation, run_evaluate
from cifarlab.cli_report import run_report
from cifarlab.cli_study import run_study
from cifarlab.cli_tools import fetch_first as _fetch_first
from cifarlab.cli_tools import parse as _parse
from cifarlab.cli_tools import stoppable as _stoppable
from cifarlab.cli_tune import run_tune
from cifarlab.config import Config, DataConfig
from cifarlab.errors import CifarlabError, UsageError
from cifarlab.phrases import duration
from cifarlab.recipes import RECIPES, load_recipe

if TYPE_CHECKING:
    from cifarlab.commands.doctor import Checkup
    from cifarlab.run import Run


def run_fetch(argv: Sequence[str]) -> None:
    """``cifarlab fetch``."""
    arguments: FetchArguments = _parse(FetchArguments, "fetch", argv)
    from cifarlab.commands.fetch import fetch

    with console.TransferDisplay() as display:
        result = fetch(arguments.dataset, url=arguments.url, progress=display.update, notify=display.notify)
    if arguments.json:
        console.print_json(vars(result))
    else:
        kept = f"kept in {result.path}" if result.path else "not kept, for the folder cannot be written"
        console.print_line(f"{arguments.dataset}: verified, from {result.source}, {kept}")


def run_explore(argv: Sequence[str]) -> None:
    """``cifarlab explore``."""
    arguments: ExploreArguments = _parse(ExploreArguments, "explore", argv, ExploreArguments(data=DataConfig()))
    from cifarlab.commands.explore import explore

    _fetch_first(arguments.data)
    result = explore(arguments.data, out=arguments.out)
    for note in result.notes:
        console.notify(note)
    if arguments.json:
        console.print_json({"page": str(result.page), "json": str(result.json)})
    else:
        console.print_line(f"page: {result.page}")
        console.print_line(f"data: {result.json}")


def run_train(argv: Sequence[str]) -> None:
    """``cifarlab train``."""
    base = _train_defaults(argv)
    arguments = _parse(TrainArguments, "train", argv, base)
    from cifarlab.commands.train import resume, train
    from cifarlab.config import ignored_sections
    from cifarlab.environment import process_start
    from cifarlab.run import Run
    from cifarlab.training.distributed import joined

    if arguments.recipe != base.recipe:
        raise UsageError(f"name the recipe first: cifarlab train {arguments.recipe} …")
    config = Config(**{field.name: getattr(arguments, field.name) for field in fields(Config)})
    alone = ranks.read_ranks().size == 1
    if alone and not arguments.resume:
        _fetch_first(config.data)  # before signals wait for the end of a step, of which a download has none
    with (
        console.TrainingDisplay() as display,
        _stoppable(display.on_step, display.on_epoch) as hooks,
        joined(stop_signal=hooks.stop_signal) as world,
    ):
        common: dict[str, Any] = {"hooks": hooks, "notify": display.notify, "started": process_start(), "world": world}
        with world.in_turn():
            resumed = Run.open(arguments.resume) if arguments.resume else None
            if resumed is None and not alone:
                _fetch_first(config.data)
        if resumed is not None:
            run = resume(resumed, **common)
        else:
            for section in ignored_sections(config, base) if world.is_main else []:
                display.notify(f"note: --{section} settings have no effect with --model.name {config.model.name}")
            run = train(config, name=arguments.name, **common)
    if world.is_main:
        _print_result(run, arguments.json)


def _print_result(run: Run, as_json: bool) -> None:
    result = run.read_json("result.json")
    if as_json:
        console.print_json({"run": str(run.path), **result})
        return
    if "val/accuracy" in result:
        console.print_line(f"val accuracy {result['val/accuracy']:.2%}, val loss {result['val/loss']:.3f}")
    console.print_line(result["diagnosis"]["sentence"])
    console.print_line(f"train clock {duration(result['train_clock_seconds'])}; run: {run.path}")
    console.print_line(f"next: cifarlab evaluate {run.quoted}")


def _train_defaults(argv: Sequence[str]) -> TrainArguments:
    """Return the defaults the flags change: those of the recipe or of the configuration file named in ``argv``.

    Raises:
        UsageError: For an unknown recipe, for settings next to --resume, or for --resume and --config without a name.
    """
    from cifarlab.config_yaml import load_config

    flags = dict(zip(argv, [*argv[1:], ""], strict=True))
    resume = [word for word in argv if word.startswith("--resume")]
    others = [word for word in argv if word.startswith("--") and not word.startswith(("--resume", "--json", "--help"))]
    path = flags.get("--config") or next((w.partition("=")[2] for w in argv if w.startswith("--config=")), "")
    named = argv[0] if argv and not argv[0].startswith("-") else ""
    for flag, wanted in (("--resume", "a run folder"), ("--config", "a YAML file")):
        # such as --resume "$RUN" where RUN is not set: to pass it over would begin another training
        if flags.get(flag) == "" or f"{flag}=" in argv:
            raise UsageError(f"{flag} names nothing; name {wanted} behind it")
    if resume and (named or others):
        raise UsageError(f"--resume continues a run as it was begun and takes no settings; remove {named or others[0]}")
    if path and named:
        raise UsageError(f"start from the recipe {named} or from --config {path}, not from both")
    base = load_config(Path(path)) if path else load_recipe(named or DEFAULT_RECIPE)
    return TrainArguments(**{field.name: getattr(base, field.name) for field in fields(Config)})


def run_predict(argv: Sequence[str]) -> None:
    """``cifarlab predict``."""
    arguments: PredictArguments = _parse(PredictArguments, "predict", argv)
    from cifarlab.commands.predict import predict
    from cifarlab.run import Run

    predictions = predict(Run.open(arguments.run), arguments.paths, device=arguments.device)
    failed = [prediction for prediction in predictions if prediction.error]
    if arguments.json:
        console.print_json([vars(prediction) for prediction in predictions])
    else:
        for prediction in predictions:
            if not prediction.error:
                console.print_line(f"{prediction.path}  {prediction.label}  {prediction.probability:.1%}")
    for prediction in failed:
        console.print_error(str(prediction.error))
    if failed:
        raise CifarlabError(f"{len(failed)} of {len(predictions)} files could not be read")


def run_quickstart(argv: Sequence[str]) -> None:
    """``cifarlab quickstart``."""
    arguments: QuickstartArguments = _parse(QuickstartArguments, "quickstart", argv)
    from cifarlab.commands.fetch import fetch
    from cifarlab.commands.quickstart import quickstart

    config = load_recipe(arguments.recipe)
    config = replace(config, train=replace(config.train, seed=arguments.seed))

    console.notify(f"Fetch {config.data.dataset}")
    with console.TransferDisplay() as transfer:
        fetched = fetch(config.data.dataset, url=arguments.url, progress=transfer.update, notify=transfer.notify)
    console.notify(f"verified, from {fetched.source}")
    with console.TrainingDisplay() as display, _stoppable(display.on_step, display.on_epoch) as hooks:
        done = quickstart(config, hooks=hooks, stage=display.notify, notify=display.notify)
    seconds = {"fetch": fetched.seconds, **done.seconds}
    print_evaluation(done.evaluation)
    parts = ", ".join(f"{stage} {duration(value)}" for stage, value in seconds.items())
    console.print_line(f"time {duration(sum(seconds.values()))} ({parts})")
    console.print_line(f"verdict: {done.verdict.sentence}", style="bold")
    console.print_line(f"recommendation: {done.recommendation}", style="bold")
    console.print_line(f"data explored: {done.exploration}")
    console.print_line(f"report: {done.report}")


def run_doctor(argv: Sequence[str]) -> None:
    """``cifarlab doctor``."""
    arguments: DoctorArguments = _parse(DoctorArguments, "doctor", argv)
    from cifarlab.commands.doctor import doctor

    checkup = doctor(quick=arguments.quick, notify=console.notify)
    if arguments.json:
        console.print_json(checkup.as_dict())
    else:
        _print_checkup(checkup)
    if checkup.problems:
        raise CifarlabError(f"training would not go right here: {checkup.problems[0].what}")


def _print_checkup(checkup: Checkup) -> None:
    from cifarlab.commands.doctor import describe

    measured = checkup.measured
    console.print_facts("Machine", describe(checkup))
    rates = [
        (rate.convolution.name, rate.precision, *(f"{figure:,.0f}" for figure in rate.figures))
        for rate in measured.rates
    ]
    if rates:
        num_threads = checkup.machine.software.threads
        threads = "1 thread" if num_threads == 1 else f"{num_threads} threads"
        console.print_line(f"3x3 convolutions as in training, GFLOP/s with {threads}", style="bold")
        console.print_table("", ("convolution", "precision", "forward", "input gradient", "weight gradient"), rates)
        console.print_line(
            f"Pooling, norm and activation: {(measured.pointwise_per_second or 0) / 1e6:,.0f} million values/s"
        )
        console.print_line()
    findings = [(finding.level, finding.text) for finding in checkup.findings]
    console.print_facts("Findings", findings or [("none", "")])
    console.print_line("Recipes for CIFAR-10", style="bold")
    times = [
        (row.recipe, f"{row.compute_pflop:.4f}", console.format_roughly(row.seconds) if row.seconds else "not measured")
        for row in checkup.estimates
    ]
    console.print_table("", ("recipe", "PFLOP", "training"), times)
    if rates:
        console.print_line(f"Rough times with {threads}; on an idle machine off by up to a factor of two.")
    console.print_line()
    console.print_line(f"proposal: {checkup.proposal.command}", style="bold")
    console.print_line(f"({checkup.proposal.reason})")


COMMANDS: dict[str, tuple[Callable[[Sequence[str]], None], str]] = {
    "quickstart": (run_quickstart, "the main job: fetch, explore, train, evaluate, report"),
    "fetch": (run_fetch, "download and verify a data set"),
    "explore": (run_explore, "look at the data: balance, pictures, statistics, duplicates"),
    "train": (run_train, "train a recipe, or resume a run"),
    "study": (run_study, "compare configurations over seeds, alone or shared by several processes"),
    "tune": (run_tune, "search the settings of a recipe on validation images"),
    "evaluate": (run_evaluate, "judge a run, or others' answers: figures, robustness, reasons"),
    "compare": (run_compare, "which of several runs, or of others' models, is better, and is it shown"),
    "report": (run_report, "build or buy: the report of a run, its figures and spreadsheet, the model card"),
    "predict": (run_predict, "classify image files"),
    "doctor": (run_doctor, "report what this machine can do, and propose a recipe"),
}


def _print_overview() -> None:
    console.print_line(f"cifarlab {cifarlab.__version__}: train, prove and ship a small-image classifier")
    console.print_line("usage: cifarlab COMMAND [OPTIONS]; cifarlab COMMAND --help tells more")
    console.print_line()
    for name, (_, summary) in COMMANDS.items():
        console.print_line(f"  {name:<12}{summary}")
    console.print_line()
    console.print_line(f"recipes: {', '.join(RECIPES)}")
    console.print_line("options: --debug shows the traceback of an error; --version")


def _dispatch(argv: Sequence[str]) -> None:
    if not argv or argv[0] in ("-h", "--help"):
        _print_overview()
    elif argv[0] in ("-V", "--version"):
        console.print_line(f"cifarlab {cifarlab.__version__}")
    elif argv[0] not in COMMANDS:
        import difflib

        close = difflib.get_close_matches(argv[0], COMMANDS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"commands are {', '.join(COMMANDS)}"
        raise UsageError(f"unknown command {argv[0]!r}; {hint}")
    elif argv[0] != "train" and ranks.several():
        raise UsageError(f"torchrun is for train; start cifarlab {argv[0]} without it")
    else:
        COMMANDS[argv[0]][0](argv[1:])


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0 ok, 1 failure, 2 usage, 3 data or extra missing, 4 gate, 128+signal."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    if isinstance(sys.stdout, io.TextIOWrapper):
        # as stderr is: a file's name that is no UTF-8, or a terminal without it, must not end a command
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with ranks.one_voice():
            _dispatch([word for word in words if word != "--debug"])
            if sys.stdout is not None:
                sys.stdout.flush()  # here a reader that has gone is no failure; once Python ends, it would be
    except SystemExit as stop:  # tyro, after help or a usage error
        return stop.code if isinstance(stop.code, int) else 1
    except KeyboardInterrupt:
        console.print_error("interrupted")
        return 130
    except BrokenPipeError:  # the reader of our output, such as head, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if debug:
            traceback.print_exc()
        if message := ranks.attribute(error, _one_line(error)):
            console.print_error(message)
        code = error.exit_code if isinstance(error, CifarlabError) else 1
        ranks.end_at_once(error, code)
        return code
    return 0


def _one_line(error: Exception) -> str:
    if isinstance(error, CifarlabError):
        return str(error)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return (
            f"no space left on the device{f' for {error.filename}' if error.filename else ''}; free some and try again"
        )
    return f"{type(error).__name__}: {error}; run again with --debug and report it if it is not clear"
