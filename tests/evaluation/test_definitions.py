"""docs/metrics.md defines what the page shows: every column and every figure of a table is found there."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from tests.evaluation.answers import random_answers, subject
from tests.evaluation.models import Brightest, coloured
from tests.evaluation.models import subject as model_subject

from cifarlab.evaluation import attacks, calibration, ranking, scores, selective, shifts
from cifarlab.evaluation.section import Section

DEFINED = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8").casefold()
# words that are no figures, and what stands in brackets or after a comma
PLAIN = {"answers", "class", "figure", "value", "share", "from", "to", "true \\ given", "images", "images right", "top"}
PLAIN |= {"right", "kind", "picture", "way", "ways", "attack", "steps"}


def shown(section: Section) -> set[str]:
    """What the tables of a section call their figures."""
    names = {column for table in section.tables.values() for column in table.header}
    for name in ("summary", "risk", "accuracy"):
        if name in section.tables:
            names |= {row[0] for row in section.tables[name].rows}
    plain = {re.sub(r"\(.*?\)|,.*| \d+$|\bexact\b|95 % interval.*", "", name).strip().casefold() for name in names}
    return {name for name in plain if name not in PLAIN and not name.startswith("class ")} - {""}


@pytest.mark.parametrize(
    "section",
    [scores.scores_section, calibration.calibration_section, ranking.ranking_section, selective.selective_section],
)
def test_every_figure_of_the_quick_sections_is_defined(section, tmp_path: Path) -> None:
    costs = "," + ",".join(f"class {c}" for c in "abcd") + "\n"
    costs += "".join(f"class {c}," + ",".join(map(str, 1 - np.eye(4)[k])) + "\n" for k, c in enumerate("abcd"))
    (tmp_path / "costs.csv").write_text(costs)
    judged = subject(random_answers(200, 4), val=random_answers(200, 4, 1), costs=str(tmp_path / "costs.csv"))
    names = shown(section(judged))
    assert len(names) >= 2
    assert sorted(name for name in names if name not in DEFINED) == []


@pytest.mark.parametrize("section", [shifts.shifts_section, attacks.attacks_section])
def test_every_figure_of_robustness_is_defined(section) -> None:
    names = shown(section(model_subject(coloured(12), Brightest())))
    assert {"right in all ways", "median levels used"} & names
    assert sorted(name for name in names if name not in DEFINED) == []
