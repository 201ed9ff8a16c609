"""The cheapest next test: how many own images to show to the vendor and to us."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cifarlab.decision.findings import NextTest
from cifarlab.decision.given import OptionKey
from cifarlab.decision.options import Numbers
from cifarlab.decision.wording import about, money

FEWEST_IMAGES = 200  # below it the accuracy of each alone is known to some ten points only
MOST_IMAGES = 20_000
TEST_DAYS = 3.0  # of one engineer: choose and label the images, ask both models, count
_ALPHA = 0.05
_POWER = 0.8
_SMALLEST_DIFFERENCE = 0.02


def images_needed(difference: float, discordant: float, power: float = _POWER, alpha: float = _ALPHA) -> int | None:
    """Return how many images show a true difference in accuracy with the given probability (exact McNemar test).

    Unlike :func:`differences.detectable_paired_difference` the number of images that only one model has right is not
    given, but binomial.

    Args:
        difference: True difference in accuracy, above 0.
        discordant: Share of images that exactly one of the two models has right; at least the difference.
        power: Wanted probability of p <= alpha.
        alpha: Level of the test, two-sided.

    Returns:
        Images; None where 20,000 are not enough.
    """
    if not 0 < difference <= discordant <= 1:
        raise ValueError(f"a difference of {difference} cannot come from a share of {discordant} discordant images")
    enough = 1
    while mcnemar_power(enough, difference, discordant, alpha) < power:
        enough *= 2
        if enough > MOST_IMAGES:
            return None
    too_few = enough // 2
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        if mcnemar_power(middle, difference, discordant, alpha) < power:
            too_few = middle
        else:
            enough = middle
    return enough


def mcnemar_power(num_images: int, difference: float, discordant: float, alpha: float = _ALPHA) -> float:
    """Return the probability that the exact McNemar test finds a true difference on so many images.

    Args:
        num_images: N.
        difference: True difference in accuracy.
        discordant: Share of images that exactly one of the two models has right.
        alpha: Level of the test, two-sided.
    """
    from scipy.stats import binom

    share = (discordant + difference) / (2 * discordant)  # of the discordant images, those the better model has right
    counts = np.arange(num_images + 1)
    fewer = _most_fewer(2 ** num_images.bit_length(), alpha)[: num_images + 1]
    found = binom.cdf(fewer, counts, share) + binom.sf(counts - fewer - 1, counts, share)
    found = np.where(fewer < 0, 0.0, found)
    return float((binom.pmf(counts, num_images, discordant) * found).sum())


@lru_cache(maxsize=32)
def _most_fewer(size: int, alpha: float) -> NDArray[np.float64]:
    """Return for 0 to size - 1 discordant images the most that the worse model may have right; -1 where none will do.

    It hangs on neither difference nor power, so that the search for a number of images finds it once.
    """
    from scipy.stats import binom

    counts = np.arange(size)
    fewer = binom.ppf(alpha / 2, counts, 0.5)  # first count whose tail reaches alpha / 2
    most: NDArray[np.float64] = np.where(2 * binom.cdf(fewer, counts, 0.5) <= alpha, fewer, fewer - 1)
    return most


def plan_test(
    derived: Mapping[str, Numbers], currency: str, vendor: str, leaning: OptionKey | None, *, done: int = 0
) -> NextTest:
    """Return the test on own images that would tell most for the least money.

    The difference to be found is half of what is expected between our model and the vendor's on images of the use, for
    a difference on CIFAR-10 may shrink there; their mistakes are taken as independent, which asks for more images than
    mistakes in common would.

    Args:
        derived: Amounts at base and what follows from them.
        currency: Of the cost.
        vendor: Its name.
        leaning: The option that would be chosen today.
        done: Own images that both models were compared on already.
    """
    ours, theirs = float(derived["accuracy.build"]), float(derived["accuracy.buy"])
    discordant = ours * (1 - theirs) + theirs * (1 - ours)
    difference = min(max(abs(ours - theirs) / 2, _SMALLEST_DIFFERENCE), discordant)
    needed = images_needed(difference, discordant) if difference > 0 else None
    images = MOST_IMAGES if needed is None else max(FEWEST_IMAGES, needed)
    per_image = float(derived["labels.price_per_label"]) + float(derived["vendor.price_per_1000_images"]) / 1000
    cost = images * per_image + TEST_DAYS * float(derived["people.day_cost"])
    reason = (
        f"{needed:,} would do to find a difference of {100 * difference:.1f} points four times in five"
        if needed is not None
        else f"even {MOST_IMAGES:,} do not find a difference of {100 * difference:.1f} points four times in five"
    )
    few = f"; with fewer than {FEWEST_IMAGES} neither accuracy would be known well"
    fewest = few if images == FEWEST_IMAGES else ""
    against = "our model" if leaning in ("buy", "adapt") else f"{vendor}'s"
    what = f"Show {images:,} of our own labelled images to {vendor}'s service and to our model, and count."
    repeated = ""
    if done:
        what = f"Show {images:,} newly gathered images of ours, labelled, to {vendor}'s service and to our model again."
        repeated = f"Both were compared on {done:,} own images; since then pictures or models may have changed. "
    sentence = (
        f"{repeated}{reason[0].upper()}{reason[1:]} (exact McNemar test, 5 %){fewest}. If {against} proves better "
        "there, the answer has to be found again. "
        f"Cost: about {money(cost, currency, 2)}, with {about(TEST_DAYS)} days of work."
    )
    return NextTest(
        what=what,
        num_images=images,
        difference_points=100 * difference,
        cost=cost,
        days=TEST_DAYS,
        sentence=sentence,
    )
