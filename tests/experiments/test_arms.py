"""Arms: grids, lists, names of fields, and what is refused before the first trial."""

import dataclasses
import itertools

import pytest

from cifarlab.config import Config, DataConfig
from cifarlab.errors import UsageError
from cifarlab.experiments.arms import (
    check_spec,
    expand_grid,
    load_arms,
    make_arm,
    parse_setting,
    parse_vary,
    study_base,
)
from cifarlab.experiments.fields import resolve_name, with_values
from cifarlab.experiments.study import (
    Arm,
    StudySpec,
    planned_trials,
    run_name,
    spec_from_dict,
    spec_to_dict,
    trial_config,
)
from cifarlab.recipes import load_recipe

CONVNET = load_recipe("convnet")


def spec_of(arms, base=CONVNET, seeds=1, name="s"):
    return StudySpec(name=name, question="", base=base, arms=tuple(arms), seeds=seeds)


def test_a_grid_is_every_combination_once_the_last_field_fastest():
    varies = [parse_vary(text, CONVNET) for text in ("activation=relu,gelu,silu", "augment.flip=none,random")]
    arms = expand_grid(varies, CONVNET)
    expected = list(itertools.product(["relu", "gelu", "silu"], ["none", "random"]))
    assert [tuple(arm.overrides.values()) for arm in arms] == expected
    configs = [trial_config(spec_of(arms), arm, 0) for arm in arms]
    assert [(c.model.convnet.activation, c.augment.flip) for c in configs] == expected
    assert arms[1].label == "activation=relu + flip=random"


def test_trials_are_interleaved_over_seeds():
    spec = spec_of([Arm("a"), Arm("b", {"optimizer.lr": 0.5})], seeds=3)
    assert [(arm.label, seed) for arm, seed in planned_trials(spec)] == [(a, s) for s in range(3) for a in "ab"]
    shifted = dataclasses.replace(spec, base=with_values(CONVNET, {"train.seed": 7}))
    assert [seed for _, seed in planned_trials(shifted)] == [7, 7, 8, 8, 9, 9]


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("optimizer.lr", "optimizer.lr"),
        ("lr", "optimizer.lr"),
        ("model.activation", "model.convnet.activation"),
        ("activation", "model.convnet.activation"),
        ("label-smoothing", "train.label_smoothing"),
        ("epochs", "train.epochs"),
    ],
)
def test_the_last_part_of_a_name_is_enough_where_one_field_that_counts_ends_so(name, field):
    assert resolve_name(name, CONVNET) == field


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optimizer.lr", "write it like --vary optimizer.lr=0.05,0.1"),
        ("optimizer.lr=0.1", "at least two values"),
        ("optimizer.lr=0.1,0.10", "a value twice"),
        ("optimizer.lr=fast,slow", "optimizer.lr must be of type float, not 'fast'"),
        ("optimizer.rl=0.1,0.2", "unknown field 'optimizer.rl'; did you mean optimizer.lr?"),
        ("model.activation=relu,gleu", "must be one of relu, gelu"),
        ("batch_size=1,2", "may be train.batch_size or evaluate.batch_size"),
        ("train.batch_size=1.5,2", "must be of type int"),
        ("train.seed=1,2", "cannot be varied: every arm is trained on the same seeds"),
        ("data.val_fraction=0.1,0.2", "cannot be varied: configurations are compared on one set of validation images"),
        ("model.variant=a,b", "unknown field 'model.variant'"),
    ],
)
def test_a_wrong_vary_is_refused_with_what_to_write(text, message):
    with pytest.raises(UsageError) as caught:
        parse_vary(text, CONVNET)
    assert message in str(caught.value)


def test_values_are_those_of_their_field():
    assert parse_vary("optimizer.lr=1e-3,1", CONVNET) == ("optimizer.lr", [0.001, 1.0])
    assert parse_vary("model.stages=[[1,8]],[[2,8],[1,16]]", CONVNET)[1] == [[[1, 8]], [[2, 8], [1, 16]]]
    assert parse_vary("augment.flip=none,random", CONVNET)[1] == ["none", "random"]
    assert parse_vary("train.compile=true,false", CONVNET)[1] == [True, False]
    assert parse_setting("train.epochs=5", CONVNET) == ("train.epochs", 5.0)


def test_labels_say_what_a_number_is():
    assert [arm.label for arm in expand_grid([("optimizer.lr", [0.1, 0.05])], CONVNET)] == ["lr=0.1", "lr=0.05"]
    assert [arm.label for arm in expand_grid([("model.convnet.activation", ["relu"])], CONVNET)] == ["relu"]
    both = expand_grid([("train.batch_size", [1]), ("evaluate.batch_size", [2])], CONVNET)
    assert both[0].label == "train.batch_size=1 + evaluate.batch_size=2"


@pytest.mark.parametrize(
    ("arms", "message"),
    [
        ([], "a study compares arms"),
        ([Arm("a", {"optimizer.lr": -1.0})], "arm 'a': optimizer.lr must be positive"),
        ([Arm("a", {"model.resnet.stem": "cifar"})], "has no effect with model.name convnet"),
        ([Arm("a", {"data.resize": "crop"})], "has no effect on the images of cifar10, which are square"),
        ([Arm("a", {"optimizer.head_lr": 1.0})], "has no effect with optimizer.name sgd"),
        ([Arm("a"), Arm("b", {"optimizer.lr": 0.05})], "arms 'a' and 'b' are the same configuration"),
        ([Arm("a"), Arm("a", {"optimizer.lr": 0.5})], "two arms are called 'a'"),
        ([Arm("a", {"model.convnet.stages": [[1, 8]] * 6})], "arm 'a': "),
        ([Arm("a", {"train.low_resolution": [[0.5, 12]]})], "arm 'a': train.low_resolution needs a network that takes"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_the_first_trial(arms, message):
    with pytest.raises(UsageError) as caught:
        check_spec(spec_of(arms))
    assert message in str(caught.value)


def test_a_grid_without_effect_is_refused_but_the_best_of_a_search_over_networks_is_not(tmp_path):
    """There, a trial carries the values of all networks' fields; a grid would train the same thing twice."""
    fields = {"model.name": "resnet", "model.convnet.dropout": 0.3}
    check_spec(spec_of([Arm("t7", fields)]))
    with pytest.raises(UsageError, match=r"arm 'name=resnet \+ dropout=0\.1': model\.convnet\.dropout has no"):
        expand_grid([("model.name", ["convnet", "resnet"]), ("model.convnet.dropout", [0.1, 0.2])], CONVNET)
    with pytest.raises(UsageError, match=r"arm 'mine': model\.convnet\.dropout has no effect"):
        make_arm("mine", fields, CONVNET)


def test_a_pooling_that_another_field_decides_is_refused():
    base = with_values(CONVNET, {"model.convnet.pool_after": [1]})
    with pytest.raises(UsageError, match=r"pool_last has no effect with model\.convnet\.pool_after \[1\]"):
        expand_grid([("model.convnet.pool_last", [True, False])], base)
    assert len(expand_grid([("model.convnet.pool_last", [True, False])], CONVNET)) == 2


@pytest.mark.parametrize("name", ["", "../x", ".x", "a/b", "x" * 101])
def test_a_name_that_cannot_be_a_folder_is_refused(name):
    with pytest.raises(UsageError, match="a study's name is made of"):
        check_spec(spec_of([Arm("a")], name=name))


def test_a_list_of_arms_from_a_file(tmp_path):
    path = tmp_path / "arms.yaml"
    path.write_text(
        "as it is:\n"
        "narrow: {model.stages: [[1, 8]], model.hidden: []}\n"
        "speednet: {model.name: speednet, model.widths: [8, 8, 8], lr: 1e-2}\n"
    )
    arms = load_arms(path, CONVNET)
    check_spec(spec_of(arms))
    assert arms[0] == Arm("as it is", {})
    assert arms[1].overrides == {"model.convnet.stages": [[1, 8]], "model.convnet.hidden": []}
    assert arms[2].overrides["model.speednet.widths"] == [8, 8, 8]
    assert arms[2].overrides["optimizer.lr"] == 0.01


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "must hold labels"),
        ("a: {x.y: 1}", "arm 'a': unknown field"),
        ("a: [", "is not YAML"),
        ("a: 3", "labels"),
        ("a: {lr: 0.1}\nb: {}\na: {lr: 0.2}", "has 'a' twice"),
        ("a: {lr: 0.1, lr: 0.2}", "has 'lr' twice"),
        ("no: {lr: 0.1}\noff: {lr: 0.2}", "the same to YAML"),
    ],
)
def test_a_wrong_file_of_arms_is_one_line(tmp_path, text, message):
    path = tmp_path / "arms.yaml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        load_arms(path, CONVNET)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_labels_are_taken_as_they_are_written(tmp_path):
    (tmp_path / "arms.yaml").write_text("no: {}\n1e-3: {lr: 0.001}\n64: {lr: 0.2}")
    assert [arm.label for arm in load_arms(tmp_path / "arms.yaml", CONVNET)] == ["no", "1e-3", "64"]


def test_a_study_holds_out_validation_images_and_does_not_move_with_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    base, notes = study_base(load_recipe("fast94"))
    assert base.data.val_fraction == 0.1
    assert len(notes) == 1
    base, notes = study_base(Config(data=DataConfig(folder="photos", val_fraction=0.3)))
    assert (base.data.val_fraction, base.data.folder, notes) == (0.3, str(tmp_path / "photos"), [])
    assert study_base(load_recipe("fast70"))[0].train.checkpoint_epochs == 0
    _, notes = study_base(Config(data=DataConfig(folder="photos", val_fraction=0)))
    assert "where they bring no validation set" in notes[0]  # what a folder holds is not known here


def test_a_specification_survives_its_way_through_the_database():
    import json

    varies = [parse_vary(text, CONVNET) for text in ("model.stages=[[1,8]],[[2,8],[1,16]]", "lr=0.1,0.2")]
    arms = expand_grid(varies, CONVNET)
    spec = spec_of(arms, seeds=4)
    assert spec_from_dict(json.loads(json.dumps(spec_to_dict(spec)))) == spec


def test_no_two_trials_share_a_folder():
    arms = [Arm("a b", {"optimizer.lr": 0.1}), Arm("a-b", {"optimizer.lr": 0.2}), Arm("ä", {}), Arm("x" * 200)]
    spec = spec_of(arms, seeds=2)
    names = [run_name(spec, arm, seed) for arm, seed in planned_trials(spec)]
    assert len(set(names)) == len(names)
    assert all(len(name) < 120 and "/" not in name and not name.startswith(".") for name in names)
