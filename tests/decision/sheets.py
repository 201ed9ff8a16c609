"""A reader and evaluator of .xlsx files that shares nothing with the writer: zip, XML, a small grammar of formulas."""

from __future__ import annotations

import io
import math
import re
import zipfile
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

_MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_TOKEN = re.compile(
    r"""\s*(?:
    (?P<number>\d+\.?\d*(?:[eE][+-]?\d+)?)|(?P<text>"[^"]*")|
    (?P<reference>(?:'[^']+'!|[A-Za-z]+!)?\$?[A-Z]{1,2}\$?\d+(?::\$?[A-Z]{1,2}\$?\d+)?)|
    (?P<function>[A-Z]+)\(|(?P<sign><=|>=|<>|[-+*/^=<>(),]))""",
    re.VERBOSE,
)


class Book:
    """The cells of a workbook; formulas are evaluated when a cell is asked for.

    Attributes:
        formulas: By sheet and cell.
        stored: Values in the file, those of formulas included.
    """

    def __init__(self, content: bytes) -> None:
        self.formulas: dict[tuple[str, str], str] = {}
        self.stored: dict[tuple[str, str], Any] = {}
        self._known: dict[tuple[str, str], Any] = {}
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            strings = [
                "".join(part.text or "" for part in item.iter(f"{_MAIN}t"))
                for item in ElementTree.fromstring(archive.read("xl/sharedStrings.xml"))
            ]
            root = ElementTree.fromstring(archive.read("xl/workbook.xml"))
            names = [sheet.get("name") for sheet in root.iter(f"{_MAIN}sheet")]
            for place, name in enumerate(names, start=1):
                self._read(str(name), archive.read(f"xl/worksheets/sheet{place}.xml"), strings)

    def _read(self, sheet: str, content: bytes, strings: list[str]) -> None:
        for cell in ElementTree.fromstring(content).iter(f"{_MAIN}c"):
            where = (sheet, str(cell.get("r")))
            formula, value = cell.find(f"{_MAIN}f"), cell.find(f"{_MAIN}v")
            if formula is not None:
                self.formulas[where] = str(formula.text)
            if value is not None and value.text is not None:
                kind = cell.get("t")
                text = strings[int(value.text)] if kind == "s" else value.text
                self.stored[where] = text if kind in ("s", "str") else float(text)

    def change(self, sheet: str, cell: str, value: float) -> None:
        """Type a value into a cell."""
        self.stored[sheet, cell] = value
        self.formulas.pop((sheet, cell), None)
        self._known.clear()

    def value(self, sheet: str, cell: str) -> Any:
        """Return a cell's value, computed anew; None where it is empty."""
        where = (sheet, cell)
        if where not in self.formulas:
            return self.stored.get(where)
        if where not in self._known:
            self._known[where] = _Formula(self, sheet, self.formulas[where]).result()
        return self._known[where]

    def find(self, sheet: str, text: str, column: str = "A") -> Iterator[int]:
        """Yield the rows whose cell of a column holds a text."""
        for (name, cell), value in self.stored.items():
            if name == sheet and value == text and re.fullmatch(rf"{column}\d+", cell):
                yield int(cell[1:])


class _Formula:
    def __init__(self, book: Book, sheet: str, text: str) -> None:
        self.book, self.sheet, self.text, self.place = book, sheet, text.strip(), 0
        self.tokens: list[tuple[str, str]] = []
        while self.place < len(self.text):
            found = _TOKEN.match(self.text, self.place)
            assert found, f"cannot read {self.text[self.place :]!r} in {self.text!r}"
            kind = str(found.lastgroup)
            self.tokens.append((kind, found.group(kind)))
            self.place = found.end()
        self.place = 0

    def result(self) -> Any:
        value = self._comparison()
        assert self.place == len(self.tokens), f"a rest remains of {self.text!r}"
        return value

    def _next(self) -> tuple[str, str]:
        return self.tokens[self.place] if self.place < len(self.tokens) else ("end", "")

    def _take(self, *signs: str) -> str:
        kind, text = self._next()
        if kind == "sign" and text in signs:
            self.place += 1
            return text
        return ""

    def _comparison(self) -> Any:
        left = self._sum()
        sign = self._take("=", "<>", "<", ">", "<=", ">=")
        if not sign:
            return left
        right = self._sum()
        return {
            "=": left == right, "<>": left != right, "<": left < right,
            ">": left > right, "<=": left <= right, ">=": left >= right,
        }[sign]  # fmt: skip

    def _sum(self) -> Any:
        value = self._product()
        while sign := self._take("+", "-"):
            other = _plain(self._product())
            value = _plain(value) + other if sign == "+" else _plain(value) - other
        return value

    def _product(self) -> Any:
        value = self._power()
        while sign := self._take("*", "/"):
            other = _plain(self._power())
            # both branches of an IF are computed here, so a division by zero is not an error yet
            value = _plain(value) * other if sign == "*" else _plain(value) / other if other else math.nan
        return value

    def _power(self) -> Any:
        value = self._atom()
        while self._take("^"):
            value = _plain(value) ** _plain(self._atom())
        return value

    def _atom(self) -> Any:
        if self._take("-"):
            return -_plain(self._atom())
        if self._take("("):
            value = self._comparison()
            assert self._take(")")
            return value
        kind, text = self._next()
        self.place += 1
        if kind == "number":
            return float(text)
        if kind == "text":
            return text[1:-1]
        if kind == "function":
            return self._call(text)
        assert kind == "reference", f"{text!r} in {self.text!r}"
        return self._reference(text)

    def _reference(self, text: str) -> Any:
        sheet, _, cells = text.rpartition("!")
        sheet = sheet.strip("'") or self.sheet
        first, _, last = cells.replace("$", "").partition(":")
        if not last:
            return self.book.value(sheet, first)
        ends = [re.fullmatch(r"([A-Z]+)(\d+)", end) for end in (first, last)]
        (left, top), (right, bottom) = (end.groups() for end in ends if end)
        return [
            self.book.value(sheet, f"{chr(column)}{row}")
            for row in range(int(top), int(bottom) + 1)
            for column in range(ord(left), ord(right) + 1)
        ]

    def _call(self, name: str) -> Any:
        given = []
        while not self._take(")"):
            given.append(self._comparison())
            self._take(",")
        if name == "ISBLANK":
            return given[0] is None
        if name == "IF":
            return given[1] if given[0] else given[2]
        if name == "CHOOSE":
            return given[int(given[0])]
        if name == "SUMPRODUCT":
            return math.fsum(_plain(a) * _plain(b) for a, b in zip(*given, strict=True))
        flat = [_plain(x) for one in given for x in (one if isinstance(one, list) else [one])]
        return {"SUM": math.fsum, "MIN": min, "MAX": max}[name](flat)


def _plain(value: Any) -> float:
    """Return a number as a spreadsheet takes it: an empty cell is 0."""
    return 0.0 if value is None else value
