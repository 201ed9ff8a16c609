"""Predictions that others deliver: a CSV, JSON or NPY file of predicted classes, checked before they are believed.

docs/predictions-file.md is the format's specification. A file says for every image of a split which class was
predicted, by id or by name, or gives one score a class; it may bring an index and the true labels.
"""

from cifarlab.predictions_file.meaning import ForeignPredictions, resolve, vocabulary
from cifarlab.predictions_file.table import SUFFIXES, Table, read_table

__all__ = ["SUFFIXES", "ForeignPredictions", "Table", "read_table", "resolve", "vocabulary"]
