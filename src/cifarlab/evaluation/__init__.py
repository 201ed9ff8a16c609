"""Evaluation: what a model is worth; every section of it is a function of a Subject that returns a Section."""
