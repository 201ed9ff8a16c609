"""Words of the report, each explained in a sentence or two for somebody who does not train models."""

GLOSSARY: tuple[tuple[str, str], ...] = (
    ("Accuracy", "The share of images that are classified correctly."),
    (
        "95 % interval",
        "The range in which the true figure lies, as far as the number of images tells. Of a hundred such intervals "
        "about five miss it.",
    ),
    ("Points", "Percentage points: the difference between 70 % and 72 % is 2 points."),
    ("Test images", "Images that neither the training nor any choice has seen. Every reading of them is recorded."),
    ("Validation images", "Images held back from training on which choices are made, so that test stays untouched."),
    ("Recall", "Of the images that show a class, the share that is recognised."),
    ("Precision", "Of the answers that name a class, the share that is right."),
    ("F1", "One figure for both: the harmonic mean of precision and recall. Macro F1 is its mean over the classes."),
    ("Confidence", "How sure the model says it is of an answer. Calibration tells whether that can be believed."),
    ("Calibration error (ECE)", "How far confidence and the share of right answers lie apart, on average."),
    ("Loss (cross-entropy)", "What training makes small: high where the model is wrong and sure. Its unit is the nat."),
    ("AUROC", "Of pairs of an image of one kind and one of another, the share that the model puts in the right order."),
    ("Views", "The same image mirrored or shifted; the model is asked about each, and its answers are averaged."),
    ("Coverage", "The share of the images that the model answers itself, because it is sure enough."),
    ("Present cost", "What all payments of the years are worth today; later ones count for less (discount rate)."),
    ("Break-even volume", "The number of images a month at which two options cost the same."),
    ("Draws (Monte Carlo)", "Many worlds, each with a value of every assumption drawn from its range."),
    ("Regret", "What an option costs more than the one that would have been best, had one known."),
    ("Switching value", "The value of one assumption at which another option becomes the cheapest."),
    ("McNemar's test", "It compares two models on the same images by those that only one of them has right."),
    ("p", "How likely so large a difference is by chance if there is none. Small values speak against chance."),
    ("Seed", "The starting point of the random choices of a training. Two seeds give two slightly different models."),
    ("Hybrid", "Our model answers where it is sure; the vendor gets the rest."),
    ("PFLOP", "A million billion arithmetic operations: the size of a training, whatever the machine."),
)
