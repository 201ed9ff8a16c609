"""Differences: what the answers of two models, or the figures of two recipes, say about which is better.

Two networks on the same images are compared image by image (:func:`compare_paired`); that says nothing of the recipes
they came from. Two recipes are compared over seeds (:func:`compare_seeds`). Many comparisons are corrected by
:func:`holm`, and a ranking is given as :func:`groups`. Overlap of two intervals is never used as a test.

Accuracies and differences are fractions, not points. All are pure functions of numbers and arrays.
"""

from cifarlab.differences.paired import (
    PairedDifference,
    compare_paired,
    detectable_paired_difference,
    smallest_significant_difference,
)
from cifarlab.differences.planning import detectable_difference, seeds_needed
from cifarlab.differences.seeds import (
    SeedDifference,
    compare_seeds,
    groups,
    holm,
    letter_groups,
    letters_of,
    superiority_interval,
)
from cifarlab.differences.variance import VarianceParts, new_images_interval, variance_parts

__all__ = [
    "PairedDifference",
    "SeedDifference",
    "VarianceParts",
    "compare_paired",
    "compare_seeds",
    "detectable_difference",
    "detectable_paired_difference",
    "groups",
    "holm",
    "letter_groups",
    "letters_of",
    "new_images_interval",
    "seeds_needed",
    "smallest_significant_difference",
    "superiority_interval",
    "variance_parts",
]
