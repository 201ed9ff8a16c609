"""Time to accuracy: seeds of one or more recipes, each trained and judged; tables and JSON files.

    python benchmarks/time_to_accuracy.py fast94 airbench94 --seeds 5 --wall

Run it on an idle machine, or with --no-clocks. Several recipes are the arms of one comparison: seed 0 of every arm,
then seed 1 of every arm in the opposite order, and so on, so that whatever drifts hits all arms alike. Every run is
written down as soon as it is done; the same command again continues where it was stopped, and runs of another machine,
configuration or code are never mixed in. benchmarks/README.md tells how each figure is made.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any, TypeVar

import tyro
from arms import Arm, Measurement, augmentation_seconds, build_arm, measure, warm_up
from figures import begin_or_continue, code_sha256, compare_clocks, device_slug, summarise, write_figures

from cifarlab.config import Config
from cifarlab.config_yaml import changed_fields
from cifarlab.environment import describe_environment
from cifarlab.errors import CifarlabError, RunError, UsageError

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "results"
CLOCKS = ("train_clock_seconds", "training_seconds", "evaluation_seconds")

T = TypeVar("T")


@dataclass(frozen=True)
class Arguments:
    """Time to accuracy of recipes over several seeds, in alternation."""

    recipes: tyro.conf.Positional[tuple[str, ...]] = ("fast90",)
    """Which recipes; several are compared, the first with the second and so on."""
    seeds: int = 5
    """How many seeds an arm, from 0."""
    first_seed: int = 0
    """Leave out the seeds below it, for another process that writes to the same files; with --no-clocks only."""
    wall: bool = False
    """Train each seed once more in a process of its own: wall clock, time to the first step, peak memory."""
    max_minutes: float = 0.0
    """Cut an arm at the end of the first epoch after so many minutes of training, and judge what is there; 0: never."""
    clocks: bool = True
    """Write clocks down; --no-clocks where the machine does other work as well: accuracies and compute only."""
    val: bool = False
    """Judge on the standard validation split (a tenth of the training images) and leave test alone: for choosing."""
    set: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Fields to change in every arm, such as train.epochs=7; with --val or --out only."""
    out: Path | None = None
    """Folder for the JSON files; by default docs/results, with --val none."""
    fresh: bool = False
    """Begin anew, over what stands in the files; without it the command goes on after a stop."""


def check_arguments(arguments: Arguments) -> None:
    """Refuse what would make a committed figure doubtful.

    Raises:
        UsageError: If the arguments contradict each other.
    """
    if arguments.seeds < 1:
        raise UsageError(f"--seeds must be at least 1, not {arguments.seeds}")
    if not 0 <= arguments.first_seed < arguments.seeds:
        raise UsageError(f"--first-seed must be a seed below --seeds {arguments.seeds}, not {arguments.first_seed}")
    if arguments.first_seed and (arguments.clocks or arguments.fresh):
        raise UsageError("--first-seed leaves seeds to another process; add --no-clocks, and leave --fresh out")
    if len(set(arguments.recipes)) < len(arguments.recipes) or not arguments.recipes:
        raise UsageError("name each recipe once, and at least one")
    in_results = arguments.out is None or arguments.out.resolve() == RESULTS
    if arguments.set and in_results and not (arguments.val and arguments.out is None):
        raise UsageError("--set needs --val or --out FOLDER: what stands in docs/results is a recipe by its name")
    if arguments.val and arguments.out is not None and in_results:
        raise UsageError("docs/results holds figures on the test split; give --out another folder")
    if arguments.wall and arguments.max_minutes:
        raise UsageError("--wall times whole runs and --max-minutes cuts them; leave one of them out")
    if arguments.wall and not arguments.clocks:
        raise UsageError("--wall times whole runs and --no-clocks writes no times down; leave one of them out")


def results_folder(arguments: Arguments) -> Path | None:
    """Return where JSON files go; None if nowhere."""
    return arguments.out or (None if arguments.val else RESULTS)


def turns(arms: list[T], seeds: range) -> Iterator[tuple[int, T]]:
    """Yield (seed, arm): all arms for every seed, in order for even seeds and in the opposite order for odd ones."""
    for number in seeds:
        for arm in arms if number % 2 == 0 else reversed(arms):
            yield number, arm


def new_content(arm: Arm, arguments: Arguments, environment: dict[str, Any]) -> dict[str, Any]:
    """Return what a recipe file holds before its first run."""
    return {
        "kind": "recipe",
        "recipe": arm.recipe,
        "device": arm.device.type,
        "split": "val" if arguments.val else "test",
        "arms": list(arguments.recipes),
        "wall": arguments.wall,
        "max_minutes": arguments.max_minutes,
        **({} if arguments.clocks else {"clocks": False}),
        "config": changed_fields(arm.config, Config()),
        "code_sha256": code_sha256(),
        "environment": environment,
        "summary": {},
        "runs": [],
    }


def add_run(content: dict[str, Any], measurement: Measurement) -> None:
    """Add a run to a recipe file's content.

    Raises:
        RunError: If a fact that all runs of an arm share has changed, such as the precision.
    """
    for name, value in measurement.facts.items():
        if content.setdefault(name, value) != value:
            raise RunError(
                f"{content['recipe']}: {name} is {value}, in earlier runs it was {content[name]}; "
                "this run is not kept; make sure the machine is idle and continue"
            )
    figures = {name: value for name, value in measurement.figures.items() if has_clocks(content) or name not in CLOCKS}
    content["runs"].append({**figures, "time": datetime.now(UTC).isoformat(timespec="seconds")})
    content["summary"] = summarise(content["runs"])


def has_clocks(content: dict[str, Any]) -> bool:
    """Return whether the runs of a recipe file were timed."""
    return bool(content.get("clocks", True))


def comparison(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a comparison file for two recipe files' contents."""
    return {
        "kind": "comparison",
        "first": first["recipe"],
        "second": second["recipe"],
        "figure": "train_clock_seconds",
        "device": first["device"],
        "split": first["split"],
        "arms": first["arms"],
        "environment": first["environment"],
        **compare_clocks(first["runs"], second["runs"]),
    }


class Book:
    """The results of one command: the content of its files, written after every run.

    Several processes can add to the same files: what another has written meanwhile is taken in, not written over.
    """

    def __init__(self, arms: list[Arm], arguments: Arguments) -> None:
        environment = describe_environment()
        self.folder, self.paths, self.contents = results_folder(arguments), {}, {}
        for arm in arms:
            new = new_content(arm, arguments, environment)
            name = f"{arm.recipe}_{device_slug(environment, arm.device.type)}.json"
            if self.folder is None:
                self.contents[arm.recipe] = new
                continue
            self.paths[arm.recipe] = path = self.folder / name
            self.contents[arm.recipe] = begin_or_continue(path, new, fresh=arguments.fresh)
        self.begun_anew = arguments.fresh

    def take_in(self) -> None:
        """Take in the runs that other processes have written since.

        Raises:
            RunError: If they must not stand beside those of this process.
        """
        if self.begun_anew:
            return  # what stands there is to be written over
        for recipe, path in self.paths.items():
            content = self.contents[recipe]
            written = begin_or_continue(path, content, fresh=False)
            seeds = {run["seed"] for run in content["runs"]}
            missing = [run for run in written["runs"] if run["seed"] not in seeds]
            content["runs"] = sorted(content["runs"] + missing, key=lambda run: run["seed"])
            content["summary"] = summarise(content["runs"])
            self.contents[recipe] = written | content

    def has(self, arm: Arm, seed: int) -> bool:
        """Return whether this run is there already."""
        return any(run["seed"] == seed for run in self.contents[arm.recipe]["runs"])

    def comparisons(self) -> list[dict[str, Any]]:
        """Return the comparison of every pair of arms that share a round."""
        pairs = combinations(filter(has_clocks, self.contents.values()), 2)
        return [content for content in (comparison(a, b) for a, b in pairs) if content["rounds"]]

    def write(self) -> list[Path]:
        """Write all files that have something to say; return their paths."""
        if self.folder is None:
            return []
        self.take_in()
        self.begun_anew = False
        files = {self.paths[recipe]: content for recipe, content in self.contents.items() if content["runs"]}
        for content in self.comparisons():
            where = device_slug(content["environment"], content["device"])
            files[self.folder / f"compare_{content['first']}_{content['second']}_{where}.json"] = content
        for path, content in files.items():
            write_figures(path, content)
        return list(files)


def run_rounds(
    arms: list[Arm],
    seeds: range,
    book: Book,
    measure_run: Callable[[Arm, int], Measurement],
    say: Callable[[str], None],
) -> None:
    """Measure what is missing, in alternation, and write after every run."""
    for seed, arm in turns(arms, seeds):
        book.take_in()
        if book.has(arm, seed):
            continue
        add_run(book.contents[arm.recipe], measure_run(arm, seed))
        run = book.contents[arm.recipe]["runs"][-1]
        book.write()
        say(f"{arm.recipe:12} " + "  ".join(line_parts(run)))


def line_parts(run: dict[str, Any]) -> list[str]:
    """Return the figures of a run, short, for a line; its curves are too long for one."""
    single = {name: value for name, value in run.items() if not isinstance(value, dict)}
    return [f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in single.items()]


def add_augmentation(arm: Arm, content: dict[str, Any]) -> None:
    """Add the share of training that goes into making batches: seconds a batch, measured apart, over seconds a step."""
    steps = sum(run["steps"] for run in content["runs"])
    step_seconds = sum(run["training_seconds"] for run in content["runs"]) / steps
    content["augmentation_share"] = augmentation_seconds(arm) / step_seconds


def print_summary(book: Book, say: Callable[[str], None]) -> None:
    """Print every arm's summary and every ratio."""
    for recipe, content in book.contents.items():
        say(f"\n{recipe} on {content['split']}, {content['num_train']:,} training images, {content['precision']}")
        for name, figure in content["summary"].items():
            spread = "" if figure["sd"] is None else f"  sd {figure['sd']:.4g}"
            interval = "" if figure["interval"] is None else "  95 % {:.5g} to {:.5g}".format(*figure["interval"])
            say(f"  {name:22} mean {figure['mean']:.5g}{spread}{interval}  min {figure['min']:.5g}  n {figure['n']}")
        if "augmentation_share" in content:
            say(f"  {'augmentation_share':22} {content['augmentation_share']:.4f}")
    for content in book.comparisons():
        ratio = content["ratio"]
        interval = "" if ratio["interval"] is None else ", 95 % {:.4f} to {:.4f}".format(*ratio["interval"])
        say(
            f"\ntrain clock of {content['first']} / {content['second']}: "
            f"{ratio['geometric_mean']:.4f}{interval}, n {ratio['n']}"
        )


def benchmark(arguments: Arguments, say: Callable[[str], None]) -> None:
    """Do what the command asks.

    Raises:
        CifarlabError: If the arguments, the files or a run do not allow it.
    """
    check_arguments(arguments)
    arms = [
        build_arm(recipe, arguments.set, on_val=arguments.val, max_minutes=arguments.max_minutes, wall=arguments.wall)
        for recipe in arguments.recipes
    ]
    book = Book(arms, arguments)
    seeds = range(arguments.first_seed, arguments.seeds)
    complete = all(book.has(arm, seed) for seed, arm in turns(arms, seeds))
    if complete:
        say("all of these runs are there; nothing is left to measure (--seeds for more, --fresh to begin anew)")
    else:
        for arm in arms:
            if arm.device.type == "cuda":
                warm_up(arm)
        run_rounds(arms, seeds, book, measure, say)
    for arm in arms:
        # it follows the last run, and a stop can fall between the two
        if arguments.clocks and not (complete and "augmentation_share" in book.contents[arm.recipe]):
            add_augmentation(arm, book.contents[arm.recipe])
    written = book.write()
    print_summary(book, say)
    for path in written:
        say(f"written: {path}")


def main() -> int:
    """Parse, run, and return the exit code."""
    try:
        benchmark(tyro.cli(Arguments), lambda line: print(line, flush=True))
    except CifarlabError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
