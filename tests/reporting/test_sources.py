"""Which runs a report is about."""

import json
import statistics

import pytest
from tests.reporting.made_up import make_run, scores, seeded

from cifarlab.config import Config, DataConfig
from cifarlab.errors import RunError, UsageError
from cifarlab.reporting.measured import evidence_of
from cifarlab.reporting.sources import load_sources


def make_study(root, arms):
    """A study of arms: {label: {seed: (val accuracy, test images right or None)}}."""
    trials = []
    for label, seeds in arms.items():
        for seed, (val, correct) in seeds.items():
            splits = {"test": scores(correct=correct)} if correct is not None else {"val": scores(correct=5000)}
            run = make_run(root, seeded(seed, recipe=label), name=f"st-{label}-s{seed}", splits=splits)
            result = run.read_json("result.json")
            run.write_json("result.json", {**result, "val/accuracy": val})
            trials.append({"arm": label, "seed": seed, "run": run.name, "state": "complete"})
    listed = [{"label": label, "mean": statistics.fmean(v for v, _ in seeds.values())} for label, seeds in arms.items()]
    folder = root / "studies" / "st"
    folder.mkdir(parents=True)
    (folder / "study.json").write_text(json.dumps({"format": 1, "name": "st", "arms": listed, "trials": trials}))
    return folder


def test_a_study_is_found_by_folder_file_and_name_and_its_best_arm_is_taken(tmp_path, monkeypatch):
    monkeypatch.setenv("CIFARLAB_RUNS", str(tmp_path))
    folder = make_study(
        tmp_path, {"relu": {0: (0.7, 7000), 1: (0.71, 7100)}, "gelu": {0: (0.8, 8000), 1: (0.81, 8100)}}
    )
    for given in (folder, folder / "study.json", "st"):
        found = load_sources([given])
        assert found.main.run.name == "st-gelu-s0"  # the first seed, not the best
        assert found.folder == folder
        assert found.given == ("runs/studies/st",)
        assert [value for _, _, value in found.seeds.runs] == [0.8, 0.81]
        assert "has the highest mean on validation images" in found.notes[0]


def test_where_not_every_seed_was_judged_on_test_the_spread_is_that_of_val(tmp_path):
    folder = make_study(tmp_path, {"relu": {0: (0.70, 7000), 1: (0.72, None), 2: (0.74, None)}})
    (tmp_path / "st-relu-s0" / "evaluation.json").write_text(json.dumps({"format": 2, "splits": {"test": scores()}}))
    for seed in (1, 2):
        (tmp_path / f"st-relu-s{seed}" / "evaluation.json").unlink()
    found = load_sources([folder])
    assert found.main.run.name == "st-relu-s0"
    assert found.seeds.split == "val"
    assert found.seeds.mean == pytest.approx(0.72)
    assert found.seeds.sd == pytest.approx(0.02)


def test_a_study_of_which_no_run_was_judged_on_test_is_refused_with_the_command(tmp_path):
    folder = make_study(tmp_path, {"relu": {0: (0.70, None), 1: (0.72, None)}})
    with pytest.raises(RunError, match=r"cifarlab evaluate .*st-relu-s0 --split test"):
        load_sources([folder])


def test_what_is_no_single_recipe_is_refused(tmp_path):
    one, other = make_run(tmp_path, seeded(0), name="a"), make_run(tmp_path, Config(recipe="fast94"), name="b")
    twin = make_run(tmp_path, seeded(0), name="c")
    with pytest.raises(UsageError, match="cifarlab compare"):
        load_sources([one, other])
    with pytest.raises(UsageError, match="given twice"):
        load_sources([one, one])
    with pytest.raises(UsageError, match="the same seed"):
        load_sources([one, twin])
    with pytest.raises(UsageError, match="name a run"):
        load_sources([])
    folder = make_study(tmp_path, {"relu": {0: (0.7, 7000)}})
    with pytest.raises(UsageError, match=r"give .* alone"):
        load_sources([folder, one])


def test_a_study_that_is_damaged_newer_or_empty_is_refused(tmp_path):
    folder = make_study(tmp_path, {"relu": {0: (0.7, 7000)}})
    file = folder / "study.json"
    whole = json.loads(file.read_text())
    for content, message in (
        ("{", "damaged"),
        (json.dumps({"arms": 3}), "damaged"),
        (json.dumps({**whole, "format": 99}), "newer cifarlab"),
        (json.dumps({**whole, "arms": [{"label": "relu", "mean": None}]}), "no finished trial"),
    ):
        file.write_text(content)
        with pytest.raises(RunError, match=message):
            load_sources([folder])


@pytest.mark.parametrize(
    ("data", "own", "about_the_claim"),
    [
        (DataConfig(), False, True),
        (DataConfig(dataset="cifar100"), False, False),
        (DataConfig(folder="/photos"), True, False),
        (DataConfig(csv="/photos.csv"), True, False),
    ],
)
def test_only_images_of_the_user_are_images_of_the_use(tmp_path, data, own, about_the_claim):
    evidence = evidence_of(load_sources([make_run(tmp_path, Config(data=data))]), None)
    assert evidence.own_images is own
    assert evidence.meets_claim is about_the_claim


def test_an_arm_of_a_study_is_judged_by_its_finished_seeds(tmp_path):
    folder = make_study(tmp_path, {"relu": {0: (0.7, 7000), 1: (0.71, 7100), 2: (0.72, 7200)}})
    study = json.loads((folder / "study.json").read_text())
    for trial, state in zip(study["trials"][1:], ("failed", "waiting"), strict=True):
        trial["state"] = state
        (tmp_path / trial["run"] / "result.json").unlink()
    (folder / "study.json").write_text(json.dumps(study))
    found = load_sources([folder])
    assert found.main.run.name == "st-relu-s0"
    assert found.seeds is None
