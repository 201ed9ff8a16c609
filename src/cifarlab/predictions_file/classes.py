"""Which classes there are, and which of them an entry of a file means: a name in any case, or an id."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cifarlab.predictions_file.columns import Table, as_number

_MOST_CLASSES = 100_000  # beyond, numbers are names and no ids
_MISSING = {"", "nan", "none", "null", "na", "n/a", "-"}
# what CIFAR's classes are called in a widely copied tutorial, and in British English
_ALIASES = {"plane": "airplane", "aeroplane": "airplane", "car": "automobile"}
_CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck"
_CIFAR100 = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish
forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle
mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale willow_tree
wolf woman worm
"""
# names whose order everybody knows, so that ids can be told from them
_KNOWN_ORDERS = (tuple(_CIFAR10.split()), tuple(_CIFAR100.split()))


@dataclass(frozen=True)
class Classes:
    """The classes of a comparison.

    Attributes:
        names: K names in label order, all different.
        ordered: Whether that order is known; where it is not, an id could be any class, and none is believed.
    """

    names: tuple[str, ...]
    ordered: bool = True

    @cached_property
    def _by_name(self) -> dict[str, int]:
        return {name: k for k, name in enumerate(self.names)}

    @cached_property
    def _by_plain_name(self) -> dict[str, int]:
        found = {_plain(name): k for k, name in reversed(list(enumerate(self.names)))}
        return {alias: found[name] for alias, name in _ALIASES.items() if name in found} | found

    @cached_property
    def _by_number(self) -> dict[float, int]:
        """Of classes that are named by numbers; a number goes before an id, so there are no ids besides."""
        numbers = [as_number(name) for name in self.names]
        counts = Counter(numbers)
        return {n: k for k, n in enumerate(numbers) if n is not None and counts[n] == 1}

    @cached_property
    def _have_ids(self) -> bool:
        return self.ordered and not any(as_number(name) is not None for name in self.names)

    def id_of(self, entry: Any) -> int | None:
        """Return the class id of a name in any case, a usual other name, or an id; None for what is no class."""
        text = str(entry).strip()
        found = self._by_name.get(text, self._by_plain_name.get(_plain(text)))
        number = None if isinstance(entry, bool) else as_number(entry)
        if found is not None or number is None:
            return found
        if self._have_ids:
            return int(number) if number.is_integer() and 0 <= number < len(self.names) else None
        return self._by_number.get(number)

    def named_by(self, column: str) -> int | None:
        """Return the class that the last words of a column's name are, as in prob_cat; never one named by a number."""
        text = _plain(column)
        for name, k in sorted(self._by_plain_name.items(), key=lambda item: -len(item[0])):
            before = text.removesuffix(name)
            if before != text and not before[-1:].isalnum() and as_number(name) is None:
                return k
        return None

    def complaint(self, entry: Any) -> str:
        """Say in what an entry is no class."""
        text = str(entry).strip()
        few = ", ".join(self.names[:12]) + (", …" if len(self.names) > 12 else "")
        if entry is None or text.casefold() in _MISSING:
            return f"the class is missing ({text or 'empty'})"
        if as_number(entry) is not None:
            if self._have_ids or list(self.names) == [str(k) for k in range(len(self.names))]:
                return f"the class is {text[:40]}, but ids are whole numbers from 0 to {len(self.names) - 1}"
            if self._by_number:
                return f"the class is {text[:40]}, but classes have names with numbers, which go before ids: {few}"
            return (
                f"the class is {text[:40]}, but nothing tells which of {few} has that id; give labels and predictions "
                "both as names or both as ids"
            )
        close = difflib.get_close_matches(text, self.names, n=1)
        hint = f"did you mean {close[0]}?" if close else f"they are {few}"
        return f"{text[:40]!r} is none of the classes; {hint}"


def vocabulary(labels: Sequence[Any], tables: Iterable[Table] = ()) -> Classes:
    """Return the classes that true labels and the predictions beside them speak of.

    Where the labels are ids, the classes are 0..K-1 for the largest id of both. Where they are names, the classes are
    all names of both, in an order that is known only for those of CIFAR-10 and CIFAR-100.

    Args:
        labels: True classes, ids or names.
        tables: Predictions of the same classes.
    """
    answers = list(tables)
    said = {_key(entry): entry for table in answers for entry in table.predictions or ()}.values()
    words = [str(entry).strip() for entry in said if as_number(entry) is None]
    ids = [_id(entry) for entry in labels]
    if all(k is not None for k in ids):
        largest = max(k for k in ids if k is not None)
        known = _known_order(words)
        if known and largest < len(known):
            return Classes(known)
        more = [k for entry in said if (k := _id(entry)) is not None]
        more += [table.scores.shape[1] - 1 for table in answers if table.scores is not None]
        return Classes(tuple(str(k) for k in range(max([largest, *more]) + 1)))
    texts = [str(entry).strip() for entry in labels] + words
    scored = [name for table in answers for name in table.score_names]
    if {_plain(name) for name in scored} & {_plain(text) for text in texts}:  # scores whose columns name classes
        texts += scored
    names = {_plain(text): text for text in reversed(texts) if text.casefold() not in _MISSING}  # as spelt first
    known = _known_order(names)
    return Classes(known) if known else Classes(tuple(sorted(names.values())), ordered=False)


def _known_order(names: Iterable[str]) -> tuple[str, ...] | None:
    """Return the names of a public data set in their official order, if these are all of its names; else None."""
    plain = {_ALIASES.get(_plain(name), _plain(name)) for name in names}
    return next((order for order in _KNOWN_ORDERS if {_plain(name) for name in order} == plain), None)


def _plain(name: str) -> str:
    return name.strip().casefold().replace("_", " ")


def _key(entry: Any) -> Any:
    return (type(entry), entry) if isinstance(entry, (str, int, float)) else repr(entry)


def _id(entry: Any) -> int | None:
    """Return an entry as an id; None for what can be none."""
    number = None if isinstance(entry, bool) else as_number(entry)
    return int(number) if number is not None and number.is_integer() and 0 <= number < _MOST_CLASSES else None
