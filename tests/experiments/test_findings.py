"""Findings agree with scipy and statsmodels, and claim no more than five studies in a hundred would wrongly."""

import dataclasses
import gc
import itertools
import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from tests.experiments.synthetic import NUM_IMAGES, make_record
from tests.experiments.test_factors import unequal_interaction_p

from cifarlab.differences import new_images_interval
from cifarlab.experiments.evidence import Evidence, load_evidence
from cifarlab.experiments.findings import find, pooled_sd
from cifarlab.experiments.wording import tell
from cifarlab.run import Run

VALUES = {"relu": [0.70, 0.72, 0.71, 0.705], "gelu": [0.74, 0.75, 0.745, 0.742], "tanh": [0.60, 0.62, 0.61, 0.64]}


def plain_findings(values, tmp_path, **options):
    return find(make_record(tmp_path, values, folders=False, **options), Evidence())


def test_summaries_are_those_of_scipy_best_first(tmp_path):
    found = plain_findings(VALUES, tmp_path, pflop={"gelu": 0.05})
    assert [arm.label for arm in found.arms] == ["gelu", "relu", "tanh"]
    for arm in found.arms:
        values = VALUES[arm.label]
        assert (arm.mean, arm.sd) == (pytest.approx(np.mean(values)), pytest.approx(np.std(values, ddof=1)))
        assert arm.interval == pytest.approx(stats.t.interval(0.95, 3, np.mean(values), stats.sem(values)))
        assert (arm.lowest, arm.highest, arm.seeds) == (min(values), max(values), (0, 1, 2, 3))
        assert arm.gap == pytest.approx(0.02)
        assert arm.train_clock_seconds == pytest.approx(42.0)
        assert arm.pflop == pytest.approx(0.05 if arm.label == "gelu" else 0.01)
        assert math.isnan(arm.views)
    assert found.pooled_sd == pytest.approx(math.sqrt(np.mean([np.var(v, ddof=1) for v in VALUES.values()])))


def test_pairs_are_welch_tests_with_holms_correction(tmp_path):
    found = plain_findings(VALUES, tmp_path)
    assert [(pair.first, pair.second) for pair in found.pairs] == [("gelu", "relu"), ("gelu", "tanh"), ("relu", "tanh")]
    raw = [stats.ttest_ind(VALUES[p.first], VALUES[p.second], equal_var=False).pvalue for p in found.pairs]
    np.testing.assert_allclose([pair.result.p_welch for pair in found.pairs], raw)
    np.testing.assert_allclose([p.p_adjusted for p in found.pairs], multipletests(raw, method="holm")[1])
    for pair in found.pairs:
        assert pair.result.difference > 0
        assert pair.supported == (pair.p_adjusted < 0.05)


def test_an_arm_is_judged_with_test_time_views_where_it_has_them(tmp_path):
    found = plain_findings(VALUES, tmp_path, views=0.01)
    for arm in found.arms:
        assert arm.mean == pytest.approx(np.mean(VALUES[arm.label]) + 0.01)
        assert arm.views == arm.mean
        assert arm.plain == pytest.approx(np.mean(VALUES[arm.label]))


@pytest.mark.parametrize("seed", range(4))
def test_a_group_holds_exactly_what_was_not_told_apart(seed, tmp_path):
    generator = np.random.default_rng(seed)
    values = {name: generator.normal(0.7 + 0.003 * i, 0.004, 4).tolist() for i, name in enumerate("abcde")}
    found = plain_findings(values, tmp_path)
    together = {frozenset(two) for group in found.groups for two in itertools.combinations(group, 2)}
    assert together == {frozenset((pair.first, pair.second)) for pair in found.pairs if not pair.supported}
    assert {name for group in found.groups for name in group} == set("abcde")


def test_arms_with_one_seed_or_none_are_counted_but_not_compared(tmp_path):
    found = plain_findings({**VALUES, "elu": [0.8, None], "silu": []}, tmp_path)
    by_label = {arm.label: arm for arm in found.arms}
    assert by_label["elu"].unfinished == {"failed": 1, "waiting": 2}
    assert by_label["silu"].unfinished == {"waiting": 4}
    assert math.isnan(by_label["silu"].mean)
    assert math.isnan(by_label["elu"].interval[0])
    assert [arm.label for arm in found.arms] == ["elu", "gelu", "relu", "tanh", "silu"]
    compared = {name for pair in found.pairs for name in (pair.first, pair.second)}
    assert compared == {name for group in found.groups for name in group} == set(VALUES)


def test_a_pooled_spread_weighs_by_degrees_of_freedom():
    a, b = [1.0, 2.0, 4.0], [5.0, 9.0]
    _, p = stats.ttest_ind(a, b)
    t = (np.mean(a) - np.mean(b)) / (pooled_sd([a, b, [7.0]]) * math.sqrt(1 / 3 + 1 / 2))
    assert 2 * stats.t.sf(abs(t), 3) == pytest.approx(p)
    assert math.isnan(pooled_sd([[1.0], []]))


GRID = {f"{a} {b}": {"optimizer.lr": a, "train.ema": b} for a in (0.1, 0.2, 0.3) for b in (0.0, 0.9)}


def grid_values(generator, cells, sd, seeds):
    return {label: generator.normal(cells.get(label, 0.7), sd, seeds).tolist() for label in GRID}


def test_a_grid_shares_its_five_per_cent_between_arms_and_fields(tmp_path):
    values = grid_values(np.random.default_rng(5), {"0.3 0.9": 0.71}, 0.004, 4)
    found = plain_findings(values, tmp_path, overrides=GRID)
    raw = [stats.ttest_ind(values[p.first], values[p.second], equal_var=False).pvalue for p in found.pairs]
    expected = np.minimum(1, 2 * multipletests(raw, method="holm")[1])
    np.testing.assert_allclose([pair.p_adjusted for pair in found.pairs], expected)
    assert found.effects is not None
    pairs = [pair for some in found.effects.pairs.values() for pair in some]
    assert [len(some) for some in found.effects.pairs.values()] == [3, 1]
    for pair in pairs:
        field, first = pair.first.split(" ")
        place = 0 if field == "optimizer.lr" else 1
        samples = [
            np.mean([row for label, row in values.items() if label.split(" ")[place] == value], axis=0)
            for value in (first, pair.second.split(" ")[1])
        ]
        assert pair.result.p_welch == pytest.approx(stats.ttest_ind(*samples, equal_var=False).pvalue)
    cells_ABR = np.array([[values[f"{a} {b}"] for b in (0.0, 0.9)] for a in (0.1, 0.2, 0.3)])
    family = [*(pair.result.p_welch for pair in pairs), unequal_interaction_p(cells_ABR)]
    expected = np.minimum(1, 2 * multipletests(family, method="holm")[1])
    np.testing.assert_allclose([*(pair.p_adjusted for pair in pairs), found.effects.p_interaction], expected)


@pytest.fixture
def no_gc(monkeypatch):
    """Statsmodels collects garbage at every correction, which takes most of the time with torch loaded."""
    monkeypatch.setattr(gc, "collect", lambda: 0)


def false_claims(tmp_path, studies, arms, seeds, overrides=None):
    """Make studies in which every arm is truly the same; return how many claim something, now and if uncorrected.

    What is claimed has to be what scipy's tests with statsmodels' correction claim, and what is said.
    """
    claimed = uncorrected = 0
    for number in range(studies):
        generator = np.random.default_rng(number)
        values = {label: generator.normal(0.7, 0.005, seeds).round(4).tolist() for label in overrides or arms}
        found = plain_findings(values, tmp_path, overrides=overrides)
        said = " ".join(sentence.text for sentence in tell(found))
        effects = [] if found.effects is None else [p for some in found.effects.pairs.values() for p in some]
        interacts = found.effects is not None and found.effects.interacts
        supported = [pair.supported for pair in (*found.pairs, *effects)]
        assert (" beats " in said) == any(supported)
        assert ("depend on each other (p" in said) == interacts
        raw = [p for family in independent_p(values, overrides) for p in family]
        expected = [p < 0.05 for p in independent_correction(values, overrides)]
        assert sorted([*supported, interacts] if overrides else supported) == sorted(expected)
        claimed += any(expected)
        uncorrected += min(raw) < 0.05
    return claimed, uncorrected


def independent_p(values, overrides):
    """Return Welch's p-values of all pairs and, of a grid, those of its fields with the test of the interaction."""
    arms = [stats.ttest_ind(a, b, equal_var=False).pvalue for a, b in itertools.combinations(values.values(), 2)]
    if not overrides:
        return [arms]
    fields = []
    for field in next(iter(overrides.values())):
        by_value = {}
        for label, row in values.items():
            by_value.setdefault(overrides[label][field], []).append(row)
        samples = [np.mean(rows, axis=0) for rows in by_value.values()]
        fields += [stats.ttest_ind(a, b, equal_var=False).pvalue for a, b in itertools.combinations(samples, 2)]
    cells_ABR = np.array(list(values.values())).reshape(3, 2, -1)
    return [arms, [*fields, unequal_interaction_p(cells_ABR)]]


def independent_correction(values, overrides):
    families = independent_p(values, overrides)
    return [len(families) * p for family in families for p in multipletests(family, method="holm")[1]]


def test_equal_arms_are_claimed_to_differ_in_at_most_five_studies_of_a_hundred(tmp_path, no_gc):
    claimed, uncorrected = false_claims(tmp_path, 60, "abcdef", 4)
    bound = stats.binom.ppf(0.999, 60, 0.05)
    assert claimed <= bound < uncorrected  # so that a test without the correction would fail


def test_equal_grids_are_claimed_to_have_effects_in_at_most_five_studies_of_a_hundred(tmp_path, no_gc):
    claimed, uncorrected = false_claims(tmp_path, 25, "", 3, GRID)
    bound = stats.binom.ppf(0.999, 25, 0.05)
    assert claimed <= bound < uncorrected


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_false_claims_in_many_studies(tmp_path, no_gc):
    for studies, arms, seeds, overrides in ((600, "abcde", 5, None), (300, "", 3, GRID)):
        claimed, uncorrected = false_claims(tmp_path, studies, arms, seeds, overrides)
        assert claimed <= stats.binom.ppf(0.999, studies, 0.05) < uncorrected


def correct(generator, images_N, shift, seeds, seed_sd=0.05):
    """Answers of networks of one arm: an image's difficulty, a network's own strength, and chance on every image."""
    strength_S = generator.normal(shift, seed_sd, seeds)
    return generator.normal(size=(seeds, len(images_N))) < strength_S[:, None] + images_N[None, :]


def test_intervals_for_new_images_hold_the_true_difference_and_are_no_wider_than_that_takes():
    held, halves, middles = 0, [], []
    for number in range(300):
        generator = np.random.default_rng(number)
        images_N = generator.normal(0.7, 1.5, 200)
        low, high = new_images_interval(
            correct(generator, images_N, 0.0, 5), correct(generator, images_N, 0.0, 4, seed_sd=0.1)
        )
        held += low <= 0 <= high
        halves.append((high - low) / 2)
        middles.append((high + low) / 2)
    assert 0.92 <= held / 300 <= 0.99
    # the difference's true spread, seen over new seeds and new images, takes 1.96 of itself; t takes somewhat more
    assert 1 < np.mean(halves) / (1.96 * np.std(middles)) < 1.5


def test_the_interval_for_new_images_by_the_analysis_of_variance():
    generator = np.random.default_rng(3)
    num_images = 60
    arms = [
        correct(generator, generator.normal(0.5, 1.0, num_images), 0.0, seeds, seed_sd=0.3) for seeds in (4, 3)
    ]  # other images are easy for the one than for the other
    parts, freedoms, rests = [], [], []
    for arm in arms:
        cells = arm.astype(float)
        squares = ((cells - cells.mean()) ** 2).sum()
        of_seeds = num_images * ((cells.mean(1) - cells.mean()) ** 2).sum()
        of_images = len(cells) * ((cells.mean(0) - cells.mean()) ** 2).sum()
        parts.append(of_seeds / (len(cells) - 1) / cells.size)
        freedoms.append(len(cells) - 1)
        rests.append((squares - of_seeds - of_images) / ((len(cells) - 1) * (num_images - 1)) / cells.size)
    differences_N = arms[0].mean(0) - arms[1].mean(0)
    parts.append(differences_N.var(ddof=1) / num_images)
    freedoms.append(num_images - 1)
    variance = sum(parts) - sum(rests)
    assert variance > max(parts[0] + parts[1], parts[2])  # so that no bound is at work
    freedom = variance**2 / sum(part**2 / one for part, one in zip(parts, freedoms, strict=True))
    expected = stats.t.interval(0.95, freedom, differences_N.mean(), math.sqrt(variance))
    assert new_images_interval(*arms) == pytest.approx(expected)


def test_where_nothing_varies_there_is_no_interval_for_new_images():
    same = np.tile(np.arange(10) % 3 == 0, (3, 1))
    assert all(math.isnan(end) for end in new_images_interval(same, same))


def test_intervals_for_new_images_are_wider_than_those_over_seeds_where_images_matter(tmp_path):
    generator = np.random.default_rng(0)
    easy_for_first, easy_for_second = np.zeros(400), np.zeros(400)
    easy_for_first[:200], easy_for_second[200:] = 4, 4  # each arm knows another half of the images
    first = correct(generator, easy_for_first - 2, 0.0, 5)
    second = correct(generator, easy_for_second - 2, 0.0, 5)
    low, high = new_images_interval(first, second)
    over_seeds = stats.ttest_ind(first.mean(1), second.mean(1), equal_var=False).confidence_interval()
    assert high - low > 3 * (over_seeds.high - over_seeds.low)
    assert (low + high) / 2 == pytest.approx(first.mean() - second.mean())


def test_the_folders_give_predictions_curves_and_environments(tmp_path):
    record = make_record(tmp_path, VALUES, views=0.01)
    evidence = load_evidence(record)
    assert evidence.num_images == NUM_IMAGES
    assert evidence.guessing == pytest.approx(0.25)
    assert evidence.remarks == ()
    for label, values in VALUES.items():
        np.testing.assert_allclose(evidence.correct_SN[label].mean(1), np.array(values) + 0.01)
        assert len(evidence.curves[label]) == 4
    found = find(record, evidence)
    for pair in found.pairs:
        assert pair.new_images is not None
        assert pair.new_images[0] <= pair.result.interval[0] < pair.result.interval[1] <= pair.new_images[1]
    for label, parts in found.variance.items():
        assert parts.seed_sd == pytest.approx(np.std(VALUES[label], ddof=1))


def test_missing_folders_and_other_images_are_told_not_fatal(tmp_path):
    record = make_record(tmp_path, VALUES)
    (record.trials[0].run / "predictions" / "val.safetensors").unlink()  # relu, seed 0
    other = record.trials[1].run  # gelu, seed 0
    text = (other / "environment.json").read_text()
    (other / "environment.json").write_text(text.replace("ab" * 32, "cd" * 32))
    evidence = load_evidence(record)
    assert set(evidence.correct_SN) == {"tanh"}
    assert any("cannot be read (made-up-relu-s0)" in remark for remark in evidence.remarks)
    assert any("same images" in remark for remark in evidence.remarks)
    assert len(find(record, evidence).pairs) == 3


def test_the_folder_of_another_study_is_no_evidence(tmp_path):
    """Another machine's trial is looked for by its name here, where an older study may have left a folder of it."""
    record = make_record(tmp_path, VALUES)
    run = Run(record.trials[0].run)  # relu, seed 0
    run.write_json("result.json", {**record.trials[0].figures, "val/accuracy": 0.3})
    evidence = load_evidence(record)
    assert set(evidence.correct_SN) == {"gelu", "tanh"}
    assert len(evidence.curves["relu"]) == 3
    assert any("cannot be read (made-up-relu-s0)" in remark for remark in evidence.remarks)


def test_trials_in_different_precisions_are_told_unless_it_is_what_is_compared(tmp_path):
    def remarks(overrides):
        record = make_record(tmp_path / overrides, {"bf16": [0.7, 0.71], "fp32": [0.72, 0.73]}, folders=False)
        arms = tuple(dataclasses.replace(arm, overrides={overrides: arm.label}) for arm in record.spec.arms)
        trials = tuple(dataclasses.replace(t, figures={**t.figures, "precision": t.arm}) for t in record.trials)
        spec = dataclasses.replace(record.spec, arms=arms)
        return " ".join(load_evidence(dataclasses.replace(record, spec=spec, trials=trials)).remarks)

    assert "same precision (2 in bf16 and 2 in fp32)" in remarks("model.convnet.activation")
    assert "precision" not in remarks("train.precision")


def test_part_of_an_epoch_is_no_whole_one(tmp_path):
    record = make_record(tmp_path, {"a": [0.7, 0.71], "b": [0.72, 0.73]}, folders=False)
    trials = tuple(dataclasses.replace(t, figures={**t.figures, "epochs": 1}) for t in record.trials)
    base = dataclasses.replace(record.spec.base, train=dataclasses.replace(record.spec.base.train, epochs=0.36))
    arms = (record.spec.arms[0], dataclasses.replace(record.spec.arms[1], overrides={"train.epochs": 1.0}))
    record = dataclasses.replace(record, trials=trials, spec=dataclasses.replace(record.spec, base=base, arms=arms))
    found = find(record, load_evidence(record))
    assert {arm.label: arm.epochs for arm in found.arms} == {"a": 0.36, "b": 1.0}
