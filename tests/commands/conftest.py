"""Fixtures of the tests of commands, which those of experiments have too."""

from tests.experiments.conftest import _careless_databases, _copied_database, empty_database, photos  # noqa: F401
