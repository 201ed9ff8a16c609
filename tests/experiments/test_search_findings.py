"""What a search is said to have shown, and what of it is a figure: importances, choice, caveats."""

import dataclasses
import json
import random
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from cifarlab.config import Config, DataConfig, ModelConfig
from cifarlab.config_yaml import load_config
from cifarlab.experiments import search_page
from cifarlab.experiments.search import SearchSpec, open_search
from cifarlab.experiments.search_findings import caveats, changes, verdict
from cifarlab.experiments.search_page import axis_ticks, search_csv, search_figures, write_search_page
from cifarlab.experiments.search_record import (
    SearchRecord,
    SearchTrial,
    confirmation_spec,
    field_importances,
    position,
    read_confirmation,
)
from cifarlab.experiments.space import parse_space
from cifarlab.experiments.storage import open_storage
from cifarlab.experiments.study import StudyRecord, StudyTrial, planned_trials
from cifarlab.stats import wilson_interval

CONFIG = Config(recipe="tiny", model=ModelConfig(name="convnet"))
SPEC = SearchSpec(
    name="hunt",
    recipe=CONFIG,
    space=parse_space(["optimizer.lr=log:0.01:1", "model.dropout=0:0.5", "model.activation=relu,gelu"], CONFIG),
)


def trial(number, accuracy, lr=0.1, dropout=0.2, state="complete", **more):
    values = {"optimizer.lr": lr, "model.convnet.dropout": dropout, "model.convnet.activation": "gelu"}
    accuracies = (accuracy,) if state == "complete" else ()
    return SearchTrial(number, state, values, accuracies, {1: accuracy}, seconds=60.0, **more)


RECORD = SearchRecord(
    SPEC,
    (
        trial(0, 0.70, dropout=0.0, is_recipe=True),
        trial(1, 0.72),
        trial(2, 0.74, lr=0.2),
        trial(3, 0.30, state="pruned"),
        trial(4, 0.10, state="failed", error="the loss became nan"),
    ),
)


def confirmed(accuracies, record=RECORD, top=2, seeds=None):
    """The record after a confirmation with these accuracies by label, one a seed; what lacks is not finished."""
    spec = confirmation_spec(record, top, seeds or max(map(len, accuracies.values())))
    first = spec.base.train.seed
    trials = tuple(
        StudyTrial(arm.label, seed, Path("gone"), "complete", {"val/accuracy": row[seed - first]})
        if seed - first < len(row := accuracies[arm.label])
        else StudyTrial(arm.label, seed, Path("gone"), "failed" if arm.label == "t2" else "waiting")
        for arm, seed in planned_trials(spec)
    )
    return dataclasses.replace(record, confirmed=read_confirmation(StudyRecord(spec, trials)), confirmation=spec.name)


def test_the_best_trial_is_not_reported_as_the_truth():
    text = verdict(RECORD, 500)
    low, high = wilson_interval(370, 500)
    assert text.startswith(f"Trial t2 is the best of 3 complete trials with 74.00 % on val ({100 * low:.1f} % to")
    assert f"{100 * high:.1f} % from the number of its 500 images alone" in text
    assert "the recipe itself reached 70.00 %" in text
    assert "optimistic" in text
    assert "it is not shown that t2 is better than the recipe" in text
    assert any("mean over fresh seeds (--confirm)" in sentence for sentence in caveats(RECORD, 0))


def test_a_recipe_that_stays_ahead_is_called_the_best():
    record = SearchRecord(SPEC, (trial(0, 0.8, is_recipe=True), trial(1, 0.7)))
    assert (
        verdict(record, 0)
        == "No other of 2 complete trials is better than the recipe itself, which reached 80.00 % on val."
    )
    assert record.chosen[0] == "t0"


def test_a_space_of_which_nothing_is_left_is_said_to_be_tried():
    lists = parse_space(["model.activation=relu,gelu", "train.batch_size=100,250"], CONFIG)
    points = [(activation, size) for activation in ("relu", "gelu") for size in (100, 250)]
    states = ["complete", "complete", "pruned", "failed"]
    trials = tuple(
        dataclasses.replace(
            trial(number, 0.7 + number / 100, state=state),
            values=dict(zip(("model.convnet.activation", "train.batch_size"), point, strict=True)),
        )
        for number, (point, state) in enumerate(zip(points, states, strict=True))
    )
    whole = SearchRecord(dataclasses.replace(SPEC, space=lists), trials)
    told = "All 4 combinations of values were tried."
    assert verdict(whole, 0).endswith(told)
    assert not any("drawn at random" in sentence for sentence in caveats(whole, 0))
    running = dataclasses.replace(trials[3], state="running")
    for rest in ((), (running,), (trials[0],)):
        part = dataclasses.replace(whole, trials=trials[:3] + rest)
        assert told not in verdict(part, 0)
        assert any("drawn at random" in sentence for sentence in caveats(part, 0))
    assert told in verdict(confirmed({"recipe": [0.7, 0.8], "t1": [0.8, 0.9], "t0": [0.5, 0.6]}, whole), 0)


def test_a_recipe_that_is_alone_is_not_called_the_best():
    alone = SearchRecord(SPEC, (RECORD.trials[0], *RECORD.trials[3:]))
    assert (
        verdict(alone, 0)
        == "Only the recipe itself is complete and reached 70.00 % on val, so there is nothing to choose from."
    )


def test_failed_and_given_up_trials_are_counted_and_explained():
    text = " ".join(caveats(RECORD, 0))
    assert "1 trial failed; the table says why" in text
    assert "1 trial was given up early" in text
    assert "The first 10 trials are drawn at random" in text
    assert "No trial has seen the test split" in text
    assert "evaluated on test 2 times" in " ".join(caveats(RECORD, 2))


def test_a_value_at_the_end_of_its_range_is_pointed_out_but_not_a_natural_zero():
    edge = SearchRecord(SPEC, (trial(0, 0.8, lr=0.99, dropout=0.0),))
    text = " ".join(caveats(edge, 0))
    assert "optimizer.lr = 0.99 lies at the upper end of its range (log:0.01:1)" in text
    assert "model.convnet.dropout" not in text
    low = " ".join(caveats(SearchRecord(SPEC, (trial(0, 0.8, lr=0.0101, dropout=0.5),)), 0))
    assert "optimizer.lr = 0.0101 lies at the lower end" in low
    assert "model.convnet.dropout = 0.5 lies at the upper end" in low


def test_how_much_of_the_lead_was_luck_is_told_in_figures():
    record = confirmed({"recipe": [0.70, 0.71, 0.70], "t2": [0.72, 0.71, 0.72], "t1": [0.70, 0.70, 0.71]})
    text = " ".join(caveats(record, 0))
    assert "In the search t2 had 74.00 %, over fresh seeds its mean is 71.67 %: 2.33 points lower." in text
    assert "same validation images" in text


def test_the_highest_of_several_means_is_not_called_free_of_luck():
    rows = {"recipe": [0.70, 0.71], "t2": [0.75, 0.76], "t1": [0.74, 0.75]}
    assert "The highest of 3 means over fresh seeds is chosen" in " ".join(caveats(confirmed(rows), 0))
    del rows["t1"]
    assert "means over fresh seeds is chosen" not in " ".join(caveats(confirmed(rows, top=1), 0))


def test_a_confirmation_corrects_for_the_number_of_comparisons():
    record = confirmed({"recipe": [0.700, 0.702, 0.701], "t2": [0.703, 0.704, 0.702], "t1": [0.7, 0.7, 0.702]})
    recipe, best, other = record.confirmed
    assert recipe.against_recipe is None
    p_values = [one.against_recipe.p_value() for one in (best, other)]
    assert best.p_adjusted == pytest.approx(min(1, 2 * p_values[0]))  # Holm: the smaller of two p-values counts twice
    assert p_values[0] < 0.1 < best.p_adjusted * 2
    assert best.against_recipe.difference == pytest.approx(0.002)


def test_one_seed_proves_nothing_and_says_so():
    record = confirmed({"recipe": [0.70], "t2": [0.75], "t1": [0.70]})
    assert "rests on too few seeds to be tested" in verdict(record, 500)
    assert record.chosen[0] == "t2"


@pytest.mark.parametrize(
    "accuracies",
    [
        {"recipe": [0.70, 0.71], "t2": [0.75, 0.76], "t1": [0.70, 0.71, 0.70]},  # the recipe is not complete
        {"recipe": [0.70, 0.71, 0.72], "t2": [0.75], "t1": [0.70, 0.71]},  # nothing else is
        {"recipe": [0.70], "t2": [0.75], "t1": []},
        {"recipe": [], "t2": [], "t1": []},
    ],
    ids=["recipe missing", "only the recipe", "just begun", "none"],
)
def test_nothing_is_chosen_by_a_confirmation_that_is_not_complete(accuracies):
    record = confirmed(accuracies, seeds=3)
    assert not record.chosen_is_confirmed
    assert record.chosen == (RECORD.best.label, RECORD.best.values)
    text = verdict(record, 0)
    assert text.startswith("Trial t2 is the best of 3 complete trials")
    assert "it is not shown that t2 is better" in text
    assert text.endswith("The confirmation on fresh seeds is not complete, and nothing rests on it yet.")
    assert "fresh seeds is not complete" in " ".join(caveats(record, 0))
    assert not any(one.against_recipe for one in record.confirmed)
    assert not any("In the search t2 had" in sentence for sentence in caveats(record, 0))


def test_a_configuration_that_lost_a_seed_is_left_out_of_the_choice():
    record = confirmed({"recipe": [0.70, 0.71, 0.70], "t2": [0.79, 0.80], "t1": [0.75, 0.76, 0.75]})
    assert record.chosen[0] == "t1"
    text = verdict(record, 0)
    assert "Trained again on 3 fresh seeds, t1 has the highest mean on val" in text
    assert "correction" not in text  # one comparison was made
    (told,) = [text for text in caveats(record, 0) if "not complete" in text]
    assert "(2 of 3 seeds of t2 finished): these are left out of the choice" in told
    by_label = {one.label: one for one in record.confirmed}
    assert by_label["t2"].against_recipe is None
    assert by_label["t1"].p_adjusted == by_label["t1"].against_recipe.p_value()


def test_best_yaml_claims_no_confirmation_that_is_not_complete(tmp_path):
    record = confirmed({"recipe": [0.70, 0.71], "t2": [0.75, 0.76], "t1": [0.70, 0.71]}, seeds=5)
    page = write_search_page(record, tmp_path)
    head = [line for line in page.best.read_text().splitlines() if line.startswith("#")]
    assert head[0].endswith("by cifarlab tune hunt: t2.")
    assert "is not complete, and nothing rests on it yet" in head[1]
    assert "highest mean" not in " ".join(head)
    html = page.html.read_text()
    assert "2 of 5" in html
    assert "mean over 2 fresh seeds" not in html


def test_confirmed_seeds_that_never_differ_have_no_interval(tmp_path, monkeypatch):
    monkeypatch.setattr(search_page, "search_figures", lambda record: {})
    record = confirmed({"recipe": [0.70] * 5, "t2": [0.75] * 5, "t1": [0.6] * 5})
    text = verdict(record, 0)
    assert "75.00 %, no spread seen" in text
    assert "+5.00 points, p = 0.0" in text  # 2 of 252 arrangements, twice
    assert "[" not in text
    page = write_search_page(record, tmp_path).html.read_text()
    assert "where no seed differs from another of its configuration" in page, "Welch's test is not defined here"


def test_of_equal_means_the_recipe_is_taken():
    record = confirmed({"recipe": [0.70, 0.72], "t2": [0.72, 0.70], "t1": [0.6, 0.6]})
    assert record.chosen == ("recipe", {})
    assert "none of t2 and t1 has a higher mean on val than the recipe itself" in verdict(record, 0)


def test_a_later_leader_that_was_not_confirmed_is_named():
    record = confirmed({"recipe": [0.70, 0.72], "t2": [0.72, 0.73], "t1": [0.6, 0.6]})
    later = dataclasses.replace(record, trials=(*record.trials, trial(5, 0.79)))
    assert later.chosen[0] == "t2"
    assert "Trial t5, which leads the search by now, was not trained again; --confirm does it." in caveats(later, 0)


def test_what_trained_on_all_images_is_told_of_the_images_held_out():
    all_images = dataclasses.replace(CONFIG, data=DataConfig(val_fraction=0))
    record = dataclasses.replace(RECORD, spec=dataclasses.replace(SPEC, recipe=all_images))
    assert any("held out 10 % of them to go by" in sentence for sentence in caveats(record, 0))


def test_own_images_may_bring_those_for_validation():
    """What a folder holds is not known to the record, so nothing is claimed of it."""
    own = dataclasses.replace(
        SPEC, recipe=dataclasses.replace(CONFIG, data=DataConfig(val_fraction=0, folder="/photos"))
    )
    text = " ".join(caveats(dataclasses.replace(RECORD, spec=own), 0))
    assert "Unless the images bring a validation set, the recipe trains on all images; the search held out 10 %" in text


def test_changes_say_what_the_recipe_had_and_what_was_searched():
    rows = {row["field"]: row for row in changes(RECORD)}
    assert rows["optimizer.lr"] == {
        "field": "optimizer.lr",
        "recipe": "0.1",
        "chosen": "0.2",
        "changed": True,
        "searched": "log:0.01:1",
    }
    assert not {row["field"] for row in changes(SearchRecord(SPEC, ())) if row["changed"]}


def test_importances_are_the_shares_of_variance_of_a_function_that_is_known():
    """For f = 3 a + b, with a and b uniform, a explains 9 / 10 of the variance."""
    space = parse_space(["model.dropout=0:0.9", "train.label_smoothing=0:0.9", "augment.rotate=0:180"], CONFIG)
    study, spec = open_search("known", open_storage(), SearchSpec(name="known", recipe=CONFIG, space=space))
    chance = random.Random(0)
    import optuna

    for _ in range(150):
        values = {one.field: chance.uniform(one.low, one.high) for one in space}
        shares = [position(one, values[one.field]) for one in space]
        study.add_trial(
            optuna.trial.create_trial(
                value=0.3 * shares[0] + 0.1 * shares[1],
                params=values,
                distributions={one.field: optuna.distributions.FloatDistribution(one.low, one.high) for one in space},
            )
        )
    found = field_importances(study, spec)
    assert next(iter(found)) == "model.convnet.dropout"
    assert found["model.convnet.dropout"] == pytest.approx(0.9, abs=0.05)
    assert found["train.label_smoothing"] == pytest.approx(0.1, abs=0.05)
    assert found["augment.rotate"] < 0.02
    assert sum(found.values()) == pytest.approx(1)


def test_few_trials_or_equal_figures_have_no_importances():
    study, spec = open_search("few", open_storage(), dataclasses.replace(SPEC, name="few"))
    assert field_importances(study, spec) == {}


def test_positions_lie_where_a_scale_would_put_them():
    lr, dropout, activation = SPEC.space
    assert position(lr, 0.1) == pytest.approx(0.5)
    assert position(dropout, 0.125) == 0.25
    assert [position(activation, value) for value in ("relu", "gelu")] == [0, 1]
    assert axis_ticks(lr) == ((0.0, "0.01"), (pytest.approx(0.5), "0.1"), (1.0, "1"))
    assert axis_ticks(activation) == ((0.0, "relu"), (1.0, "gelu"))


def test_figures_draw_every_complete_trial_and_nothing_without_one():
    assert search_figures(SearchRecord(SPEC, ())) == {}
    figures = search_figures(RECORD)
    assert set(figures) == {"history", "slices", "parallel"}  # one epoch has no curves, three trials no importances
    (axes,) = figures["history"].axes
    lines = {line.get_label(): np.column_stack(line.get_data()).tolist() for line in axes.lines}
    assert lines["complete"] == [[0, 70], [1, 72], [2, 74]]
    assert lines["given up"] == [[3, 30]]
    assert lines["best so far"] == [[0, 70], [1, 72], [2, 74]]
    first = figures["slices"].axes[0].lines[0]
    assert np.allclose(first.get_data(), [[0.5, 0.5, position(SPEC.space[0], 0.2)], [70, 72, 74]])


def test_equal_figures_are_not_called_too_few(tmp_path, monkeypatch):
    monkeypatch.setattr(search_page, "search_figures", lambda record: {"slices": Figure()})
    equal = SearchRecord(SPEC, tuple(trial(number, 0.7) for number in range(12)))
    text = write_search_page(equal, tmp_path).html.read_text()
    assert "All complete trials have the same accuracy, so no field is seen to matter" in text
    assert "Too few complete trials" not in text
    assert "Too few complete trials" in write_search_page(RECORD, tmp_path).html.read_text()


def test_an_infinite_setting_does_not_cost_the_page(tmp_path, monkeypatch):
    """To YAML .inf is a number, and so it is to a field without an upper end; to JSON it is none."""
    monkeypatch.setattr(search_page, "search_figures", lambda record: {})
    config = dataclasses.replace(CONFIG, schedule=dataclasses.replace(CONFIG.schedule, step_at=(0.5, float("inf"))))
    space = parse_space(["optimizer.grad_clip=1,.inf"], config)
    values = ({"optimizer.grad_clip": 1.0}, {"optimizer.grad_clip": float("inf")})
    trials = tuple(SearchTrial(number, "complete", one, (0.7 + number / 10,)) for number, one in enumerate(values))
    page = write_search_page(SearchRecord(SearchSpec(name="hunt", recipe=config, space=space), trials), tmp_path)
    content = json.loads(page.json.read_text())
    assert [one["values"]["optimizer.grad_clip"] for one in content["trials"]] == [1.0, None]
    assert load_config(page.best).optimizer.grad_clip == float("inf")


def test_the_table_has_a_row_for_every_trial_with_empty_cells_for_what_there_is_not():
    rows = [row.split(",") for row in search_csv(RECORD).splitlines()]
    assert rows[0][:4] == ["trial", "state", "val/accuracy", "optimizer.lr"]
    assert rows[3][:4] == ["2", "complete", "0.74", "0.2"]
    assert rows[4][:3] == ["3", "pruned", ""]
    assert rows[5][-1] == "the loss became nan"
