"""The words of a study match its tests: what is said to beat is supported, what is not is said to be open."""

import math
import re

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestIndPower
from tests.experiments.synthetic import make_record

from cifarlab.experiments.budgets import equal_budgets
from cifarlab.experiments.caveats import _families
from cifarlab.experiments.evidence import Evidence, load_evidence
from cifarlab.experiments.findings import find
from cifarlab.experiments.wording import tell

HIGH = [0.740, 0.744, 0.742, 0.741, 0.743]
SAME = [0.741, 0.743, 0.740, 0.744, 0.739]
LOW = [0.600, 0.604, 0.602, 0.601, 0.603]


def told(values, tmp_path, folders=False, **options):
    """Return the sentences of a study by kind; the answer as a string."""
    record = make_record(tmp_path, values, folders=folders, **options)
    sentences = tell(find(record, load_evidence(record) if folders else Evidence()))
    assert [sentence.kind for sentence in sentences].count("answer") == 1
    assert sentences[0].kind == "answer"
    by_kind = {kind: [s.text for s in sentences if s.kind == kind] for kind in ("finding", "open", "warning")}
    return sentences[0].text, by_kind


def everything(answer, kinds):
    return " ".join([answer, *(text for texts in kinds.values() for text in texts)])


def test_a_clear_winner_is_named_with_differences_and_intervals(tmp_path):
    answer, _ = told({"tanh": LOW, "gelu": HIGH}, tmp_path)
    ends = stats.ttest_ind(HIGH, LOW, equal_var=False).confidence_interval()
    assert ends.high - ends.low < 0.006  # so narrow that two decimals are worth writing
    assert answer == f"gelu is best and beats tanh by 14.00 points [{100 * ends.low:.2f}, {100 * ends.high:.2f}]."


def test_a_leading_group_is_named_with_what_it_would_take(tmp_path):
    answer, kinds = told({"relu": SAME, "gelu": HIGH, "tanh": LOW}, tmp_path)
    assert answer.startswith("gelu and relu lead and cannot be told apart with 5 seeds; gelu beats tanh by 14.0")
    low, high = stats.ttest_ind(HIGH, SAME, equal_var=False).confidence_interval()
    assert any(f"better than the other by up to {100 * high:.2f} points" in text for text in kinds["open"])
    assert any(f"worse by up to {-100 * low:.2f} points" in text for text in kinds["open"])
    sd = math.sqrt((np.var(HIGH, ddof=1) + np.var(SAME, ddof=1)) / 2)
    needed = [math.ceil(TTestIndPower().solve_power(step / sd, power=0.8, alpha=0.05)) for step in (0.001, 0.002)]
    seeds = next(text for text in kinds["open"] if text.startswith("Seeds differ by"))
    assert f"0.1 point between two arms, comparing them alone and in four studies of five, {needed[0]} seeds" in seeds
    assert f"; {needed[1]} for 0.2 point" in seeds


def test_two_equal_arms_cannot_be_told_apart_and_none_is_said_to_win(tmp_path):
    answer, kinds = told({"relu": SAME, "gelu": HIGH}, tmp_path)
    assert answer.startswith("gelu and relu cannot be told apart with 5 seeds: the difference is 0.06 points [")
    assert "beats" not in everything(answer, kinds)
    answer, kinds = told({"relu": HIGH, "gelu": HIGH}, tmp_path)  # a tie to the last digit
    assert "difference is 0.00 points" in answer
    assert "beats" not in everything(answer, kinds)


def test_many_equal_arms_give_the_largest_difference(tmp_path):
    answer, kinds = told({"a": SAME, "b": HIGH, "c": sorted(SAME)}, tmp_path)
    assert answer.startswith("With 5 seeds no difference between the 3 arms is shown; the largest, b over ")
    assert "beats" not in everything(answer, kinds)


def test_one_seed_says_nothing_about_differences(tmp_path):
    answer, kinds = told({"relu": [0.7], "gelu": [0.9]}, tmp_path)
    assert answer.startswith("One seed: nothing can be said about differences.")
    assert "beats" not in everything(answer, kinds)
    assert kinds["open"] == []
    answer, _ = told({"relu": [0.7, 0.71], "gelu": [0.9]}, tmp_path)
    assert answer.startswith("Only relu has two seeds or more: nothing can be said about differences.")


def test_a_mean_of_seeds_is_no_single_draw(tmp_path):
    answer, _ = told({"a": [0.5, 0.52], "b": [0.4]}, tmp_path)
    assert answer == (
        "Only a has two seeds or more: nothing can be said about differences. The highest figure is a's, 51.00 %, but "
        "the others are single draws, and the order of the arms may be luck."
    )
    answer, _ = told({"a": [0.5, 0.52], "b": []}, tmp_path)
    assert answer.endswith(
        "nothing can be said about differences. Its mean is 51.00 %; of the other arms none has a result."
    )


def test_a_hint_is_called_a_hint(tmp_path):
    values = {
        "a": [0.740, 0.744, 0.742],
        "b": [0.7375, 0.7395, 0.7365],
        **{f"c{i}": [0.736 + d, 0.740 + d, 0.7385 + d] for i, d in enumerate((0.0, 0.0005, 0.001))},
    }
    assert stats.ttest_ind(values["a"], values["b"], equal_var=False).pvalue < 0.05
    answer, kinds = told(values, tmp_path)
    assert "no difference" in answer
    (hint,) = [text for text in kinds["open"] if text.startswith("A hint")]
    assert "a over b (p = 0.0" in hint
    # adding seeds until the test agrees would find a difference between equal arms, too
    assert "second look" in hint
    assert "fresh ones on their own" in hint
    assert "more seeds could settle" not in hint


@pytest.mark.parametrize("seed", range(6))
def test_every_claim_in_the_text_is_supported(seed, tmp_path):
    generator = np.random.default_rng(seed)
    means = generator.normal(0.7, 0.006, 6)
    values = {name: generator.normal(mean, 0.004, 5).tolist() for name, mean in zip("ABCDEF", means, strict=True)}
    record = make_record(tmp_path, values, folders=False)
    found = find(record, Evidence())
    supported = {(pair.first, pair.second) for pair in found.pairs if pair.supported}
    text = tell(found)[0].text
    claims = set()
    for winner, rest in re.findall(r"([A-F])(?: is best of 6: it)? beats (.*?)(?:\.$|;)", text):
        claims |= {(winner, loser) for loser in re.findall(r"([A-F]) by \d", rest)}
    assert claims <= supported
    assert bool(claims) == bool(supported)
    if match := re.match(r"(.*) lead and cannot be told apart", text):
        leaders = re.findall(r"[A-F]", match[1])
        assert not any((a, b) in supported for a in leaders for b in leaders)
        assert all((a, b) in supported for a in leaders for b in set("ABCDEF") - set(leaders))


def test_an_arm_leads_only_if_it_beats_all_that_do_not(tmp_path):
    """The second cannot be told apart from the best, nor from the third, which the best beats."""
    steps = [-0.004, -0.002, 0.0, 0.002, 0.004]
    means = {"first": 0.750, "second": 0.7465, "third": 0.7425}
    answer, _ = told({name: [mean + step for step in steps] for name, mean in means.items()}, tmp_path)
    assert re.fullmatch(
        r"first beats third by 0\.7 points \[.*\]; second cannot be told apart from it with 5 seeds\.", answer
    )


def test_failed_missing_and_single_trials_are_told(tmp_path):
    values = {"relu": HIGH, "gelu": [*LOW[:3], None, None], "elu": [0.7, None], "silu": []}
    answer, kinds = told(values, tmp_path)
    text = " ".join(kinds["warning"])
    assert "3 trials failed (1 of elu and 2 of gelu)" in text
    assert "9 of 20 trials are finished (8 not begun)" in text
    assert "No trial of silu is finished" in text
    assert "elu has one finished seed" in text
    assert answer.startswith("relu is best of the 2 compared and beats gelu")
    answer, _ = told({"relu": HIGH, "gelu": LOW, "silu": [0.9]}, tmp_path)
    assert "relu is best and" not in answer, "silu may be better"


def test_no_finished_trial_and_failed_ones_only(tmp_path):
    answer, kinds = told({"relu": [None], "gelu": [None]}, tmp_path)
    assert answer == "No trial is finished, so nothing can be said."
    assert any("2 trials failed" in text for text in kinds["warning"])


def test_compute_is_told_equal_or_by_how_much_it_differs(tmp_path):
    _, kinds = told({"small": LOW, "large": HIGH}, tmp_path, pflop={"small": 0.01, "large": 0.24})
    assert any("large took 24 times the compute of small (0.24 against 0.01 PFLOP" in t for t in kinds["warning"])
    _, kinds = told({"small": LOW, "large": HIGH}, tmp_path, pflop={"small": 0.01, "large": 0.0101})
    assert any(text.startswith("All arms cost the same compute") for text in kinds["finding"])
    assert not any("did not cost the same" in text for text in kinds["warning"])


@pytest.mark.parametrize(("seeds", "enough"), [(3, False), (5, True)])
def test_the_exact_test_is_told_once(seeds, enough, tmp_path):
    answer, kinds = told({"relu": LOW[:seeds], "gelu": HIGH[:seeds]}, tmp_path)
    exact = [text for text in [*kinds["finding"], *kinds["warning"]] if "exact permutation test" in text]
    assert len(exact) == 1
    if enough:  # 2 of 252 arrangements
        assert "confirms this" in exact[0]
    else:  # 2 of 20; 2 of 70 would do
        assert "cannot confirm this with so few seeds: the smallest p it can give is 0.10; with 4 seeds" in exact[0]
    assert "exact" not in answer


def test_a_permutation_test_that_draws_is_not_called_exact(tmp_path):
    """10 seeds an arm are 184,756 arrangements, of which 20,000 are drawn."""
    _, kinds = told({"relu": LOW + [v + 1e-4 for v in LOW], "gelu": HIGH + [v + 1e-4 for v in HIGH]}, tmp_path)
    (text,) = [text for text in kinds["finding"] if "permutation test" in text]
    assert text.startswith("The permutation test, which assumes no shape of the distribution")
    assert "exact" not in text


def test_the_interaction_test_shares_the_correction_of_the_fields(tmp_path):
    """Two factors of two values: two pairs and the interaction, doubled for the arms; six times the smallest p."""
    cells = {label: 0.70 + 0.02 * number for number, label in enumerate(GRID)}
    values = {label: [mean, mean + 0.001, mean + 0.002] for label, mean in cells.items()}
    _, kinds = told(values, tmp_path, overrides=GRID)
    (text,) = [text for text in kinds["warning"] if "permutation test" in text]
    # the arms' family has six pairs: twelve times 2 / C(6, 3)
    assert "the smallest p it can give is 0.10, 1.00 after correction; with 6 seeds an arm it could" in text
    pairs = find(make_record(tmp_path, values, overrides=GRID, folders=False), Evidence())
    assert [tests for _, tests in _families(pairs)] == [6, 3]
    alone = find(
        make_record(tmp_path, {k: v[:1] for k, v in values.items()}, overrides=GRID, folders=False), Evidence()
    )
    assert [tests for _, tests in _families(alone)] == [0, 0]


def test_the_exact_test_is_not_mentioned_where_nothing_is_claimed(tmp_path):
    answer, kinds = told({"relu": SAME[:3], "gelu": HIGH[:3]}, tmp_path)
    assert "exact" not in everything(answer, kinds)


def test_arms_without_spread_and_arms_that_guess_are_told(tmp_path):
    _, kinds = told({"relu": [0.7] * 5, "gelu": HIGH}, tmp_path)
    assert any("All seeds of relu reached the same accuracy (no spread seen" in text for text in kinds["warning"])
    _, kinds = told({"sigmoid": [0.25] * 3, "gelu": HIGH[:3]}, tmp_path, folders=True)
    assert any("No seed of sigmoid did clearly better than" in t and "25.00 %" in t for t in kinds["warning"])
    assert not any("All seeds of" in text for text in kinds["warning"])


def test_arms_that_never_vary_have_no_interval_but_are_not_said_to_be_certain(tmp_path):
    answer, kinds = told({"relu": [0.70] * 5, "gelu": [0.72] * 5}, tmp_path)
    assert answer == "gelu is best and beats relu by 2.00 points."  # 2 of 252 arrangements
    assert "[" not in everything(answer, kinds)
    answer, kinds = told({"relu": [0.70] * 3, "gelu": [0.72] * 3, "tanh": SAME[:3]}, tmp_path)
    assert "nan" not in everything(answer, kinds)
    answer, kinds = told({"fast70": [0.7] * 4}, tmp_path, overrides={"fast70": {}})
    assert answer.startswith("All 4 seeds of fast70 reached 70.00 %: no spread seen, so nothing can be said")
    assert kinds["finding"] == []


def test_intervals_of_means_stay_shares(tmp_path):
    _, kinds = told({"perfect": [0.99, 1.0]}, tmp_path, overrides={"perfect": {}})
    assert any("The mean over seeds lies in [93.15, 100.00] %" in text for text in kinds["finding"])


@pytest.mark.parametrize(("seeds", "enough"), [(4, False), (5, True)])
def test_the_spread_beyond_these_images_is_told_from_five_seeds_on(seeds, enough, tmp_path):
    _, kinds = told({"relu": HIGH[:seeds]}, tmp_path, folders=True, overrides={"relu": {}})
    assert any("endlessly many images" in text for text in kinds["finding"]) == enough


def test_an_unsteady_arm_is_told(tmp_path):
    _, kinds = told({"a": HIGH, "b": LOW, "wild": [0.3, 0.7, 0.5, 0.6, 0.4]}, tmp_path)
    assert any("wild is unsteady: its seeds range from 30.00 % to 70.00 %" in text for text in kinds["warning"])
    unlucky = {"a": [0.700, 0.702], "b": [0.711, 0.712], "c": [0.720, 0.730]}  # as two draws of one spread may be
    _, kinds = told(unlucky, tmp_path)
    assert "unsteady" not in everything("", kinds)


def test_a_single_configuration_tells_what_to_expect_of_one_run(tmp_path):
    values = np.random.default_rng(0).normal(0.69, 0.004, 20).round(3).tolist()
    answer, kinds = told({"fast70": values}, tmp_path, folders=True, overrides={"fast70": {}})
    half = stats.t.ppf(0.975, 19) * np.std(values, ddof=1) * math.sqrt(1 + 1 / 20)
    low, high = 100 * (np.mean(values) - half), 100 * (np.mean(values) + half)
    assert f"from {low:.2f} to {high:.2f} % (95 % of single runs; 20 seeds" in answer
    text = " ".join(kinds["finding"])
    for what in ("0.1 point", "0.2 point", "0.5 point", "two such configurations", "Two kinds of chance"):
        assert what in text
    two = stats.t.ppf(0.975, 19) * np.std(values, ddof=1) * math.sqrt(2)
    assert f"differ by up to {100 * two:.2f} points in 95 % of cases" in text


def test_a_single_run_of_a_single_configuration_claims_nothing(tmp_path):
    answer, kinds = told({"fast70": [0.69]}, tmp_path, overrides={"fast70": {}})
    assert answer == "One seed of fast70 reached 69.00 %; nothing can be said about the spread of its runs."
    assert kinds["finding"] == kinds["open"] == []


GRID = {
    f"{a}, {b}": {"model.convnet.activation": a, "augment.flip": b}
    for a in ("relu", "gelu")
    for b in ("none", "random")
}


def grid_values(cells):
    generator = np.random.default_rng(2)
    return {label: generator.normal(mean, 0.002, 4).tolist() for label, mean in zip(GRID, cells, strict=True)}


def test_a_grid_is_answered_field_by_field_where_nothing_interacts(tmp_path):
    answer, kinds = told(grid_values([0.70, 0.72, 0.74, 0.76]), tmp_path, overrides=GRID)
    assert answer.startswith("activation, averaged over flip: gelu beats relu by ")
    assert kinds["finding"][0].startswith("flip, averaged over activation: random beats none by ")
    assert kinds["finding"][1].startswith("The arms one by one: gelu, random is best of 4")
    assert "remains open" in kinds["finding"][2]


def test_a_grid_whose_fields_depend_on_each_other_is_answered_arm_by_arm(tmp_path):
    answer, kinds = told(grid_values([0.70, 0.74, 0.74, 0.70]), tmp_path, overrides=GRID)
    assert "lead and cannot be told apart" in answer
    assert any("depend on each other (p" in text and "no single combination" in text for text in kinds["finding"])


def test_images_can_decide_what_seeds_do_not(tmp_path):
    """Seeds agree to a hair, so the difference is shown on these images; on a thousand others it could vanish."""
    values = {"a": [0.741, 0.742, 0.741, 0.742], "b": [0.736, 0.737, 0.736, 0.737]}
    _, kinds = told(values, tmp_path, folders=True, noise=3.0)
    assert any("for these 1,000 images of val only" in text for text in kinds["finding"])
    _, kinds = told({"a": HIGH, "b": LOW}, tmp_path / "clear", folders=True)
    assert any("still leaves zero out" in text for text in kinds["finding"])


def test_other_images_count_for_every_claim_that_is_told(tmp_path):
    """Those of a budget too, whose best is not the best of all, and those of arms that are not the best."""
    weak = {"b": [0.741, 0.742, 0.741, 0.742], "c": [0.736, 0.737, 0.736, 0.737]}
    values = {**weak, "d": [0.60, 0.601, 0.60, 0.601], "long": [0.95, 0.951, 0.95, 0.951]}
    cost = {"pflop": {"long": 0.1}, "overrides": {label: {"train.epochs": 4 + (label == "long")} for label in values}}
    answer, kinds = told(values, tmp_path, folders=True, noise=3.0, epochs=5, **cost)
    assert "b is best of 3 and beats c by" in answer
    text = " ".join(kinds["finding"])
    assert "The difference between b and c is shown for these 1,000 images of val only" in text
    assert "zero out" not in text
    unsure = {"a": [0.7, 0.8, 0.72, 0.79], **weak}
    answer, kinds = told(unsure, tmp_path / "unsure", folders=True, noise=3.0)
    assert "Shown: b beats c" in answer
    assert any("between b and c is shown for these 1,000 images" in text for text in kinds["finding"])


def test_images_are_not_said_to_be_counted_where_predictions_are_missing(tmp_path):
    record = make_record(tmp_path, {"a": HIGH, "b": LOW, "c": [v - 0.1 for v in LOW]})
    (record.trials[2].run / "predictions" / "val.safetensors").unlink()  # of c
    texts = [sentence.text for sentence in tell(find(record, load_evidence(record)))]
    assert texts[0].startswith("a is best of 3 and beats b")
    assert not any("zero out" in text for text in texts)


UNEVEN = {
    "small, 2 epochs": LOW,
    "middle, 2 epochs": SAME,
    "large, 2 epochs": HIGH,
    "small, long": [0.9, 0.904, 0.902, 0.901, 0.903],
}


def test_a_study_of_uneven_cost_is_answered_budget_by_budget(tmp_path):
    pflop = {"small, 2 epochs": 0.01, "middle, 2 epochs": 0.09, "large, 2 epochs": 0.1, "small, long": 0.1}
    overrides = {label: {"train.epochs": 4 if label == "small, long" else 2} for label in UNEVEN}
    answer, kinds = told(UNEVEN, tmp_path, pflop=pflop, overrides=overrides)
    by_epochs, by_compute = answer.split(" With about the same compute ")
    assert by_epochs.startswith("With 2 epochs each: large, 2 epochs and middle, 2 epochs lead")
    assert "long" not in by_epochs
    assert by_compute.startswith("(0.09 to 0.1 PFLOP a run): small, long is best of 3 and beats large, 2 epochs by")
    assert any(
        text.startswith("All arms together, whatever they cost: small, long is best of 4") for text in kinds["finding"]
    )


@pytest.mark.parametrize(
    ("pflop", "epochs"),
    [
        ([0.010, 0.011, 0.012, 0.0119], [2, 2, 2, 4]),  # they cost the same
        ([0.01, 0.02, 0.04, 0.08], [2, 2, 2, 2]),  # no three of one budget but all
        ([0.01, 0.02, 0.04, 0.08], [2, 2, 3, 3]),  # two arms make no budget
        ([0.01, 0.0, 0.04, 0.08], [2, 2, 2, 4]),  # a cost is not known
    ],
)
def test_without_several_arms_of_one_budget_there_is_one_answer(pflop, epochs, tmp_path):
    costs = dict(zip(UNEVEN, pflop, strict=True))
    overrides = {label: {"train.epochs": number} for label, number in zip(UNEVEN, epochs, strict=True)}
    overrides["small, long"]["model.convnet.activation"] = "tanh"  # no grid
    answer, _ = told(UNEVEN, tmp_path, pflop=costs, overrides=overrides)
    assert answer.startswith("small, long is best of 4 and beats")


def test_budgets_are_corrected_for_all_pairs_of_the_study(tmp_path):
    pflop = {"small, 2 epochs": 0.01, "middle, 2 epochs": 0.09, "large, 2 epochs": 0.1, "small, long": 0.1}
    record = make_record(tmp_path, UNEVEN, pflop=pflop, folders=False)
    findings = find(record, Evidence())
    (budget,) = equal_budgets(findings)
    assert {arm.label for arm in budget.findings.arms} == set(UNEVEN) - {"small, 2 epochs"}
    assert set(budget.findings.pairs) < set(findings.pairs)
    assert len(budget.findings.pairs) == 3
