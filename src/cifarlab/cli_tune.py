"""The command line of searches: from words to a search, and from what came of it to what is printed."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from cifarlab import console
from cifarlab.cli_arguments import TuneArguments
from cifarlab.cli_tools import fetch_first, parse, stoppable
from cifarlab.errors import CifarlabError, UsageError
from cifarlab.recipes import load_recipe

if TYPE_CHECKING:
    from cifarlab.commands.tune import Tuning
    from cifarlab.config import Config
    from cifarlab.experiments.search import SearchSpec
    from cifarlab.experiments.search_record import SearchRecord
    from cifarlab.experiments.search_work import SearchStep
    from cifarlab.experiments.study import StudyRecord, StudySpec


def run_tune(argv: Sequence[str]) -> None:
    """``cifarlab tune``."""
    arguments: TuneArguments = parse(TuneArguments, "tune", argv)
    from cifarlab.experiments.leases import require_tune

    require_tune()
    wanted = _wanted(arguments)
    from cifarlab.commands.train import train
    from cifarlab.commands.tune import check_tuning, tune

    minutes = math.inf if arguments.minutes is None else arguments.minutes
    # a mistake is told before a download, and not after the search
    check_tuning(wanted, trials=arguments.trials, minutes=minutes, confirm=arguments.confirm, top=arguments.top)
    if not isinstance(wanted, str):
        fetch_first(wanted.recipe.data)
    with console.StudyDisplay() as display, stoppable(display.on_step, lambda record: None) as hooks:
        tuning = tune(
            wanted,
            train=train,
            storage=arguments.storage or None,
            trials=arguments.trials,
            minutes=minutes,
            hooks=hooks,
            notify=display.notify,
            on_begin=lambda step: display.begin(_as_shown(step)),
        )
    if arguments.confirm:
        tuning = _confirmed(tuning, arguments)
    _print_tuning(tuning, arguments.json)
    if not tuning.record.ranked:
        raise CifarlabError(f"no trial is complete; the page says why, and {_way_on(tuning.record)}")


def _way_on(record: SearchRecord) -> str:
    from cifarlab.experiments.search_findings import whole_space

    if whole_space(record):
        return "all combinations of values were tried: search other values under another --name"
    return "the same command with more --trials goes on"


def _as_shown(step: SearchStep) -> SimpleNamespace:
    """Return a search's step in the form in which a study's display takes its own."""
    trial = SimpleNamespace(arm=f"trial t{step.number}", seed=0)
    counts = SimpleNamespace(complete=step.done, failed=0, total=step.total)
    return SimpleNamespace(trial=trial, counts=counts, seconds_left=step.seconds_left)


def _wanted(arguments: TuneArguments) -> SearchSpec | str:
    """Return the search the arguments describe, or the name of the one to go on with as it is.

    Raises:
        UsageError: If they contradict each other or describe none.
    """
    if arguments.join:
        return _joined(arguments)
    from cifarlab.experiments.arms import parse_setting
    from cifarlab.experiments.default_spaces import choose_space
    from cifarlab.experiments.fields import with_values
    from cifarlab.experiments.search import SearchSpec

    config = _chosen_config(arguments)
    for text in arguments.set:
        field, value = parse_setting(text, config)
        config = with_values(config, {field: value})
    return SearchSpec(
        name=arguments.name or f"tune-{config.recipe}",
        recipe=config,
        space=choose_space(config, arguments.space, arguments.search),
        sampler=arguments.sampler,
        pruner=arguments.pruner,
        seeds_per_trial=arguments.seeds_per_trial,
    )


def _joined(arguments: TuneArguments) -> str:
    default = TuneArguments()
    settings = ("config", "set", "search", "space", "sampler", "pruner", "seeds_per_trial")
    given = [name for name in settings if getattr(arguments, name) != getattr(default, name)]
    if given:
        flag = given[0].replace("_", "-")
        raise UsageError(f"--join goes on with a search as it was begun and takes no settings; remove --{flag}")
    if not (arguments.name or arguments.recipe):
        raise UsageError("say which search to join: cifarlab tune --join --name NAME")
    return arguments.name or f"tune-{arguments.recipe}"


def _chosen_config(arguments: TuneArguments) -> Config:
    from cifarlab.config_yaml import load_config

    if bool(arguments.recipe) == bool(arguments.config):
        raise UsageError("say what to tune: a recipe, such as cifarlab tune convnet, or a file with --config")
    return load_config(arguments.config) if arguments.config else load_recipe(arguments.recipe)


def _confirmed(tuning: Tuning, arguments: TuneArguments) -> Tuning:
    """Train the best again on fresh seeds, with a page of its own."""
    from cifarlab.commands.study import page_folder, study
    from cifarlab.commands.tune import confirm
    from cifarlab.experiments.page import write_study_page

    with console.StudyDisplay() as display, stoppable(display.on_step, lambda record: None) as hooks:

        def run_study(spec: StudySpec) -> StudyRecord:
            display.notify(f"{spec.seeds} fresh seeds of {', '.join(arm.label for arm in spec.arms)}")
            record = study(
                spec,
                storage=arguments.storage or None,
                hooks=hooks,
                notify=display.notify,
                on_begin=display.begin,
                on_end=display.end,
            )
            write_study_page(record, page_folder(spec.name))
            return record

        return confirm(tuning, study=run_study, seeds=arguments.confirm, top=arguments.top)


def _print_tuning(tuning: Tuning, as_json: bool) -> None:
    page = tuning.page
    content: dict[str, Any] = json.loads(page.json.read_text(encoding="utf-8"))
    if as_json:
        console.print_json({"page": str(page.html), "best": str(page.best) if page.best else None, "tuning": content})
        return
    rows = [
        (
            one["label"],
            f"{one['mean']:.2%}",
            f"{100 * one['sd']:.2f}" if one["sd"] else "-",
            str(len(one["accuracies"])),
        )
        for one in content["confirmed"]
        if one["accuracies"]
    ]
    if rows:
        console.print_table("", ("configuration", "val accuracy, fresh seeds", "sd, points", "n"), rows)
    console.print_line(content["verdict"], style="bold")
    console.print_line(f"page: {page.html}")
    if page.best:
        console.print_line(f"next: cifarlab train --config {shlex.quote(str(page.best))}")
