"""The loop: resume to the same bytes, learning, stopping, failing."""

import hashlib
import math
import shlex
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.conftest import with_fields
from torch.nn import functional as F

from cifarlab.commands.train import resume, train
from cifarlab.config import ConvnetConfig, ModelConfig, ResnetConfig, SpeednetConfig
from cifarlab.data.splits import make_splits
from cifarlab.errors import ConfigError, NonFiniteLossError, RunError, StoppedError
from cifarlab.run import Run
from cifarlab.training.loop import Hooks

OPTIMIZERS = {
    "sgd": {"optimizer__name": "sgd"},
    "adamw": {"optimizer__name": "adamw", "optimizer__lr": 0.01},
    "muon": {"optimizer__name": "muon", "optimizer__momentum": 0.6},
}
AUGMENTATIONS = {
    "none": {"augment__flip": "none"},
    "flip": {"augment__flip": "random"},
    "alternating": {"augment__flip": "alternating"},
    "translate": {"augment__translate": 2},
    "crop": {"augment__crop_scale": 0.6},
    "rotate": {"augment__rotate": 15.0},
    "cutout": {"augment__cutout": 5},
    "mixup": {"augment__mixup": 0.4},
    "cutmix": {"augment__cutmix": 1.0},
    "both_mixes": {"augment__mixup": 0.4, "augment__cutmix": 1.0},
    "color_jitter": {"augment__color_jitter": 0.3},
}
OTHERS = {
    "ema": {"train__ema": 0.9},
    "keep_best": {"train__keep": "best"},
    "plateau": {"schedule__name": "plateau", "schedule__patience": 0},
    "one_cycle": {"schedule__name": "one_cycle"},
    "low_resolution": {"train__low_resolution": ((0.6, 12),)},
    "clip": {"optimizer__grad_clip": 0.5},
    "balanced": {"train__class_weights": "balanced"},
    "smoothing": {"train__label_smoothing": 0.1},
    "bf16": {"train__precision": "bf16"},
    "nchw": {"train__channels_last": False},
}
CASES = {**OPTIMIZERS, **AUGMENTATIONS, **OTHERS}


pytestmark = pytest.mark.usefixtures("without_curves")


@pytest.fixture(autouse=True)
def _tiny_data(monkeypatch, splits):
    monkeypatch.setattr("cifarlab.commands.train.load_splits", lambda config: splits)


def weights_sha256(run: Run) -> str:
    return hashlib.sha256((run.path / "model.safetensors").read_bytes()).hexdigest()


def history(run: Run) -> list[dict]:
    clocks = ("seconds", "images_per_second")
    return [{key: value for key, value in record.items() if key not in clocks} for record in run.metrics()]


def train_stopped_at(config, step: int) -> Run:
    """Train until a signal arrives after ``step`` steps."""
    at = []
    hooks = Hooks(on_step=lambda report: at.append(report.step), stop_signal=lambda: (at[-1] >= step) * signal.SIGTERM)
    with pytest.raises(StoppedError) as stop:
        train(config, hooks=hooks)
    assert stop.value.exit_code == 143
    return Run.open(stop.value.run)


@pytest.mark.parametrize("case", CASES)
def test_two_epochs_and_two_more_equal_four(config, case):
    config = with_fields(config, **CASES[case])
    whole = train(config)
    stopped = train_stopped_at(config, step=8)
    continued = resume(stopped)
    assert weights_sha256(continued) == weights_sha256(whole)
    assert history(continued) == history(whole)


@pytest.mark.slow
def test_a_compiled_run_resumes_to_the_same_bytes(config):
    config = with_fields(config, train__compile=True)
    assert weights_sha256(resume(train_stopped_at(config, 5))) == weights_sha256(train(config))


@pytest.mark.parametrize("step", [1, 3, 4, 5, 15])
def test_a_stop_in_the_middle_of_an_epoch_changes_nothing(config, step):
    config = with_fields(config, optimizer__name="muon", augment__translate=2, train__ema=0.9)
    whole = train(config)
    continued = resume(train_stopped_at(config, step))
    assert weights_sha256(continued) == weights_sha256(whole)
    assert history(continued) == history(whole)


def test_dropout_resumes_exactly(config):
    model = ModelConfig(name="convnet", convnet=type(config.model.convnet)(stages=((1, 8),), dropout=0.5, hidden=(8,)))
    config = with_fields(config, train__epochs=2)
    config = type(config)(**{**vars(config), "model": model})
    assert weights_sha256(resume(train_stopped_at(config, 5))) == weights_sha256(train(config))


def test_stopping_several_times_changes_nothing(config):
    whole = train(config)
    run = train_stopped_at(config, 2)
    for _ in range(5):
        seen = []
        hooks = Hooks(on_step=seen.append, stop_signal=lambda seen=seen: (len(seen) >= 2) * signal.SIGINT)
        with pytest.raises(StoppedError):
            resume(run, hooks=hooks)
    assert weights_sha256(resume(run)) == weights_sha256(whole)


def test_same_seed_same_bytes_other_seed_other_bytes(config):
    runs = [train(with_fields(config, train__seed=seed)) for seed in (3, 3, 4)]
    hashes = [weights_sha256(run) for run in runs]
    assert hashes[0] == hashes[1] != hashes[2]


def test_the_callers_random_numbers_do_not_move(config):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(with_fields(config, train__epochs=1))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("speednet", ""),
        ("convnet", ""),
        ("mixconv", ""),
        ("resnet", "resnet20"),
        pytest.param("resnet", "resnet18", marks=pytest.mark.slow),
    ],
)
def test_every_model_learns_the_tiny_set(config, name, variant):
    model = ModelConfig(name=name, speednet=SpeednetConfig(widths=(8, 8, 8)))
    if variant:
        model = replace(model, resnet=ResnetConfig(variant=variant))
    config = type(config)(**{**vars(config), "model": model})
    rate = 0.02 if name != "speednet" else 0.2
    config = with_fields(config, train__epochs=6, optimizer__lr=rate, augment__flip="none")
    if name == "resnet":
        config = with_fields(config, train__epochs=3)
    run = train(config)
    assert run.read_json("result.json")["train/accuracy"] > 0.75


def test_recorded_figures_are_those_of_the_kept_model(config, splits):
    from cifarlab.inference import load_model

    for fields in ({}, {"train__ema": 0.8}, {"train__keep": "best"}):
        run = train(with_fields(config, **fields))
        model, names = load_model(run)
        with torch.inference_mode():
            logits = model(splits.val.images_NCHW)
        result = run.read_json("result.json")
        assert names == splits.train.class_names
        assert result["val/loss"] == pytest.approx(F.cross_entropy(logits, splits.val.labels_N).item(), rel=1e-4)
        kept = run.metrics()[result["kept_epoch"] - 1]
        assert kept["val/accuracy"] == result["val/accuracy"]
        if fields.get("train__keep") == "best":
            assert result["val/accuracy"] == max(record["val/accuracy"] for record in run.metrics())


def test_ema_is_the_average_of_the_weights(config):
    config = with_fields(config, train__ema=0.5, train__epochs=1)
    seen = []
    run = train_collecting(config, seen)
    average = seen[0]
    for weights in seen[1:]:
        average = 0.5 * average + 0.5 * weights
    stored, _ = run.load_model()
    torch.testing.assert_close(stored["network.head.weight"], average)


def train_collecting(config, seen):
    """Train and collect the head's weights after every step."""
    from cifarlab.training import loop

    update = loop._update_weights

    def update_and_look(fitting, loss):
        update(fitting, loss)
        seen.append(fitting.state.model.network.head.weight.detach().clone())

    loop._update_weights = update_and_look
    try:
        return train(config)
    finally:
        loop._update_weights = update


@pytest.mark.slow
def test_a_compiled_run_does_what_an_eager_one_does(config):
    fields = {"train__low_resolution": ((0.5, 12),), "augment__flip": "none"}
    eager, compiled = (train(with_fields(config, **fields, train__compile=on)) for on in (False, True))
    for one, other in zip(eager.metrics(), compiled.metrics(), strict=True):
        assert other["train/loss"] == pytest.approx(one["train/loss"], rel=1e-3)
        assert other["val/loss"] == pytest.approx(one["val/loss"], rel=1e-3)


def test_plateau_lowers_the_rate_when_validation_does_not_improve(config):
    config = with_fields(config, schedule__name="plateau", schedule__patience=0, optimizer__lr=5.0, train__epochs=8)
    run = train(config)
    losses = [record["val/loss"] for record in run.metrics()]
    expected, best = 5.0, math.inf
    for record, loss in zip(run.metrics(), losses, strict=True):
        assert record["lr"] == pytest.approx(expected)
        expected, best = (expected, loss) if loss < best else (expected * 0.1, best)
    assert expected < 5.0


def test_early_stopping_counts_epochs_without_a_better_accuracy(config):
    run = train(with_fields(config, train__early_stopping=2, train__epochs=30, optimizer__lr=1e-9))
    accuracies = [record["val/accuracy"] for record in run.metrics()]
    best = accuracies.index(max(accuracies))
    assert len(accuracies) == best + 3
    assert run.read_json("result.json")["stopped_early"]


def test_the_compute_of_a_run_stopped_early_is_that_of_the_steps_it_did(config):
    low = with_fields(config, optimizer__lr=1e-9, train__low_resolution=((0.2, 12),))  # of 30 epochs six
    stopped = train(with_fields(low, train__early_stopping=2, train__epochs=30)).read_json("result.json")
    epochs = stopped["epochs"]
    assert 6 < epochs < 30
    whole = train(with_fields(low, train__epochs=epochs, train__low_resolution=((6 / epochs, 12),)))
    assert stopped["compute_pflop"] == pytest.approx(whole.read_json("result.json")["compute_pflop"])


def test_non_finite_loss_names_step_and_rate_and_keeps_the_last_good_state(config):
    config = with_fields(config, optimizer__lr=1e30, schedule__name="constant")
    with pytest.raises(NonFiniteLossError, match=r"at step \d+ with learning rate 1e\+30") as error:
        train(config)
    assert "lower --optimizer.lr" in str(error.value)


@pytest.mark.parametrize("fields", [{}, {"train__ema": 0.9}, {"train__low_resolution": ((0.5, 12),)}])
def test_a_last_step_that_ruins_the_model_is_seen_where_nothing_is_validated(config, monkeypatch, source, fields):
    config = with_fields(config, data__val_fraction=0.0, train__epochs=1, train__batch_size=120, **fields)
    everything = make_splits(source, config.data)
    monkeypatch.setattr("cifarlab.commands.train.load_splits", lambda config: everything)
    with pytest.raises(NonFiniteLossError, match=r"the answers became NaN or infinite at step 1 .* no state was saved"):
        train(with_fields(config, optimizer__lr=1e30, schedule__name="constant"))
    assert not Run.open(config.recipe).finished
    assert train(config).finished


@pytest.mark.parametrize(
    ("every", "kept"), [(1, "the state after step 8 is kept"), (2, "the state after step 8"), (3, "no state was saved")]
)
def test_state_before_a_non_finite_loss_can_be_loaded(config, monkeypatch, every, kept):
    from cifarlab.training import loop

    real = F.cross_entropy

    def poisoned(logits, targets, **keywords):
        loss = real(logits, targets, **keywords)
        poisoned.calls += 1
        return loss * (float("nan") if poisoned.calls == 12 else 1)

    poisoned.calls = 0
    monkeypatch.setattr(loop.F, "cross_entropy", poisoned)
    with pytest.raises(NonFiniteLossError, match=kept):
        train(with_fields(config, train__checkpoint_epochs=every))
    packed = Run.open(config.recipe).load_checkpoint()
    assert (packed is None) == (every == 3)
    if packed is None:
        return
    tensors, values = packed
    assert values["progress"]["step"] == 8
    assert all(value.isfinite().all() for value in tensors.values() if value.is_floating_point())


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (ModelConfig(speednet=SpeednetConfig(widths=(8, 8, 8), whiten_kernel=3)), "at least 10 pixels, not 9"),
        (
            ModelConfig(name="convnet", convnet=ConvnetConfig(stages=((1, 4),) * 4, pool_last=True, head="average")),
            "halves the image 4 times, for which 9 pixels are too few",
        ),
    ],
)
def test_low_resolutions_that_do_not_suit_the_model_are_refused_before_anything_is_written(config, model, reason):
    config = replace(with_fields(config, train__low_resolution=((0.5, 9),)), model=model)
    with pytest.raises(ConfigError, match=f"{reason}; take larger sizes than 9 in train.low_resolution"):
        train(config)
    with pytest.raises(RunError, match="not a run folder"):
        Run.open(config.recipe)


def test_a_network_of_one_size_is_not_trained_at_another(config):
    flat = replace(config, model=ModelConfig(name="convnet", convnet=ConvnetConfig(stages=((1, 4),))))
    with pytest.raises(ConfigError, match=r"takes 12 as well as 16 pixels; set model\.convnet\.head to average"):
        train(with_fields(flat, train__low_resolution=((0.5, 12), (0.8, 14))))
    with pytest.raises(RunError, match="not a run folder"):
        Run.open(config.recipe)
    train(with_fields(flat, train__low_resolution=((0.5, 16),), train__epochs=1))


def test_a_batch_of_one_image_needs_maps_of_more_than_one_position(config):
    config = with_fields(config, train__batch_size=1, train__epochs=0.03)
    with pytest.raises(ConfigError, match=r"one image of 16 pixels .* set train\.batch_size to 2 or more"):
        train(config)
    with pytest.raises(RunError, match="not a run folder"):
        Run.open(config.recipe)
    convnet = replace(config, model=ModelConfig(name="convnet", convnet=ConvnetConfig(stages=((1, 4),))))
    assert train(convnet).finished


def test_images_cannot_be_shifted_by_their_own_size(config):
    with pytest.raises(ConfigError, match=r"augment\.translate must be less than the images' 16 pixels, not 16"):
        train(with_fields(config, augment__translate=16))
    train(with_fields(config, augment__translate=15, train__epochs=1))


def test_fractional_epochs(config):
    run = train(with_fields(config, train__epochs=1.5))
    assert [record["step"] for record in run.metrics()] == [4, 6]
    assert run.read_json("result.json")["steps"] == 6


def test_whitening_bias_is_trained_only_at_first(config):
    frozen = train(with_fields(config, train__freeze_whitening=0.0)).load_model()[0]["network.whiten.bias"]
    trained = train(with_fields(config, train__freeze_whitening=1.0)).load_model()[0]["network.whiten.bias"]
    assert torch.equal(frozen, torch.zeros_like(frozen))
    assert trained.abs().sum() > 0


def test_fine_tuning_starts_from_the_weights_of_a_run(config, splits):
    first = train(config)
    model = ModelConfig(name="speednet", init=str(first.path), speednet=SpeednetConfig(widths=(8, 8, 8)))
    second = type(config)(**{**vars(config), "model": model})
    lines = []
    run = train(with_fields(second, optimizer__lr=1e-9, train__epochs=1), notify=lines.append)
    before, after = first.load_model()[0], run.load_model()[0]
    torch.testing.assert_close(after["network.head.weight"], before["network.head.weight"])
    assert "start from" in lines[0]
    relative = ModelConfig(name="speednet", init=first.name, speednet=model.speednet)  # a bare name is one of the runs
    by_name = train(type(config)(**{**vars(second), "model": relative}))
    assert Path(by_name.config.model.init) == first.path.resolve()


def test_what_cannot_be_resumed_says_why(config, monkeypatch, source):
    done = train(config)
    with pytest.raises(RunError, match="finished; there is nothing to resume"):
        resume(done)
    stopped = train_stopped_at(config, 5)
    from cifarlab.config import DataConfig
    from cifarlab.data.splits import make_splits

    other = make_splits(source, DataConfig(image_size=16, split_seed=9))
    monkeypatch.setattr("cifarlab.commands.train.load_splits", lambda config: other)
    with pytest.raises(RunError, match="have changed since it began"):
        resume(stopped)


def test_a_run_killed_before_its_training_began_says_how_to_begin_anew(config):
    run = Run.create(config, name="it's new")
    with pytest.raises(RunError, match="stopped before its training began") as caught:
        resume(run)
    command = shlex.split(str(caught.value).partition("with: ")[2])
    assert command == ["cifarlab", "train", "--config", str(run.path / "config.yaml")]


@pytest.mark.parametrize(
    "damage", [{"progress": None}, {"progress": {"precision": "fp99"}}, {"optimizers": None}, {"optimizers": [None]}]
)
def test_a_checkpoint_that_is_none_of_ours_is_refused(config, damage):
    stopped = train_stopped_at(config, 5)
    tensors, values = stopped.load_checkpoint()
    stopped.save_checkpoint(6, tensors, values | damage)
    with pytest.raises(RunError, match="the checkpoint"):
        resume(stopped)


def test_checkpoint_of_another_configuration_is_refused(config):
    stopped = train_stopped_at(config, 5)
    text = (stopped.path / "config.yaml").read_text()
    (stopped.path / "config.yaml").write_text(text.replace("name: sgd", "name: adamw").replace("- 8\n", "- 16\n"))
    with pytest.raises(RunError, match="does not fit its configuration"):
        resume(stopped)
