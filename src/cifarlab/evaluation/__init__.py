"""Evaluation: what a model is worth, section by section; every section is a function of a Subject and returns a Section."""
