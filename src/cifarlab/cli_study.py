"""The command line of studies: from words to a specification, and from a record to what is printed."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cifarlab import console
from cifarlab.cli_arguments import StudyArguments
from cifarlab.cli_tools import fetch_first, parse, stoppable
from cifarlab.config import Config
from cifarlab.errors import CifarlabError, UsageError
from cifarlab.phrases import duration, resolution
from cifarlab.recipes import load_recipe

if TYPE_CHECKING:
    from cifarlab.experiments.page import StudyPage
    from cifarlab.experiments.planning import Plan
    from cifarlab.experiments.study import StudySpec

_SEEDS = 5


def run_study(argv: Sequence[str]) -> None:
    """``cifarlab study``."""
    arguments: StudyArguments = parse(StudyArguments, "study", argv)
    from cifarlab.experiments.leases import require_tune

    require_tune()
    spec = _specify(arguments)
    from cifarlab.experiments.arms import check_spec

    check_spec(spec)  # a mistake is told before a plan or a download
    if arguments.plan is not None:
        _run_plan(spec, arguments)
        return
    from cifarlab.commands.study import judge_on_test, page_folder, study
    from cifarlab.experiments.page import write_study_page

    fetch_first(spec.base.data)
    with console.StudyDisplay() as display, stoppable(display.on_step, lambda record: None) as hooks:
        record = study(
            spec,
            storage=arguments.storage or None,
            join=arguments.join,
            retry_failed=arguments.retry_failed,
            hooks=hooks,
            notify=display.notify,
            on_begin=display.begin,
            on_end=display.end,
        )
        if arguments.test:
            judge_on_test(
                record, storage=arguments.storage or None, stop_signal=hooks.stop_signal, notify=display.notify
            )
    page = write_study_page(record, arguments.out or page_folder(spec.name))
    _print_study(page, arguments.json)
    failed = [trial for trial in record.trials if trial.state == "failed"]
    if failed:
        raise CifarlabError(
            f"{len(failed)} of {len(record.trials)} trials failed, first {failed[0].arm}, seed {failed[0].seed}: "
            f"{failed[0].error}; the same command with --retry-failed does them again"
        )


def _specify(arguments: StudyArguments) -> StudySpec:
    """Return the study the arguments describe.

    Raises:
        UsageError: If they contradict each other or describe none.
    """
    if sum(map(bool, (arguments.preset, arguments.vary, arguments.arms))) > 1:
        raise UsageError("--preset, --vary and --arms exclude each other; give one of them")
    if arguments.recipe and arguments.config:
        raise UsageError(f"start from the recipe {arguments.recipe} or from --config, not from both")
    described = arguments.recipe or arguments.config or arguments.preset
    if not described and not (arguments.join and arguments.name):
        raise UsageError(
            "say what to study: cifarlab study convnet --vary model.activation=relu,gelu, a --preset, "
            "or --join --name NAME"
        )
    spec = _described(arguments) if described else _stored(arguments)
    if arguments.seeds < 0:
        raise UsageError(f"--seeds must be at least 1, not {arguments.seeds}")
    return replace(spec, seeds=arguments.seeds or spec.seeds)


def _stored(arguments: StudyArguments) -> StudySpec:
    from cifarlab.experiments.storage import open_storage
    from cifarlab.experiments.study import load_study

    if arguments.vary or arguments.arms or arguments.set:
        raise UsageError(
            "--join --name works on a study as it is recorded; name its recipe to compare settings with it"
        )
    return load_study(arguments.name, open_storage(arguments.storage or None)).spec


def _described(arguments: StudyArguments) -> StudySpec:
    from cifarlab.experiments.arms import expand_grid, load_arms, parse_setting, parse_vary, study_base
    from cifarlab.experiments.fields import with_values
    from cifarlab.experiments.presets import PRESETS, preset_spec
    from cifarlab.experiments.study import Arm, StudySpec

    chosen = _chosen_config(arguments)
    config, settings = chosen or load_recipe(_preset_recipe(arguments.preset)), {}
    for text in arguments.set:
        field, value = parse_setting(text, config)
        settings[field] = value
        config = with_values(config, {field: value})
    if arguments.preset:
        spec = preset_spec(arguments.preset, recipe=chosen, settings=settings)
        shortened = "" if chosen else PRESETS[arguments.preset].shortened
        if shortened:
            console.notify(f"preset {arguments.preset}, shortened: {shortened}")
        return replace(spec, name=arguments.name or spec.name)
    config, notes = study_base(config)
    for note in notes:
        console.notify(f"note: {note}")
    varied = [parse_vary(text, config) for text in arguments.vary]
    if arguments.arms:
        arms, what = load_arms(arguments.arms, config), [arguments.arms.stem]
    elif varied:
        arms, what = expand_grid(varied, config), [field.rpartition(".")[2] for field, _ in varied]
    else:
        arms, what = (Arm(config.recipe, {}),), ["seeds"]
    question = f"What does {config.recipe} gain from {' and '.join(what)}?" if what != ["seeds"] else ""
    name = arguments.name or "-".join([config.recipe, *what]).replace(" ", "-")
    return StudySpec(name=name, question=question, base=config, arms=arms, seeds=_SEEDS)


def _chosen_config(arguments: StudyArguments) -> Config | None:
    from cifarlab.config_yaml import load_config

    if arguments.config:
        return load_config(arguments.config)
    return load_recipe(arguments.recipe) if arguments.recipe else None


def _preset_recipe(name: str) -> str:
    """Return the recipe of a preset; an unknown preset is reported where it is built."""
    from cifarlab.experiments.presets import PRESETS, preset_spec

    return PRESETS[name].recipe if name in PRESETS else preset_spec(name).base.recipe


def _print_study(page: StudyPage, as_json: bool) -> None:
    content: dict[str, Any] = json.loads(page.json.read_text(encoding="utf-8"))
    if as_json:
        console.print_json({"page": str(page.html), "study": content})
        return
    rows = []
    for arm in content["arms"]:
        sd = f"{100 * arm['sd']:.2f}" if arm["sd"] is not None else "-"
        mean = f"{arm['mean']:.2%}" if arm["n"] else "-"
        seconds = duration(arm["train_clock_seconds"]) if arm["n"] else "-"
        rows.append((arm["label"], mean, sd, str(arm["n"]), seconds))
    console.print_table("", ("arm", "val accuracy", "sd, points", "n", "train clock"), rows)
    for sentence in content["sentences"]:
        if sentence["kind"] == "answer":
            console.print_line(sentence["text"], style="bold")
    console.print_line(f"page: {page.html}")


def _run_plan(spec: StudySpec, arguments: StudyArguments) -> None:
    from cifarlab.experiments.planning import plan_study
    from cifarlab.experiments.storage import open_storage
    from cifarlab.experiments.study import find_study
    from cifarlab.experiments.study_queue import agree

    assert arguments.plan is not None
    record = find_study(spec.name, open_storage(arguments.storage or None)) if _may_exist(arguments) else None
    if record is not None:
        agree(spec, record.spec)
    plan = plan_study(spec, arguments.plan, record=record, sd=arguments.sd)
    if arguments.json:
        totals = ("num_trials", "num_trials_corrected", "num_pairs")
        values = {**vars(plan), **{key: getattr(plan, key) for key in totals}}
        unknown = {key: None for key, value in values.items() if isinstance(value, float) and math.isnan(value)}
        console.print_json(values | unknown)
    else:
        _print_plan(plan)


def _may_exist(arguments: StudyArguments) -> bool:
    """Return whether there is a storage to look into; a plan creates none."""
    from cifarlab.experiments.storage import storage_url

    url = storage_url(arguments.storage or None)
    return not url.startswith("sqlite:///") or Path(url.removeprefix("sqlite:///")).is_file()


def _print_plan(plan: Plan) -> None:
    several = plan.num_pairs > 1
    console.print_line(
        f"{plan.seeds} seeds of each arm show a difference of {resolution(plan.difference)} of accuracy "
        "(a t-test at 5 % finds it in four studies of five)",
        style="bold",
    )
    if several:
        console.print_line(
            f"that is for two arms alone; after the correction for all {plan.num_pairs} pairs, by which the study "
            f"judges, up to {plan.seeds_corrected} seeds are needed"
        )
    console.print_line(f"standard deviation over seeds: {100 * plan.sd:.2f} points, {plan.source}")
    total = f"{plan.num_arms} arms x {plan.seeds} = {plan.num_trials}" if plan.num_arms > 1 else f"{plan.num_trials}"
    most = f" (up to {plan.num_trials_corrected} for all pairs)" if several else ""
    console.print_line(f"trials: {total}{most}, of which {plan.num_done} are complete")
    if math.isnan(plan.seconds):
        console.print_line("cost: not known before a first trial is complete")
    else:
        most = f" (up to {console.format_roughly(plan.seconds_corrected)} for all pairs)" if several else ""
        own = f"{plan.pflop:.3g} PFLOP, {console.format_roughly(plan.seconds)} here"
        console.print_line(f"cost of the rest: {own}{most}")
