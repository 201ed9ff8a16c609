"""The table of sections: names mean what they say, and what a user can mend becomes the line why one was skipped."""

import importlib
import inspect
import sys
from types import ModuleType, SimpleNamespace

import pytest

from cifarlab.errors import CifarlabError, MissingExtraError, StoppedError, UsageError
from cifarlab.evaluation.options import Options
from cifarlab.evaluation.section import Section
from cifarlab.evaluation.sections import QUICK, SECTIONS, Entry, choose, run_section


@pytest.mark.parametrize("name", SECTIONS)
def test_every_section_of_the_table_is_there(name):
    entry = SECTIONS[name]
    function = getattr(importlib.import_module(f"cifarlab.evaluation.{entry.module}"), entry.function)
    assert list(inspect.signature(function).parameters) == ["subject"]


def test_names_stand_for_sections_in_the_order_of_the_table():
    assert choose(["all"]) == tuple(SECTIONS)
    assert choose(["quick"]) == QUICK == ("scores", "calibration", "ranking", "selective")
    assert choose(["why", "scores", "why"]) == ("scores", "why")
    assert choose(["quick", "attacks"]) == (*QUICK, "attacks")
    assert choose([]) == ()
    assert choose(["quick"], Options(seed=1, costs="costs.csv")) == QUICK
    with pytest.raises(UsageError, match="--num-attacked is for the section attacks; ask for it: --sections attacks"):
        choose(["quick", "shifts"], Options(num_attacked=3))
    with pytest.raises(UsageError, match=r"no section is called 'wy'; there are scores, .* and quick and all"):
        choose(["scores", "wy"])


@pytest.fixture
def section(monkeypatch):
    """Return a function that puts a section into the table and runs it."""

    def run(function):
        fake = ModuleType("cifarlab.evaluation.fake")
        fake.fake_section = function
        monkeypatch.setitem(sys.modules, fake.__name__, fake)
        monkeypatch.setitem(SECTIONS, "fake", Entry("Fake?", "fake", quick=False, cost=""))
        return run_section("fake", SimpleNamespace(options=Options()))

    return run


def test_what_a_section_finds_comes_back_with_its_time(section):
    outcome = section(lambda subject: Section(findings=(str(subject.options.seed),)))
    assert outcome.section.findings == ("0",)
    assert 0 <= outcome.seconds < 60


def raising(error):
    def function(subject):
        raise error

    return function


@pytest.mark.parametrize("error", [CifarlabError("do this"), MissingExtraError("captum", "explain"), UsageError("no")])
def test_what_a_user_can_mend_is_why_it_was_skipped(section, error):
    assert section(raising(error)).section == Section(skipped=str(error))


@pytest.mark.parametrize("error", [StoppedError("stopped", 15), ZeroDivisionError(), KeyboardInterrupt()])
def test_nothing_else_is_passed_over(section, error):
    with pytest.raises(type(error)):
        section(raising(error))


@pytest.mark.parametrize(
    ("field", "value"),
    [("wanted_accuracy", 1.0), ("wanted_accuracy", 0.0), ("num_corrupted", -1), ("num_attacked", -5)],
)
def test_settings_out_of_range_are_refused(field, value):
    with pytest.raises(UsageError, match=field.replace("_", "-")):
        Options(**{field: value})
