import math

import pytest
from scipy.stats import binom

from cifarlab.decision import STATE_OF_THE_ART, VENDOR, judge_against_claim, recommend

ORDER = {"worse": 0, "undecided": 1, "better": 2}
ANSWERS = {"buy": 0, "measure first": 1, "build": 2}


@pytest.mark.parametrize("total", [20, 300, 10_000])
def test_a_higher_accuracy_never_makes_the_verdict_or_the_answer_worse(total):
    for diagnosis in ("unknown", "underfits", "neither", "overfits"):
        verdicts = [judge_against_claim(k, total, 0.7) for k in range(0, total + 1, max(1, total // 60))]
        ranks = [ORDER[verdict.outcome] for verdict in verdicts]
        answers = [ANSWERS[recommend(verdict, diagnosis).answer] for verdict in verdicts]
        assert ranks == sorted(ranks)
        assert answers == sorted(answers)
        assert ranks[0] == 0
        assert ranks[-1] == 2


def test_the_verdict_is_undecided_exactly_where_the_interval_holds_the_claim():
    for correct in range(0, 1001, 5):
        verdict = judge_against_claim(correct, 1000, 0.7)
        low, high = verdict.interval
        assert (verdict.outcome == "undecided") == (low <= 0.7 <= high)
        assert verdict.difference_points == pytest.approx(100 * (correct / 1000 - 0.7))


def test_known_intervals():
    # Wilson intervals of published tables: 9500 of 10,000 and 70 of 100
    assert judge_against_claim(9500, 10_000, 0.7).interval == pytest.approx((0.94555, 0.95410), abs=1e-5)
    assert judge_against_claim(70, 100, 0.7).interval == pytest.approx((0.604, 0.781), abs=1e-3)


@pytest.mark.parametrize(("correct", "total", "claim"), [(710, 1000, 0.7), (30, 40, 0.6), (3, 10, 0.5), (0, 10, 0.5)])
def test_the_p_value_is_the_upper_tail_of_the_binomial(correct, total, claim):
    tail = sum(math.comb(total, k) * claim**k * (1 - claim) ** (total - k) for k in range(correct, total + 1))
    assert judge_against_claim(correct, total, claim).p_value == pytest.approx(tail, rel=1e-9)
    assert judge_against_claim(correct, total, claim).p_value == pytest.approx(binom.sf(correct - 1, total, claim))


def wilson(p, n, z=1.959963984540054):
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return middle - half, middle + half


@pytest.mark.parametrize(("correct", "total"), [(9000, 10_000), (7400, 10_000), (600, 1000), (95, 100), (7200, 10_000)])
def test_the_smallest_number_of_images_of_the_claim_by_brute_force(correct, total):
    ours = correct / total
    low, high = wilson(ours, total)

    def apart(n):
        claim_low, claim_high = wilson(0.7, n)
        if ours > 0.7:
            return ours - 0.7 > math.hypot(ours - low, claim_high - 0.7)
        return 0.7 - ours > math.hypot(high - ours, 0.7 - claim_low)

    expected = next(n for n in range(1, 10_000) if apart(n))
    assert judge_against_claim(correct, total, 0.7).claim_images == expected


def test_no_number_of_images_helps_an_undecided_comparison():
    assert judge_against_claim(7010, 10_000, 0.7).claim_images is None


@pytest.mark.parametrize(("correct", "total", "claim"), [(1, 0, 0.7), (11, 10, 0.7), (-1, 10, 0.7), (5, 10, 1.0)])
def test_numbers_that_are_no_accuracies_are_refused(correct, total, claim):
    with pytest.raises(ValueError):  # noqa: PT011 one type, several messages
        judge_against_claim(correct, total, claim)


def test_a_model_below_the_claim_leads_to_a_purchase_only_if_it_was_trained_out():
    verdict = judge_against_claim(5000, 10_000, VENDOR.accuracy)
    for diagnosis in ("unknown", "underfits"):
        assert recommend(verdict, diagnosis).answer == "measure first"
    for diagnosis in ("neither", "overfits"):
        assert recommend(verdict, diagnosis).answer == "buy"


def test_every_recommendation_asks_for_our_own_images_and_names_what_would_overturn_it():
    for correct in (5000, 7000, 9000, 9990):
        for diagnosis in ("unknown", "underfits", "neither", "overfits"):
            advice = recommend(judge_against_claim(correct, 10_000, VENDOR.accuracy), diagnosis)
            assert any("our own labelled camera images" in condition for condition in advice.conditions)
            assert advice.reasons
            assert advice.would_change_it


def test_room_to_grow_is_claimed_only_below_the_state_of_the_art():
    def speaks_of_room(correct):
        return any("room to grow" in reason for reason in recommend(judge_against_claim(correct, 10_000, 0.7)).reasons)

    assert speaks_of_room(9000)
    assert not speaks_of_room(int(10_000 * STATE_OF_THE_ART.accuracy) + 50)
