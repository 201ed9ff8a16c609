"""Predictions that others deliver: a CSV, JSON or NPY file of predicted classes, checked before they are believed.

docs/predictions-file.md is the format's specification. A file says for every image of a split which class was
predicted, by id or by name, or gives one score a class; it may bring an index and the true labels.
"""

from cifarlab.predictions_file.classes import Classes, vocabulary
from cifarlab.predictions_file.columns import Table
from cifarlab.predictions_file.meaning import ForeignPredictions, resolve
from cifarlab.predictions_file.table import SUFFIXES, read_table

__all__ = ["SUFFIXES", "Classes", "ForeignPredictions", "Table", "read_table", "resolve", "vocabulary"]
