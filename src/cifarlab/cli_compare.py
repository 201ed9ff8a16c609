"""``cifarlab compare`` on the command line: parse, call, print."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cifarlab import console
from cifarlab.cli_arguments import CompareArguments
from cifarlab.cli_tools import parse
from cifarlab.phrases import interval, number, per_cent, seen_interval

if TYPE_CHECKING:
    from cifarlab.commands.compare import Compared
    from cifarlab.comparison import Comparison

_MOST_ROWS = 20


def run_compare(argv: Sequence[str]) -> None:
    """``cifarlab compare``."""
    arguments: CompareArguments = parse(CompareArguments, "compare", argv)
    from cifarlab.commands.compare import compare

    with console.TransferDisplay() as display:
        result = compare(
            arguments.sources,
            split=arguments.split,
            views=arguments.views,
            labels=arguments.labels,
            dataset=arguments.dataset,
            out=arguments.out,
            progress=display.update,
            notify=display.notify,
        )
    if arguments.json:
        console.print_json({**result.as_dict(), "page": str(result.page)})
        return
    for note in result.notes:
        console.notify(f"note: {note}")
    _print_comparison(result)


def _print_comparison(result: Compared) -> None:
    comparison = result.comparison
    views = ", with test-time views" if result.answers.with_views else ""
    title = f"{comparison.num_images:,} {result.answers.split or 'labelled'} images{views}"
    columns, rows = _recipe_rows(comparison) if comparison.recipes else _model_rows(comparison)
    if sum(map(len, comparison.ranking)) <= 2:  # no groups to tell
        columns, rows = (columns[0], *columns[2:]), [(row[0], *row[2:]) for row in rows]
    console.print_table(title, columns, rows[:_MOST_ROWS])
    if len(rows) > _MOST_ROWS:
        console.print_line(f"and {len(rows) - _MOST_ROWS} more, which the page shows")
    for finding in comparison.findings:
        console.print_line(finding, style="bold")
    for sentence in comparison.alike:
        console.print_line(sentence)
    for caution in comparison.cautions:
        console.print_line(f"note: {caution}")
    console.print_line(f"page: {result.page}")
    console.print_line(f"data: {result.json}")


def _model_rows(comparison: Comparison) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    rows: list[tuple[str, ...]] = [
        (
            one.name,
            comparison.groups_of(one.name),
            per_cent(one.accuracy),
            interval(one.interval),
            f"{one.correct:,}",
        )
        for one in sorted(comparison.models, key=lambda one: -one.accuracy)
    ]
    return ("model", "groups", "accuracy", "95 % interval, %", "right"), rows


def _recipe_rows(comparison: Comparison) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    rows: list[tuple[str, ...]] = []
    for one in comparison.recipes:
        seeds = len(one.members)
        spread = (number(100 * one.sd), seen_interval(one.interval, seeds))
        rows.append((one.name, comparison.groups_of(one.name), str(seeds), per_cent(one.mean), *spread))
    return ("recipe", "groups", "seeds", "mean", "sd, points", "95 % interval of the mean, %"), rows
