"""What a comparison holds. Accuracies and differences are fractions. Shape suffix: N images."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cifarlab.differences import PairedDifference, SeedDifference, VarianceParts, letters_of


@dataclass(frozen=True)
class Candidate:
    """The answers of one model.

    Attributes:
        name: How it is called; no two candidates share a name.
        recipe: What it is one training of; candidates of one recipe are seeds of it.
        seed: Training seed; None where it is not known.
        predicted_N: int64, the class given to every image.
    """

    name: str
    recipe: str
    seed: int | None
    predicted_N: NDArray[np.int64]


@dataclass(frozen=True)
class ModelFigures:
    """One model.

    Attributes:
        name, recipe, seed: Of the candidate.
        correct: How many images it has right.
        accuracy: Their share.
        interval: Wilson's 95 % interval of that.
        chance: The accuracy to expect if its answers were dealt out to the images at random.
    """

    name: str
    recipe: str
    seed: int | None
    correct: int
    accuracy: float
    interval: tuple[float, float]
    chance: float


@dataclass(frozen=True)
class Agreement:
    """How far two models answer alike; shares of all images unless stated.

    Attributes:
        same_answer: Both give the same class, right or wrong.
        both_right: Both are right.
        both_wrong: Both are wrong.
        common_errors: Of the images that at least one has wrong, the share that both have wrong; NaN without errors.
        same_error: Of the images that both have wrong, the share with the same wrong class; NaN where there is none.
    """

    same_answer: float
    both_right: float
    both_wrong: float
    common_errors: float
    same_error: float


@dataclass(frozen=True)
class ModelPair:
    """Two models on the same images; a is the one with more images right.

    Attributes:
        a, b: Names.
        paired: Counts, difference a - b with interval, McNemar's p-values.
        p_adjusted: The exact p-value after Holm's correction for all pairs of models compared here.
        apart: Whether they are told apart: p_adjusted below 0.05.
        smallest_significant: The smallest difference that could have been significant with so many images on which
            just one is right; NaN where none could.
        detectable: The difference that would be found four times in five; NaN likewise.
        agreement: How far they answer alike.
    """

    a: str
    b: str
    paired: PairedDifference
    p_adjusted: float
    apart: bool
    smallest_significant: float
    detectable: float
    agreement: Agreement


@dataclass(frozen=True)
class RecipeAgreement:
    """How far the trainings of two recipes answer alike, or those of one among themselves.

    Attributes:
        a, b: Names of the recipes; the same for a recipe's own seeds.
        num_pairs: Of two recipes, every training of a with every one of b; of one, every two of its seeds.
        mean, lowest, highest: Of each share over these pairs; a pair in which a share is NaN does not count for it.
    """

    a: str
    b: str
    num_pairs: int
    mean: Agreement
    lowest: Agreement
    highest: Agreement


@dataclass(frozen=True)
class RecipeFigures:
    """One recipe over its seeds.

    Attributes:
        name: Recipe, or model where it has but one training.
        members: Names of the models, one a seed.
        mean, sd: Of accuracy; sd is NaN with one seed.
        interval: Student's 95 % interval of the mean over seeds, on these images, within [0, 1]; NaN with one seed or
            without any spread.
        variance: Where the variance comes from.
    """

    name: str
    members: tuple[str, ...]
    mean: float
    sd: float
    interval: tuple[float, float]
    variance: VarianceParts


@dataclass(frozen=True)
class RecipePair:
    """Two recipes with several seeds each; a is the one with the higher mean.

    Attributes:
        a, b: Names.
        seeds: Difference a - b with interval, tests and effect sizes.
        p_adjusted: Welch's p-value, or the permutation test's where no seed differs from another of its recipe, after
            Holm's correction for all pairs of recipes compared here.
        apart: Whether they are told apart: p_adjusted below 0.05.
        new_images: 95 % interval of the difference for other images of the same kind as well as other seeds; NaN
            where neither seeds nor images show any spread.
        detectable: The true difference that so many seeds find four times in five; NaN without any spread.
        seeds_needed: Seeds of each with which a true difference as large as the observed one would be found four times
            in five; None where there is no difference or no spread.
    """

    a: str
    b: str
    seeds: SeedDifference
    p_adjusted: float
    apart: bool
    new_images: tuple[float, float]
    detectable: float
    seeds_needed: int | None


@dataclass(frozen=True)
class ClassDifference:
    """Two models, or two recipes, on the images of one class.

    Attributes:
        name: The class.
        support: Its number of images.
        accuracy_a, accuracy_b: Share of them that is right; the mean over seeds for recipes.
        difference: a - b.
        interval: 95 %, paired bootstrap for models, Welch for recipes.
        p: Exact McNemar for models, Welch for recipes.
        p_adjusted: After Holm's correction for the classes.
        apart: p_adjusted below 0.05.
    """

    name: str
    support: int
    accuracy_a: float
    accuracy_b: float
    difference: float
    interval: tuple[float, float]
    p: float
    p_adjusted: float
    apart: bool


@dataclass(frozen=True)
class Side:
    """Images that one model (or every seed of one recipe) has right and all others have wrong.

    Attributes:
        name: Of the model or recipe.
        others: Names of the others: all rivals, or of many only the other of the best two.
        positions: All such images, by position.
        answers: To each the most frequent answer of the others, a class id.
    """

    name: str
    others: list[str]
    positions: list[int]
    answers: list[int]


@dataclass(frozen=True)
class Comparison:
    """All of it.

    Attributes:
        num_images: N.
        num_classes: K.
        models: One entry a candidate, in the order given.
        recipes: One entry a recipe, best mean first; empty for two models, and where every recipe has but one training.
        model_pairs: Pairs of models compared image by image.
        recipe_pairs: Pairs of recipes compared over seeds.
        recipe_agreements: How alike the trainings of recipes answer: each two recipes of which one at least has several
            seeds, and the seeds of each; empty where ``recipes`` is.
        ranked: What the ranking is of: recipes over seeds, or models by McNemar's test.
        ranking: Groups, best first; who shares one was not told apart.
        classes: Per class, for the two models or recipes in ``classes_of``; empty where there are more than two.
        classes_of: Names of these two.
        sides: Images that tell rivals apart; empty for seeds of one recipe; of more than six rivals only the best two,
            one against the other.
        findings: What the tests support, in plain words.
        cautions: What they do not.
        alike: How alike they answer, in plain words; empty for many.
    """

    num_images: int
    num_classes: int
    models: list[ModelFigures]
    recipes: list[RecipeFigures]
    model_pairs: list[ModelPair]
    recipe_pairs: list[RecipePair]
    recipe_agreements: list[RecipeAgreement]
    ranked: Literal["models", "recipes"]
    ranking: list[list[str]]
    classes: list[ClassDifference]
    classes_of: tuple[str, ...]
    sides: list[Side]
    findings: list[str]
    cautions: list[str]
    alike: list[str]

    @property
    def rivals(self) -> list[str]:
        """Who is compared: the recipes where one has several seeds, else the models."""
        return [one.name for one in self.recipes or self.models]

    def groups_of(self, name: str) -> str:
        """Return the letters of the groups of a ranked name, best first: 'a' or 'ab'; empty where it is not ranked."""
        return letters_of(name, self.ranking)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values fit for JSON; what is NaN (nothing was measured) becomes None."""
        return {key: plain(value) for key, value in dataclasses.asdict(self).items()}


def plain(value: Any) -> Any:
    """Return nested values with tuples as lists and None in place of what is not finite."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
