"""The table of limits: what a fast recipe may take beside its clock."""

import importlib
import sys
from pathlib import Path

import pytest

from cifarlab.config import Config
from cifarlab.config_yaml import changed_fields
from cifarlab.recipes import load_recipe
from tests.test_docs_build import XEON, result, row_of

DOCS = Path(__file__).resolve().parent.parent / "docs"


@pytest.fixture(scope="module")
def limits():
    """The module of docs/build.py that makes the table."""
    sys.path.insert(0, str(DOCS))
    try:
        return importlib.import_module("limits_table")
    finally:
        sys.path.remove(str(DOCS))


def test_limits_of_memory_first_step_and_augmentation_are_judged(limits):
    alone = {"wall": True, "figures": {"peak_memory_bytes": 2.6e9, "seconds_to_first_step": 2.8}}
    cells = row_of(limits.limits_table([result(**alone, augmentation_share=0.018)]), "fast90")
    assert cells[1:4] == ["2.60 GB (≤ 2.5 GB): **not met**", "2.80 s (≤ 3 s): met", "1.8 %"]
    settings = changed_fields(load_recipe("fast94"), Config())
    slow = result("fast94", settings=settings, augmentation_share=0.031)
    assert row_of(limits.limits_table([slow]), "fast94")[1:4] == [
        "unmeasured (≤ 2.5 GB)",
        "unmeasured (≤ 3 s)",
        "3.1 % (≤ 3 %): **not met**",
    ]
    assert "`fast90`" not in limits.limits_table([result(where={**XEON, "threads": 4})])


@pytest.mark.parametrize(
    ("lowest", "cell"), [(1.5e9, "1.50 GB (≤ 2.5 GB): met"), (2.6e9, "2.60 GB (≤ 2.5 GB): not shown")]
)
def test_memory_of_a_shared_process_is_a_bound_and_the_lowest_counts(limits, lowest, cell):
    shared = result(figures={"peak_memory_bytes": 5e9})
    shared["summary"]["peak_memory_bytes"]["min"] = lowest
    assert row_of(limits.limits_table([shared]), "fast90")[1] == f"at most {cell}"
