import json

import pytest

from cifarlab.diagnosis import diagnose


def curve(train, val, *, train_loss=None, val_loss=None, lr=None):
    """Records of metrics.jsonl from lists of accuracies; losses follow the errors unless given."""
    epochs = range(len(train))
    train_loss = train_loss or [3 * (1 - a) + 0.01 * (len(train) - i) for i, a in enumerate(train)]
    val_loss = val_loss or [3 * (1 - a) for a in val]
    lr = lr or [0.1] * len(train)
    return [
        {
            "epoch": i + 1,
            "train/loss": train_loss[i],
            "train/accuracy": train[i],
            "val/loss": val_loss[i],
            "val/accuracy": val[i],
            "lr": lr[i],
        }
        for i in epochs
    ]


def linear(epochs):
    return [0.1 * (1 - i / epochs) for i in range(epochs)]


FLAT = [0.6, 0.8, 0.88, 0.90, 0.91, 0.915, 0.916, 0.916, 0.917, 0.917]


def test_val_loss_that_rises_while_train_loss_falls_is_overfitting():
    losses = [1.2, 0.8, 0.5, 0.40, 0.42, 0.45, 0.49, 0.52, 0.55, 0.58]
    found = diagnose(curve(FLAT, FLAT, val_loss=losses), 5000)
    assert found.verdict == "overfits"
    assert "val loss was lowest in epoch 4 (0.400)" in found.sentence


def test_val_loss_that_rises_together_with_train_loss_is_not():
    losses = [1.2, 0.8, 0.5, 0.40, 0.42, 0.45, 0.49, 0.52, 0.55, 0.58]
    assert diagnose(curve(FLAT, FLAT, val_loss=losses, train_loss=losses), 5000).verdict != "overfits"


def test_one_last_epoch_that_jumps_is_not_a_trend():
    losses = [1.2, 0.8, 0.5, 0.45, 0.44, 0.43, 0.42, 0.41, 0.40, 0.60]
    assert diagnose(curve(FLAT, FLAT, val_loss=losses), 5000).verdict == "neither"


def test_a_rise_within_sampling_error_counts_only_with_many_val_images():
    losses = [1.2, 0.8, 0.5, 0.40, 0.405, 0.41, 0.415, 0.42, 0.425, 0.43]
    records = curve(FLAT, FLAT, val_loss=losses)
    assert diagnose(records, 50_000).verdict == "overfits"
    assert diagnose(records, 200).verdict == "neither"


def test_a_large_gap_of_accuracies_is_overfitting():
    train = [0.6, 0.8, 0.9, 0.95, 0.97, 0.98, 0.985, 0.99, 0.992, 0.993]
    val = [0.6, 0.75, 0.80, 0.82, 0.82, 0.82, 0.82, 0.82, 0.82, 0.82]
    found = diagnose(curve(train, val), 5000)
    assert found.verdict == "overfits"
    assert found.evidence["accuracy_gap"] == pytest.approx(0.993 - 0.82)
    assert "17.3 points" in found.sentence


def test_the_same_gap_on_few_val_images_may_be_chance():
    train, val = [0.7, 0.8, 0.87, 0.88, 0.88], [0.7, 0.79, 0.80, 0.80, 0.80]
    assert diagnose(curve(train, val), 5000).verdict == "overfits"
    assert diagnose(curve(train, val), 50).verdict == "neither"  # standard error of 5.7 points


def test_val_accuracy_still_rising_at_a_constant_rate_is_underfitting():
    rising = [0.30, 0.40, 0.50, 0.58, 0.65]
    found = diagnose(curve([a + 0.03 for a in rising], rising), 5000)
    assert found.verdict == "underfits"
    assert "+7.0 points" in found.sentence


def test_a_rise_that_an_annealed_rate_explains_is_underfitting_only_without_a_gap():
    val = [0.60, 0.75, 0.82, 0.87, 0.91]
    below = diagnose(curve([a - 0.05 for a in val], val, lr=linear(5)), 5000)
    above = diagnose(curve([a + 0.03 for a in val], val, lr=linear(5)), 5000)
    assert below.verdict == "underfits"
    assert "decay of the learning rate" in below.sentence
    assert above.verdict == "neither"


def test_train_below_val_alone_means_nothing():
    found = diagnose(curve([a - 0.04 for a in FLAT], FLAT, lr=linear(10)), 5000)
    assert found.verdict == "neither"
    assert "no proof" in found.sentence


def test_low_accuracy_on_both_without_movement_is_underfitting():
    flat = [0.3, 0.38, 0.40, 0.40, 0.40, 0.40, 0.40, 0.40, 0.40, 0.40]
    assert diagnose(curve(flat, flat), 5000).verdict == "underfits"


def test_a_constant_shift_of_train_loss_such_as_label_smoothing_changes_nothing():
    losses = [1.2, 0.8, 0.5, 0.40, 0.42, 0.45, 0.49, 0.52, 0.55, 0.58]
    for val_loss in (losses, None):
        plain = curve(FLAT, FLAT, val_loss=val_loss)
        smoothed = [{**record, "train/loss": record["train/loss"] + 0.8} for record in plain]
        assert diagnose(plain, 5000).verdict == diagnose(smoothed, 5000).verdict


@pytest.mark.parametrize("val", [{}, {"val/loss": None, "val/accuracy": None}])
def test_without_a_val_split_it_says_so_and_names_the_way_out(val):
    records = [{"epoch": i + 1, "train/loss": 1.0, "train/accuracy": 0.5, "lr": 0.1, **val} for i in range(5)]
    found = diagnose(records, 0)
    assert found.verdict == "unknown"
    assert "--data.val-fraction 0.1" in found.sentence


@pytest.mark.parametrize("epochs", [0, 1, 2])
def test_too_few_epochs_are_unknown(epochs):
    assert diagnose(curve([0.99] * epochs, [0.5] * epochs), 5000).verdict == "unknown"


def test_a_fractional_last_epoch_and_missing_keys_are_borne():
    records = curve(FLAT, FLAT)
    records[-1]["epoch"] = 9.5
    bare = [{"epoch": r["epoch"], "val/accuracy": r["val/accuracy"]} for r in records]
    assert diagnose(records, 5000).verdict == "neither"
    assert diagnose(bare, 5000).verdict == "neither"
    json.dumps(diagnose(records, 5000).evidence, allow_nan=False)


@pytest.mark.parametrize("accuracy", [0.0, 1.0])
def test_perfect_and_hopeless_models_are_borne(accuracy):
    found = diagnose(curve([accuracy] * 6, [accuracy] * 6), 100)
    assert found.verdict == ("neither" if accuracy else "underfits")
