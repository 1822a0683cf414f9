"""Lists of image pairs for verification, in LFW's format or as a table with a header."""

from __future__ import annotations

import csv
import io
from collections import Counter
from dataclasses import dataclass

from shards.errors import DataError, parsing, shown
from shards.small_files import is_number

COLUMNS = ("a", "b", "same")

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
    """Pairs of a list in one of two formats, told apart by the first line.

    LFW's: a first line of folds and pairs per kind (or of the pairs alone), then lines of `person n1 n2` or
    `person1 n1 person2 n2`, which stand for `person/person_000n.jpg`. The table: tab or comma separated, with columns
    a, b, same (0 or 1) and, where it has folds, fold.

    Raises:
        DataError: with the line that does not fit; folds of different sizes; no pairs at all; more than `MAX_BYTES`.
    """
    if len(text) > MAX_BYTES:
        raise DataError(f"{name}: {len(text)} characters, allowed are {MAX_BYTES}; is it another file?")
    lines = text.splitlines()
    if not lines:
        raise DataError(f"{name}: is empty; expected a list of pairs")
    table = not all(is_number(word) for word in lines[0].split())
    pairs = _table(text, name=name) if table else _lfw(lines, name=name, extension=extension)
    if not pairs:
        raise DataError(f"{name}: has no pairs")
    pairs.sort(key=lambda pair: pair.fold)  # stable: within a fold the list's order stays
    sizes = Counter(pair.fold for pair in pairs)
    if len(set(sizes.values())) > 1:
        raise DataError(f"{name}: folds of {min(sizes.values())} to {max(sizes.values())} pairs; expected equal ones")
    if len(sizes) == 1:
        pairs = _interleaved(pairs)
    return PairList(
        first=[pair.a for pair in pairs],
        second=[pair.b for pair in pairs],
        same=[pair.same for pair in pairs],
        folds=len(sizes) if len(sizes) > 1 else None,
    )


def _interleaved(pairs: list[_Pair]) -> list[_Pair]:
    """Mated and non-mated pairs spread evenly, each kind in its own order."""
    kinds = [[pair for pair in pairs if pair.same == same] for same in (True, False)]
    positions = [((rank + 0.5) / len(kind), pair) for kind in kinds for rank, pair in enumerate(kind)]
    return [pair for _, pair in sorted(positions, key=lambda position: position[0])]


def _lfw(lines: list[str], *, name: str, extension: str) -> list[_Pair]:
    head = [int(word) for word in lines[0].split()]
    if len(head) not in (1, 2) or min(head) < 1:
        raise DataError(f"{name}: line 1: got {shown(lines[0])!r}; expected the numbers of folds and of pairs per kind")
    folds, each = head if len(head) == 2 else (1, head[0])
    if len(lines) - 1 != 2 * folds * each:
        raise DataError(f"{name}: got {len(lines) - 1} pairs; line 1 says {folds} folds of {each} of either kind")

    def path(person: str, number: str) -> str:
        return f"{person}/{person}_{int(number):04d}{extension}"

    pairs = []
    for index, line in enumerate(lines[1:]):
        words = line.split("\t") if "\t" in line else line.split()
        fold, within = divmod(index, 2 * each)
        mated = within < each
        numbers = words[1::2] if not mated else words[1:]
        if len(words) != (3 if mated else 4) or not all(is_number(number) for number in numbers):
            wanted = "person n1 n2" if mated else "person1 n1 person2 n2"
            raise DataError(f"{name}: line {index + 2}: got {shown(line)!r}; expected {wanted}")
        a = path(words[0], words[1])
        b = path(words[0], words[2]) if mated else path(words[2], words[3])
        pairs.append(_Pair(fold=fold, a=a, b=b, same=mated))
    return pairs


def _table(text: str, *, name: str) -> list[_Pair]:
    rows = csv.DictReader(io.StringIO(text), delimiter="\t" if "\t" in text.partition("\n")[0] else ",")
    with parsing(name, kind="a table of pairs"):
        missing = [column for column in COLUMNS if column not in (rows.fieldnames or [])]
        found = list(rows)
    if missing:
        raise DataError(f"{name}: line 1: columns {', '.join(missing)} are missing; expected a, b, same and maybe fold")
    pairs = []
    for number, row in enumerate(found, start=2):
        fold = row.get("fold") or "0"
        if not row["a"] or not row["b"] or row["same"] not in ("0", "1") or not is_number(fold):
            got = shown(str(dict(row)))
            raise DataError(f"{name}: line {number}: got {got}; expected two paths, same 0 or 1, fold a number")
        pairs.append(_Pair(fold=int(fold), a=row["a"], b=row["b"], same=row["same"] == "1"))
    return pairs
