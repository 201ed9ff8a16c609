"""Comparison: what stored answers of several models to the same images say about which is better, in figures and words.

Pure functions of arrays. Models with one training each are compared image by image, recipes with several seeds over
their seeds; nothing is called better that no test shows to be better.
"""

from cifarlab.comparison.judge import compare_answers
from cifarlab.comparison.results import (
    Agreement,
    Candidate,
    ClassDifference,
    Comparison,
    ModelFigures,
    ModelPair,
    RecipeAgreement,
    RecipeFigures,
    RecipePair,
    Side,
)

__all__ = [
    "Agreement",
    "Candidate",
    "ClassDifference",
    "Comparison",
    "ModelFigures",
    "ModelPair",
    "RecipeAgreement",
    "RecipeFigures",
    "RecipePair",
    "Side",
    "compare_answers",
]
