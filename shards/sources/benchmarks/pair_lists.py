"""Lists of image pairs for verification, in LFW's format or as a table with a header."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from shards.errors import DataError, parsing, shown
from shards.small_files import is_number, with_slashes

COLUMNS = ("a", "b", "same")

TRUTHS = {"0": False, "1": True, "0.0": False, "1.0": True, "false": False, "true": True}  # lower case

QUOTED = re.compile(r'^"([^"]*)"$')

MAX_BYTES = 2**28  # of a list; millions of pairs


@dataclass(frozen=True, kw_only=True)
class PairList:
    """Pairs of image paths in the order of their folds.

    If the list has no folds, `folds` is None, and mated and non-mated pairs are interleaved, so that any number of
    consecutive folds has equally many of both kinds, to within one. LFW's View 1 lists all mated pairs first; folds
    cut from it would have one kind each, and their thresholds would be chosen on the other kind.

    Attributes:
        first, second: N paths each.
        same: N booleans, True for mated pairs.
        folds: number of folds, of equal size; None if the list has none.
    """

    first: list[str]
    second: list[str]
    same: list[bool]
    folds: int | None


@dataclass(frozen=True, kw_only=True)
class _Pair:
    fold: int
    a: str
    b: str
    same: bool


def read_pairs(text: str, *, name: str, extension: str = ".jpg") -> PairList:
    """Pairs of a list in one of three formats, told apart by the first line. Blank lines are passed over.

    LFW's: a first line of folds and pairs per kind (or of the pairs alone), then lines of `person n1 n2` or
    `person1 n1 person2 n2`, which stand for `person/person_000n.jpg`. The table: separated by tabs, semicolons or
    commas, with columns a, b, same and, where it has folds, fold. Lines of two paths and whether they are the same,
    or that first. The same is 0 or 1, or true or false.

    Raises:
        DataError: with the line that does not fit; folds of different sizes; no pairs at all; more than `MAX_BYTES`.
    """
    if len(text) > MAX_BYTES:
        raise DataError(f"{name}: {len(text)} characters, allowed are {MAX_BYTES}; is it another file?")
    text = text.removeprefix("\ufeff")
    lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    if not lines:
        raise DataError(f"{name}: is empty; expected a list of pairs")
    first = lines[0][1]
    if all(is_number(word) for word in first.split()):
        pairs = _lfw(lines, name=name, extension=extension)
    elif _triple(first) is not None:
        pairs = _triples(lines, name=name)
    else:
        pairs = _table(text, name=name)
    if not pairs:
        raise DataError(f"{name}: has no pairs")
    pairs.sort(key=lambda pair: pair.fold)  # stable: within a fold the list's order stays
    sizes = Counter(pair.fold for pair in pairs)
    if len(set(sizes.values())) > 1:
        raise DataError(f"{name}: folds of {min(sizes.values())} to {max(sizes.values())} pairs; expected equal ones")
    if len(sizes) == 1:
        pairs = _interleaved(pairs)
    paths = with_slashes([*(pair.a for pair in pairs), *(pair.b for pair in pairs)])
    return PairList(
        first=paths[: len(pairs)],
        second=paths[len(pairs) :],
        same=[pair.same for pair in pairs],
        folds=len(sizes) if len(sizes) > 1 else None,
    )


def _interleaved(pairs: list[_Pair]) -> list[_Pair]:
    """Mated and non-mated pairs spread evenly, each kind in its own order."""
    kinds = [[pair for pair in pairs if pair.same == same] for same in (True, False)]
    positions = [((rank + 0.5) / len(kind), pair) for kind in kinds for rank, pair in enumerate(kind)]
    return [pair for _, pair in sorted(positions, key=lambda position: position[0])]


def _lfw(lines: Sequence[tuple[int, str]], *, name: str, extension: str) -> list[_Pair]:
    (number, first), *rest = lines
    head = [int(word) for word in first.split()]
    if len(head) not in (1, 2) or min(head) < 1:
        raise DataError(
            f"{name}: line {number}: got {shown(first)!r}; expected the numbers of folds and of pairs per kind"
        )
    folds, each = head if len(head) == 2 else (1, head[0])
    if len(rest) != 2 * folds * each:
        raise DataError(
            f"{name}: got {len(rest)} lines of pairs; line {number} says {folds} folds with {each} pairs of one person "
            f"and {each} of two, so {2 * folds * each}"
        )

    def path(person: str, number: str) -> str:
        return f"{person}/{person}_{int(number):04d}{extension}"

    pairs = []
    for index, (number, line) in enumerate(rest):
        words = line.split("\t") if "\t" in line else line.split()
        fold, within = divmod(index, 2 * each)
        mated = within < each
        numbers = words[1::2] if not mated else words[1:]
        if len(words) != (3 if mated else 4) or not all(is_number(number) for number in numbers):
            wanted = "person n1 n2" if mated else "person1 n1 person2 n2"
            raise DataError(f"{name}: line {number}: got {shown(line)!r}; expected {wanted}")
        a = path(words[0], words[1])
        b = path(words[0], words[2]) if mated else path(words[2], words[3])
        pairs.append(_Pair(fold=fold, a=a, b=b, same=mated))
    return pairs


def _triple(line: str) -> tuple[str, str, bool] | None:
    """Two paths and whether they show one person, at the end or the start of the line; None for any other line."""
    separator = _separator(line, others=None)
    words = [QUOTED.sub(r"\1", word.strip()) for word in line.split(separator)]
    if len(words) == 3:
        for truth, a, b in ((words[2], words[0], words[1]), (words[0], words[1], words[2])):
            if truth.lower() in TRUTHS and a and b and not {a.lower(), b.lower()} & TRUTHS.keys():
                return a, b, TRUTHS[truth.lower()]
    return None


def _triples(lines: Sequence[tuple[int, str]], *, name: str) -> list[_Pair]:
    pairs = []
    for number, line in lines:
        found = _triple(line)
        if found is None:
            raise DataError(f"{name}: line {number}: got {shown(line)!r}; expected two paths and 0 or 1, as in line 1")
        pairs.append(_Pair(fold=0, a=found[0], b=found[1], same=found[2]))
    return pairs


def _separator(line: str, *, others: str | None) -> str | None:
    return next((separator for separator in "\t;," if separator in line), others)


def _table(text: str, *, name: str) -> list[_Pair]:
    text = text.lstrip("\n")
    first = text.partition("\n")[0]
    separator = _separator(first, others=",") or ","
    rows = csv.DictReader(io.StringIO(text), delimiter=separator, skipinitialspace=True)
    with parsing(name, kind="a table of pairs"):
        rows.fieldnames = [field.strip().lower() for field in rows.fieldnames or []]
        missing = [column for column in COLUMNS if column not in rows.fieldnames]
        found = [(rows.line_num, row) for row in rows if any(row.values())]
    if missing:
        raise DataError(
            f"{name}: line 1: got {shown(first)!r}; columns {', '.join(missing)} are missing; expected a header a, b, "
            "same and maybe fold, LFW's own first line, or two paths and 0 or 1 in each line"
        )
    pairs = []
    for number, row in found:
        a, b, same, fold = (str(row.get(column) or "").strip() for column in (*COLUMNS, "fold"))
        if not a or not b or same.lower() not in TRUTHS or not is_number(fold or "0"):
            got = shown(str(dict(row)))
            raise DataError(f"{name}: line {number}: got {got}; expected two paths, same 0 or 1, fold a number")
        pairs.append(_Pair(fold=int(fold or 0), a=a, b=b, same=TRUTHS[same.lower()]))
    return pairs
