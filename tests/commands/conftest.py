"""Fixtures of the tests of commands, which those of experiments have too."""

from tests.experiments.conftest import _copied_database, _without_fsync, empty_database, photos  # noqa: F401
