"""report.xlsx: the same sums as live formulas, to be changed and checked by whoever trusts spreadsheets more.

Sheets: Result (present costs, break-even volumes), Inputs (all amounts, a choice of low, base or high for all, a column
for own values), Derived (a day's cost, accuracies), Cash flows (every cost line by year). Every cell with a formula
also holds its value at base, for programs that show a workbook without computing it.
"""

from __future__ import annotations

import datetime
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cifarlab.decision.analysis import base_values, prepare
from cifarlab.decision.breakeven import cost_difference
from cifarlab.decision.costs import images_by_year, line_cost
from cifarlab.decision.findings import Analysis
from cifarlab.decision.given import Evidence, OptionKey
from cifarlab.decision.inputs import DecisionInputs
from cifarlab.decision.options import LABELS, MONTHS_PER_YEAR, Line, Setting, cost_lines, derive, error_cost_per_image
from cifarlab.phrases import count

SCENARIO = "Inputs!$B$3"
_BIRTH = datetime.datetime(2000, 1, 1)  # fixed, so that equal figures give equal bytes
_FIRST_ROW = 7  # of the amounts
_FIRST_YEAR = 3  # column D


def workbook_bytes(inputs: DecisionInputs, evidence: Evidence, analysis: Analysis) -> bytes:
    """Return report.xlsx; the same figures give the same bytes.

    Args:
        inputs: As given to :func:`analysis.analyse`.
        evidence: Likewise.
        analysis: What it returned.
    """
    from xlsxwriter import Workbook

    stream = io.BytesIO()
    book = Workbook(stream, {"in_memory": True})
    book.set_properties({"title": "Build or buy: costs", "created": _BIRTH})
    setting = prepare(inputs, evidence)[0]
    sheets = {name: book.add_worksheet(name) for name in ("Result", "Inputs", "Derived", "Cash flows")}
    twin = _Twin(sheets, _formats(book), setting, analysis, {}, {})
    _write_inputs(twin)
    _write_derived(twin)
    costs = _write_flows(twin)
    _write_result(twin, costs)
    book.close()
    return stream.getvalue()


@dataclass(frozen=True)
class _Twin:
    """The workbook while it is written.

    Attributes:
        sheets: By name.
        formats: By name.
        setting: What is settled.
        analysis: The figures.
        cells: Where each amount and derived value stands, such as 'Inputs!$G$7'.
        values: Their values at base.
    """

    sheets: Mapping[str, Any]
    formats: Mapping[str, Any]
    setting: Setting
    analysis: Analysis
    cells: dict[str, str]
    values: dict[str, float]


@dataclass(frozen=True)
class _Costs:
    """Cells of one option's sums on the sheet of cash flows."""

    paid: str
    errors: str
    image: str


def _formats(book: Any) -> dict[str, Any]:
    return {
        "title": book.add_format({"bold": True, "font_size": 14}),
        "head": book.add_format({"bold": True, "bottom": 1, "text_wrap": True, "valign": "top"}),
        "bold": book.add_format({"bold": True}),
        "money": book.add_format({"num_format": "#,##0.00"}),
        "total": book.add_format({"num_format": "#,##0.00", "bold": True, "top": 1}),
        "number": book.add_format({"num_format": "#,##0.######"}),
        "free": book.add_format({"bg_color": "#FFF7D6", "border": 1}),
    }


def _column(place: int) -> str:
    return chr(ord("A") + place)


def _write_inputs(twin: _Twin) -> None:
    """Write every amount with its three values, and the one in use."""
    sheet, formats = twin.sheets["Inputs"], twin.formats
    sheet.write("A1", "Amounts", formats["title"])
    sheet.write("A3", "Scenario (1 low, 2 base, 3 high, for every amount)", formats["bold"])
    sheet.write("B3", 2, formats["free"])
    sheet.data_validation("B3", {"validate": "list", "source": [1, 2, 3]})
    sheet.write("A4", "A value in the column 'own' is used instead of the scenario's.")
    heads = ("key", "amount", "low", "base", "high", "own", "in use", "unit", "origin", "source", "date")
    for place, head in enumerate(heads):
        sheet.write(_FIRST_ROW - 2, place, head, formats["head"])
    for row, amount in enumerate(twin.analysis.amounts.values(), start=_FIRST_ROW):
        sheet.write_string(f"A{row}", amount.key)
        sheet.write_string(f"B{row}", amount.label)  # a user's text that begins with = is no formula
        for column, value in zip("CDE", (amount.low, amount.base, amount.high), strict=True):
            sheet.write_number(f"{column}{row}", value, formats["number"])
        sheet.write_blank(f"F{row}", None, formats["free"])
        formula = f"=IF(ISBLANK(F{row}),CHOOSE($B$3,C{row},D{row},E{row}),F{row})"
        sheet.write_formula(f"G{row}", formula, formats["number"], amount.base)
        for column, text in zip("HIJK", (amount.unit, amount.origin, amount.source, amount.date), strict=True):
            sheet.write_string(f"{column}{row}", text)
        twin.cells[amount.key] = f"Inputs!$G${row}"
        twin.values[amount.key] = amount.base
    sheet.set_column("A:A", 34)
    sheet.set_column("B:B", 44)
    sheet.set_column("C:G", 12)
    sheet.set_column("H:I", 20)
    sheet.set_column("J:J", 80)
    sheet.freeze_panes(_FIRST_ROW - 1, 2)


def _write_derived(twin: _Twin) -> None:
    """Write a day's cost, accuracies on images of the use, and the cost of wrong answers by image."""
    sheet, formats, cell = twin.sheets["Derived"], twin.formats, twin.cells
    sheet.write("A1", "What follows from the amounts", formats["title"])
    base = base_values(twin.analysis.amounts)
    derived = derive(base, twin.setting)
    row = 3
    for key, (label, template) in _derived_formulas(twin).items():
        sheet.write(f"A{row}", key)
        sheet.write(f"B{row}", label)
        cell[key] = f"Derived!$C${row}"
        formula = re.sub(r"\{([^}]+)\}", lambda found: cell[found[1]], template)
        if key.startswith("error."):
            option: Any = key.removeprefix("error.")
            value = float(error_cost_per_image(option, derived, twin.setting))
        else:
            value = float(derived[key])
        twin.values[key] = value
        sheet.write_formula(f"C{row}", "=" + formula, formats["number"], value)
        row += 1
    sheet.set_column("A:A", 24)
    sheet.set_column("B:B", 60)
    sheet.set_column("C:C", 16)


def _derived_formulas(twin: _Twin) -> dict[str, tuple[str, str]]:
    """Return label and formula of each derived value, keys of others in braces."""
    setting = twin.setting
    own_lost = "0" if setting.own_images else "{transfer.points_lost}"
    their_lost = "0" if setting.vendor_own_images else "{transfer.points_lost}"
    by_hand = "{status_quo.accuracy}" if setting.status_quo == "people" else "0"
    found = {
        "people.day_cost": (
            "Cost of one day of an engineer",
            "{people.salary_per_year}*{people.overhead_factor}/{people.days_per_year}",
        ),
        "accuracy.nothing": ("Accuracy, do nothing", by_hand),
        "accuracy.buy": ("Accuracy, buy", f"MAX(0,MIN(1,{{vendor.accuracy}}-{their_lost}))"),
        "accuracy.adapt": ("Accuracy, buy and adapt", "1-(1-{accuracy.buy})*(1-{adapt.errors_removed})"),
        "accuracy.build": ("Accuracy, build", f"MAX(0,MIN(1,{{ours.accuracy}}-{own_lost}))"),
    }
    if "hybrid" in setting.options:
        kept = f"MAX(0,MIN(1,{{hybrid.kept_accuracy}}-{own_lost}))"
        hard = "{hybrid.vendor_share}*{hybrid.vendor_on_hard}*{accuracy.buy}"
        found["hybrid.vendor_share"] = ("Share of images sent to the vendor", "1-{hybrid.coverage}")
        found["accuracy.hybrid"] = ("Accuracy, hybrid", f"{{hybrid.coverage}}*{kept}+{hard}")
    weight = repr(setting.mistake_weight)
    for option in setting.options:
        label = f"Wrong answers by image, {LABELS[option].lower()}"
        formula = f"(1-{{accuracy.{option}}})*{{errors.cost_per_wrong_answer}}*{weight}"
        if option == "nothing" and setting.status_quo == "none":
            formula = "{status_quo.cost_per_1000_unanswered}/1000"
        found[f"error.{option}"] = (label, formula)
    return found


def _write_flows(twin: _Twin) -> dict[OptionKey, _Costs]:
    """Write payments by year of every option."""
    sheet, formats = twin.sheets["Cash flows"], twin.formats
    sheet.write("A1", f"Payments by year, {twin.analysis.currency}, not discounted", formats["title"])
    _write_years(twin)
    row, found = 8, {}
    for option in twin.setting.options:
        row, found[option] = _write_option(twin, option, row)
    sheet.set_column("A:A", 44)
    sheet.set_column("B:C", 14)
    sheet.set_column(_FIRST_YEAR, _FIRST_YEAR + twin.setting.horizon_years, 16)
    sheet.freeze_panes(6, 1)
    return found


def _write_years(twin: _Twin) -> None:
    """Write rows 3 to 6: year, images at one a month in the first year, images, discount factor."""
    sheet, formats, cell = twin.sheets["Cash flows"], twin.formats, twin.cells
    values, horizon = twin.values, twin.setting.horizon_years
    images = images_by_year(values, horizon)
    for row, head in enumerate(("Year", "Images, at one a month", "Images", "Discount factor"), start=3):
        sheet.write(f"A{row}", head, formats["head"] if row == 3 else None)
    sheet.write("B3", "unit cost", formats["head"])
    sheet.write("C3", "when", formats["head"])
    for year in range(horizon + 1):
        column = _column(_FIRST_YEAR + year)
        before = _column(_FIRST_YEAR + year - 1)
        sheet.write(f"{column}3", year, formats["head"])
        index = "=0" if year == 0 else f"={MONTHS_PER_YEAR:g}"
        if year > 1:
            index = f"={before}4*(1+{cell['volume.growth_per_year']})"
        at_one = 0.0 if year == 0 else MONTHS_PER_YEAR * (1 + values["volume.growth_per_year"]) ** (year - 1)
        sheet.write_formula(f"{column}4", index, formats["number"], at_one)
        formula = f"={column}4*{cell['volume.images_per_month']}"
        sheet.write_formula(f"{column}5", formula, formats["number"], float(images[year]))
        factor = (1 + values["finance.discount_rate"]) ** -year
        formula = f"=1/(1+{cell['finance.discount_rate']})^{column}3"
        sheet.write_formula(f"{column}6", formula, formats["number"], factor)


def _write_option(twin: _Twin, option: OptionKey, row: int) -> tuple[int, _Costs]:
    """Write one option from ``row`` on; return the row after it and the cells of its sums."""
    sheet, formats = twin.sheets["Cash flows"], twin.formats
    result, horizon = twin.analysis.option(option), twin.setting.horizon_years
    first, last = _column(_FIRST_YEAR), _column(_FIRST_YEAR + horizon)
    sheet.write(f"A{row}", LABELS[option], formats["bold"])
    begin, unit_cells = row + 1, []
    row = begin
    for line in cost_lines(option, twin.setting):
        _write_line(twin, line, row, result.flows.lines[line.label])
        if line.when == "image":
            unit_cells.append(f"B{row}")
        row += 1
    paid, errors, paid_sum, errors_sum = row, row + 1, row + 2, row + 3
    for place, year in enumerate(range(horizon + 1)):
        column = _column(_FIRST_YEAR + year)
        total = f"=SUM({column}{begin}:{column}{paid - 1})" if paid > begin else "=0"
        sheet.write_formula(f"{column}{paid}", total, formats["total"], result.flows.expenditure[place])
        formula = f"=$B{errors}*{column}$5"
        sheet.write_formula(f"{column}{errors}", formula, formats["money"], result.flows.errors[place])
    sheet.write(f"A{paid}", "Paid", formats["bold"])
    sheet.write(f"A{errors}", "Wrong answers")
    sheet.write_formula(
        f"B{errors}", f"={twin.cells[f'error.{option}']}", formats["number"], twin.values[f"error.{option}"]
    )
    for at, source, label, value in (
        (paid_sum, paid, "Present cost, paid", result.present_expenditure),
        (errors_sum, errors, "Present cost of wrong answers", result.present_errors),
    ):
        sheet.write(f"A{at}", label, formats["bold"])
        formula = f"=SUMPRODUCT({first}{source}:{last}{source},${first}$6:${last}$6)"
        sheet.write_formula(f"B{at}", formula, formats["total"], value)
    image = "+".join(f"'Cash flows'!${cell[0]}${cell[1:]}" for cell in unit_cells) or "0"
    cells = _Costs(f"'Cash flows'!$B${paid_sum}", f"'Cash flows'!$B${errors_sum}", image)
    return errors_sum + 2, cells


def _write_line(twin: _Twin, line: Line, row: int, years: tuple[float, ...]) -> None:
    sheet, formats, horizon = twin.sheets["Cash flows"], twin.formats, twin.setting.horizon_years
    sheet.write(f"A{row}", line.label)
    factors = [twin.cells[factor] for factor in line.factors]
    if line.scale != 1:
        factors.append(f"{line.scale:g}" if line.scale > 1 else f"1/{1 / line.scale:g}")
    formula = "=" + "*".join(factors)
    sheet.write_formula(f"B{row}", formula, formats["number"], float(line_cost(line, twin.values)))
    sheet.write(f"C{row}", {"image": "each image"}.get(line.when, line.when))
    for year in range(horizon + 1):
        column = _column(_FIRST_YEAR + year)
        paid = {"once": year == 0, "end": year == horizon, "yearly": year > 0, "image": year > 0}[line.when]
        formula = f"=$B{row}*{column}$5" if line.when == "image" else f"=$B{row}"
        if paid:
            sheet.write_formula(f"{column}{row}", formula, formats["money"], years[year])
        else:
            sheet.write_number(f"{column}{row}", 0, formats["money"])


def _write_result(twin: _Twin, costs: Mapping[OptionKey, _Costs]) -> None:
    """Write the present cost of every option and the break-even volume of every pair."""
    sheet, formats, currency = twin.sheets["Result"], twin.formats, twin.analysis.currency
    years = twin.setting.horizon_years
    sheet.write("A1", f"Build or buy: present cost over {count(years, 'year')}, {currency}", formats["title"])
    sheet.write("A2", "The likeliest value of everything, unless the scenario on the sheet Inputs says otherwise.")
    for place, head in enumerate(("option", "paid", "wrong answers", "together", "cheapest", "requirements")):
        sheet.write(3, place, head, formats["head"])
    last = 4 + len(costs)
    for row, (option, cells) in enumerate(costs.items(), start=5):
        result = twin.analysis.option(option)
        sheet.write(f"A{row}", LABELS[option])
        sheet.write_formula(f"B{row}", f"={cells.paid}", formats["money"], result.present_expenditure)
        sheet.write_formula(f"C{row}", f"={cells.errors}", formats["money"], result.present_errors)
        sheet.write_formula(f"D{row}", f"=B{row}+C{row}", formats["total"], result.present_cost)
        least = result.present_cost == min(twin.analysis.option(key).present_cost for key in costs)
        mark = f'=IF(D{row}=MIN($D$5:$D${last}),"cheapest","")'
        sheet.write_formula(f"E{row}", mark, None, "cheapest" if least else "")
        sheet.write_string(f"F{row}", "fails one that must be met" if result.rejected else "")
    _write_break_evens(twin, costs, last + 3)
    sheet.set_column("A:A", 44)
    sheet.set_column("B:F", 18)


def _write_break_evens(twin: _Twin, costs: Mapping[OptionKey, _Costs], row: int) -> None:
    sheet, formats = twin.sheets["Result"], twin.formats
    horizon = twin.setting.horizon_years
    first, last = _column(_FIRST_YEAR), _column(_FIRST_YEAR + horizon)
    weight = f"SUMPRODUCT('Cash flows'!${first}$4:${last}$4,'Cash flows'!${first}$6:${last}$6)"
    volume = twin.cells["volume.images_per_month"]
    heads = ("break-even volume, images a month", "difference if there were no image", "by one image a month", "volume")
    for place, head in enumerate(heads):
        sheet.write(row - 1, place, head, formats["head"])
    for at, even in enumerate(twin.analysis.break_evens, start=row + 1):
        counted = "wrong answers counted" if even.with_errors else "money paid only"
        a, b = even.first, even.second
        sheet.write(f"A{at}", f"{LABELS[a]} against {LABELS[b].lower()}, {counted}")
        unit = [f"({costs[key].image})" for key in (a, b)]
        whole = [costs[key].paid for key in (a, b)]
        if even.with_errors:
            unit = [f"({costs[key].image}+{twin.cells[f'error.{key}']})" for key in (a, b)]
            whole = [f"({costs[key].paid}+{costs[key].errors})" for key in (a, b)]
        fixed, by_image = cost_difference(a, b, twin.values, twin.setting, errors=even.with_errors)
        formula = f"=({unit[0]}-{unit[1]})*{weight}"
        sheet.write_formula(f"C{at}", formula, formats["number"], float(by_image))
        formula = f"={whole[0]}-{whole[1]}-C{at}*{volume}"
        sheet.write_formula(f"B{at}", formula, formats["number"], float(fixed))
        formula = f'=IF(C{at}=0,"none",IF(-B{at}/C{at}>0,-B{at}/C{at},"none"))'
        sheet.write_formula(f"D{at}", formula, formats["number"], "none" if even.volume is None else even.volume)
