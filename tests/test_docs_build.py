"""Tables and plot of time to accuracy: met or not met, what is unmeasured, old settings, several machines."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest

from cifarlab.config import Config
from cifarlab.config_yaml import changed_fields
from cifarlab.recipes import load_recipe

DOCS = Path(__file__).resolve().parent.parent / "docs"
XEON = {"cpu": "Intel(R) Xeon(R) Processor", "instruction_sets": ["avx512f", "avx512_bf16", "amx_bf16"], "gpu": None}
EPYC = {"cpu": "AMD EPYC", "gpu": None}  # written before instruction sets were recorded
H200 = {**XEON, "gpu": "NVIDIA H200"}


@pytest.fixture(scope="module")
def docs():
    """The modules of docs/build.py, found as python finds them when it runs it."""
    sys.path.insert(0, str(DOCS))
    try:
        names = {"table": "time_table", "plot": "accuracy_plot", "before": "predecessors_table", "build": "build"}
        names |= {"studies": "studies_index", "throughput": "throughput_table"}
        return SimpleNamespace(**{short: importlib.import_module(name) for short, name in names.items()})
    finally:
        sys.path.remove(str(DOCS))


def figures(mean, n=5, sd=0.001):
    sd, interval = (sd, [mean - sd, mean + sd]) if n > 1 else (None, None)
    return {"mean": mean, "sd": sd, "interval": interval, "min": mean, "max": mean, "n": n}


def result(recipe="fast90", accuracy=0.905, clock=39.0, *, where=XEON, n=5, device="cpu", settings=None, **more):
    run = {"train_clock_seconds": clock, "evaluation_seconds": 2.0, "accuracy": 0.89, "accuracy_tta": accuracy}
    run |= more.pop("figures", {})
    settings = changed_fields(load_recipe("fast90"), Config()) if settings is None else settings
    return {
        "kind": "recipe",
        "recipe": recipe,
        "device": device,
        "split": "test",
        "arms": [recipe],
        "config": settings,
        "environment": {"torch": "2.13.0", "time": "2026-11-21T10:00:00+00:00", "threads": 2, **where},
        "num_train": 49_000,
        "summary": {name: figures(value, n) for name, value in run.items()},
        "runs": [{"seed": seed, "time": "now", **run} for seed in range(n)],
        **more,
    }


def comparison(first, second, mean, *, where=XEON):
    return {
        "kind": "comparison",
        "first": first,
        "second": second,
        "device": "cpu",
        "split": "test",
        "environment": {"torch": "2.13.0", "time": "2026-11-21T10:00:00+00:00", "threads": 2, **where},
        "ratio": {"geometric_mean": mean, "interval": [mean * 0.9, mean * 1.1], "n": 5},
        "rounds": [{"seed": seed, "first_seconds": 39.0, "second_seconds": 39.0} for seed in range(5)],
    }


def row_of(text, recipe):
    """The cells of the first row of a recipe."""
    line = next(line for line in text.splitlines() if line.startswith(f"| `{recipe}`"))
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.parametrize(
    ("accuracy", "clock", "accuracy_verdict", "clock_verdict"),
    [
        (0.905, 39.0, "met", "met"),
        (0.9, 40.0, "met", "met"),  # the bar itself is reached
        (0.8999, 39.0, "**not met**", "met"),
        (0.905, 40.01, "met", "**not met**"),
    ],
)
def test_a_target_is_met_from_its_bar_on(docs, accuracy, clock, accuracy_verdict, clock_verdict):
    cells = row_of(docs.table.targets_tables([result(accuracy=accuracy, clock=clock)], []), "fast90")
    assert cells[1] == f"{100 * accuracy:.2f} % (≥ 90 %): {accuracy_verdict}"
    assert cells[2] == f"{clock:.2f} s (≤ 40 s): {clock_verdict}"
    assert cells[6:] == [
        "5 of 5",
        "Intel(R) Xeon(R) Processor (AVX512_BF16, AMX_BF16), 2 threads; torch 2.13.0; 2026-11-21",
    ]


def test_the_mean_counts_not_the_best_run(docs):
    one = result(accuracy=0.899)
    one["summary"]["accuracy_tta"]["max"] = 0.95
    assert "**not met**" in row_of(docs.table.targets_tables([one], []), "fast90")[1]


def test_with_too_few_seeds_a_target_is_met_so_far(docs):
    cells = row_of(docs.table.targets_tables([result(n=3)], []), "fast90")
    assert cells[1].endswith(": met so far")
    assert cells[6] == "3 of 5"
    assert docs.table.TARGETS["cpu"]["fast70"].seeds == 10  # a recipe of seconds
    assert docs.table.TARGETS["cpu"]["fast96"].seeds == 5


def test_what_has_no_file_is_unmeasured_with_its_target(docs):
    text = docs.table.targets_tables([result()], [])
    cpu, gpu = text.split("One GPU")
    assert row_of(cpu, "fast70")[1:6] == [
        "unmeasured (≥ 70 %)",
        "unmeasured (≤ 2 s)",
        "unmeasured (≤ 8 s)",
        "-",
        "unmeasured (≤ 0.002 PFLOP)",
    ]
    assert row_of(gpu, "fast90")[2] == "unmeasured (≤ 0.5 s)"
    assert row_of(gpu, "best")[1:3] == ["unmeasured (≥ 97.5 %)", "unmeasured (≤ 480 s)"]


def test_a_gpu_is_judged_by_its_own_targets(docs):
    gpu = docs.table.targets_tables([result(clock=0.6, device="cuda", where=H200, n=10)], []).split("One GPU")[1]
    cells = row_of(gpu, "fast90")
    assert cells[2] == "0.60 s (≤ 0.5 s): **not met**"
    assert cells[6:] == ["10 of 10", "NVIDIA H200; torch 2.13.0; 2026-11-21"]


def test_wall_clock_and_compute_are_judged(docs):
    measured = result(accuracy=0.71, clock=1.9, figures={"wall_clock_seconds": 8.5, "compute_pflop": 0.0019})
    target = docs.table.TARGETS["cpu"]["fast70"]
    cells = docs.table.target_row("fast70", target, measured, None)
    assert cells[3] == "8.50 s (≤ 8 s): **not met** so far"
    assert cells[5] == "0.0019 PFLOP (≤ 0.002 PFLOP): met so far"


def test_the_ratio_to_the_yardstick_is_found_either_way_round_on_the_same_machine_only(docs):
    find, fast94 = docs.table.find_ratio, result("fast94")
    one = find([comparison("fast94", "airbench94", 0.32)], fast94)
    assert one["geometric_mean"] == 0.32
    other = find([comparison("airbench94", "fast94", 4.0)], fast94)
    assert other["geometric_mean"] == 0.25
    assert other["interval"] == pytest.approx([1 / 4.4, 1 / 3.6])
    assert find([comparison("fast94", "airbench94", 0.32, where=EPYC)], fast94) is None
    assert find([comparison("fast96", "airbench94", 0.32)], fast94) is None
    measured_anew = result("fast94", clock=38.0)
    for names in (("fast94", "airbench94"), ("airbench94", "fast94")):
        assert find([comparison(*names, 0.32)], measured_anew) is None
    target = docs.table.TARGETS["cpu"]["fast94"]
    assert docs.table.target_row("fast94", target, fast94, one)[4] == "0.320 (≤ 0.35): met"
    assert docs.table.target_row("fast94", target, fast94, None)[4] == "unmeasured (≤ 0.35)"


def test_a_ratio_of_too_few_rounds_is_met_so_far(docs):
    """A stop within a round leaves one arm with a run more than there are rounds to compare."""
    target, ratio = docs.table.TARGETS["cpu"]["fast94"], {"geometric_mean": 0.3, "interval": None, "n": 4}
    cells = docs.table.target_row("fast94", target, result("fast94"), ratio)
    assert cells[4] == "0.300 (≤ 0.35): met so far"


def test_more_than_two_threads_meet_no_target_of_two_cores(docs):
    large = result(clock=9.0, where={**EPYC, "threads": 16})
    assert row_of(docs.table.targets_tables([large], []), "fast90")[2] == "unmeasured (≤ 40 s)"
    assert "9.00 ± 0.00 s" in docs.table.measured_table([large])
    gpu = result(clock=0.4, device="cuda", where={**H200, "threads": 16})
    assert "0.40 s (≤ 0.5 s): met" in docs.table.targets_tables([gpu], [])


def test_a_ratio_of_earlier_settings_or_runs_says_so(docs):
    compared = [comparison("fast94", "airbench94", 0.32)]
    today = [result(name, settings=_settings(name)) for name in ("fast94", "airbench94")]
    elsewhere = [{**one, "environment": {**one["environment"], **EPYC}} for one in today]

    def named(results):
        return docs.table.comparison_table(compared, results).splitlines()[-1].split(" | ")[0]

    assert named([*elsewhere, *today]) == "| `fast94` / `airbench94`"
    assert named([result("fast94", settings={"train.epochs": 99.0}), today[1]]).endswith("(earlier settings)")
    assert named([today[0], result("airbench94", clock=38.0, settings=_settings("airbench94"))]).endswith(
        "(earlier runs)"
    )
    assert named(elsewhere).endswith("(earlier runs)")


def test_a_recipe_that_has_changed_since_meets_nothing_and_says_so(docs):
    old = result(settings={"train.epochs": 99.0})
    assert row_of(docs.table.targets_tables([old], []), "fast90")[2] == "unmeasured (≤ 40 s)"
    assert "`fast90` (earlier settings)" in docs.table.measured_table([old])
    assert "settings have changed since" in docs.table.runs_section(old)


def test_an_older_measurement_is_shown_until_there_is_a_newer_one(docs):
    old = result(clock=126.0, settings={"train.epochs": 99.0}, where=EPYC)
    assert row_of(docs.table.headline_table([old]), "fast90")[0] == "`fast90` (earlier settings)"
    assert docs.plot.points([old])["recipes"][0]["note"] == "earlier settings"
    for text in (docs.table.headline_table([old, result()]), str(docs.plot.points([old, result()]))):
        assert "earlier" not in text
        assert "EPYC" not in text
    # the page of all results keeps both
    assert docs.table.measured_table([old, result()]).count("`fast90`") == 2


def test_one_recipe_on_two_machines_gives_two_rows(docs):
    both = [result(), result(clock=126.0, where=EPYC)]
    for text in (docs.table.headline_table(both), docs.table.measured_table(both)):
        assert text.count("`fast90`") == 2
        assert "AMD EPYC, 2 threads" in text
        assert "AMX_BF16), 2 threads" in text


def test_a_single_run_has_no_spread_and_a_cut_one_says_where(docs):
    cut = result(n=1, max_minutes=20.0)
    cut["runs"][0] |= {"cut": True, "epochs": 2}
    cut["config"] = {**cut["config"], "train.epochs": 200.0}
    cells = row_of(docs.table.measured_table([cut]), "fast90")
    assert cells[0] == "`fast90` (cut after epoch 2 of 200, earlier settings)"
    assert cells[2:4] == ["90.50 %", "-"]
    assert "`python benchmarks/time_to_accuracy.py fast90 --seeds 1 --max-minutes 20`" in docs.table.runs_section(cut)


def test_single_runs_stand_with_the_command_and_the_commit_that_gave_them(docs):
    one = result(clocks=False, where={**XEON, "git_commit": "0123456789abcdef"})
    text = docs.table.runs_section(one)
    assert "`python benchmarks/time_to_accuracy.py fast90 --seeds 5 --no-clocks`" in text
    assert "commit 0123456;" in text
    timed = docs.table.runs_section(result())
    assert "--no-clocks" not in timed
    assert "commit" not in timed


def test_files_of_other_kinds_and_of_validation_are_left_alone(docs, tmp_path):
    contents = {
        "fast90_a": result(),
        "convnet_a": result("convnet"),
        "compare_a": comparison("fast90", "convnet", 0.5),
        "throughput_a": {"kind": "throughput", "split": "test", "rows": []},
        "fast90_val": result() | {"split": "val"},
        "nobody": [1, 2],
    }
    for name, content in contents.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    recipes, comparisons = docs.table.load_results(tmp_path)
    assert [one["recipe"] for one in recipes] == ["fast90", "convnet"]  # as in cifarlab.recipes, not by file name
    assert [one["first"] for one in comparisons] == ["fast90"]


def test_committed_results_give_their_tables(docs):
    recipes, comparisons = docs.table.load_results(DOCS / "results")
    page = (DOCS / "results.md").read_text()
    for one in recipes:
        assert docs.table.runs_section(one) in page
        seeds = [run["seed"] for run in one["runs"]]
        assert len(set(seeds)) == len(seeds) == one["summary"]["accuracy"]["n"]
        for run in one["runs"]:
            assert ("train_clock_seconds" in run) == one.get("clocks", True)
            if one.get("clocks", True):
                parts = run["training_seconds"] + run["evaluation_seconds"]
                assert run["train_clock_seconds"] == pytest.approx(parts)
    assert docs.table.targets_tables(recipes, comparisons) in page


def test_the_plot_shows_the_machine_with_the_most_recipes(docs):
    results = [result(where=EPYC), result(), result("convnet", 0.6, 500.0, settings=_settings("convnet"))]
    drawn = docs.plot.points(results)
    assert drawn["machine"].startswith("Intel(R) Xeon(R)")
    assert [(one["name"], one["clock"]) for one in drawn["recipes"]] == [("fast90", 39.0), ("convnet", 500.0)]
    assert drawn["recipes"][0]["accuracy"] == [90.5, 90.5, 90.5]


def _settings(recipe):
    return changed_fields(load_recipe(recipe), Config())


def test_the_plot_is_the_same_every_time_and_stamped_with_what_it_shows(docs):
    drawn = docs.plot.points([result(), result("resnet18", 0.4, 1400.0, n=1, settings=_settings("resnet18"))])
    svg = docs.plot.draw(drawn)
    assert svg == docs.plot.draw(drawn)
    assert svg.endswith(docs.plot.stamp(drawn))
    ElementTree.fromstring(svg)
    other = docs.plot.points([result(accuracy=0.91)])
    assert docs.plot.stamp(other) != docs.plot.stamp(drawn)


def test_without_results_there_is_an_empty_plot(docs):
    drawn = docs.plot.points([])
    assert drawn["recipes"] == []
    assert docs.plot.draw(drawn).endswith(docs.plot.stamp(drawn))


def system_row(docs, results, system):
    line = next(line for line in docs.before.predecessors_table(results).splitlines() if line.startswith(f"| {system}"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def described(recipe, accuracy, n=3, **more):
    curves = {"train/accuracy": [0.4, 0.5], "val/accuracy": [0.35, accuracy]}
    one = result(recipe, accuracy, 100.0, n=n, settings=_settings(recipe), figures={"train/accuracy": 0.9}, **more)
    for run in one["runs"]:
        run["curves"] = curves
    return one


def test_every_system_has_a_row_and_says_what_is_not_measured(docs):
    cells = system_row(docs, [], "mp-balaji")
    assert cells[1:5] == ["88.51 %", "95.98 %", "not measured yet (`predecessor_parallel5`)", "-"]
    assert cells[6] == "not measured yet (`parallel5_today`)"
    named = {recipe for one in docs.before.SYSTEMS for recipe in (one.today, *(name for name, _ in one.described))}
    assert named == set(docs.before.PREDECESSORS)


def test_the_full_recipe_is_shown_before_the_short_one_and_how_that_was_shortened(docs):
    short = described("predecessor_parallel3_short", 0.82)
    assert system_row(docs, [short], "sruthi")[3] == (
        "82.00 ± 0.10 % (`predecessor_parallel3_short`, n = 3, with test-time views, 1/5 of the epochs)"
    )
    both = [short, described("predecessor_parallel3", 0.87), described("parallel3_today", 0.91)]
    cells = system_row(docs, both, "sruthi")
    assert cells[3].startswith("87.00 ± 0.10 % (`predecessor_parallel3`, n = 3")
    assert cells[4] == "90.00 ± 0.10 %"
    assert cells[6].startswith("91.00 ± 0.10 % (`parallel3_today`")
    changed = described("predecessor_parallel3", 0.87)
    changed["config"] = {**changed["config"], "train.epochs": 3.0}
    assert system_row(docs, [changed], "sruthi")[3].startswith("not measured yet")


def test_curves_are_means_over_runs_epoch_by_epoch(docs):
    one = described("predecessor_lenet", 0.7, n=2)
    one["runs"][1]["curves"] = {"train/accuracy": [0.5, 0.5], "val/accuracy": [0.45, 0.8]}
    (part,) = docs.before.curves_parts([one, result()])
    assert part.startswith("`predecessor_lenet`, mean of 2 runs")
    assert "| 1 | 45.00 % | 40.00 % |\n| 2 | 50.00 % | 75.00 % |" in part
    assert "curves" not in docs.table.runs_section(one)
    one["config"] = {**one["config"], "train.epochs": 3.0}
    assert docs.before.curves_parts([one])[0].startswith("`predecessor_lenet` (earlier settings), mean of 2 runs")


def test_systems_before_this_one_stand_in_tables_of_their_own(docs):
    results = [described("lenet_today", 0.8), result()]
    assert [one["recipe"] for one in docs.build.without_predecessors(results)] == ["fast90"]
    page = docs.build.results_page(results, [])
    ours, theirs = page.split("## The systems before this one")
    assert "lenet_today" not in ours
    assert "`lenet_today`" in theirs
    assert docs.table.runs_section(results[0]) in theirs


def test_a_study_is_listed_with_its_answer_and_its_command(docs, tmp_path):
    assert "None yet." in docs.studies.studies_page(tmp_path)
    study = {
        "name": "activations",
        "question": "Which is best?",
        "sentences": [{"kind": "answer", "text": "gelu beats | relu."}, {"kind": "finding", "text": "not this"}],
        "trials": [
            {"state": "complete", "figures": {"train_clock_seconds": 65.0}},
            {"state": "complete", "figures": {"train_clock_seconds": 60.0}},
            {"state": "failed", "figures": {}},
        ],
        "made": {"cpu": ["Xeon"], "gpu": [], "torch": ["2.13.0"], "last": "2026-11-21T10:00:00+00:00"},
    }
    study["made"]["commands"] = ["cifarlab study --preset activations"]
    (tmp_path / "activations").mkdir()
    (tmp_path / "activations" / "study.json").write_text(json.dumps(study))
    listed = [line for line in docs.studies.studies_page(tmp_path).splitlines() if line.startswith("| [activations]")]
    assert listed == [
        "| [activations](activations/README.md) | Which is best? (Made smaller: images of 24 pixels, 5 epochs.) "
        "| gelu beats \\| relu. | 2 of 3, 2 min 05 s, 2026-11-21, Xeon, torch 2.13.0 "
        "| `cifarlab study --preset activations` |"
    ]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ""),
        ({"data.val_fraction": None}, ", trained with data.val_fraction 0.1"),  # a default is not among the settings
        ({"train.epochs": 3.0, "train.seed": 1}, ", trained with train.epochs 3.0, trained with train.seed 1"),
        ({"model.speednet.widths": [8, 8, 8]}, ", earlier settings"),
        ({f"train.{name}": 1 for name in ("a", "b", "c", "d")}, ", earlier settings"),
    ],
)
def test_speed_of_inference_says_how_its_run_differs_from_the_recipe(docs, changes, said):
    config = {**changed_fields(load_recipe("fast94"), Config()), **changes}
    config = {name: value for name, value in config.items() if value is not None}
    assert docs.throughput._otherwise({"recipe": "fast94", "config": config}) == said
    assert docs.throughput._otherwise({"recipe": "fast94"}) == ", earlier settings"
