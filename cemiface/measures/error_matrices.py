"""Error matrices of nets that tell classes, as tables that stand beside every figure by class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cemiface.measures.net_cards import AttributeNet, Output


@dataclass(frozen=True, kw_only=True)
class ErrorTable:
    """A net's error matrix as text.

    Attributes:
        title: which net, measured on what.
        rows: the heads of the columns, then a row per true label: the label, the share of each answer in percent, and
            the number of faces.
    """

    title: str
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        head, *rest = ("| " + " | ".join(row) + " |" for row in self.rows)
        return "\n".join((f"{self.title}", "", head, "|---" * len(self.rows[0]) + "|", *rest, ""))


def error_tables(nets: Sequence[AttributeNet]) -> tuple[ErrorTable, ...]:
    """A table for each output of classes that the nets have."""
    return tuple(_table(net, output) for net in nets for output in net.card.outputs if output.kind == "classes")


def _table(net: AttributeNet, output: Output) -> ErrorTable:
    matrix = output.error_matrix
    assert matrix is not None  # a card without it is refused
    title = (
        f"Errors of the net {net.card.name!r} for {output.name}, on {matrix.data} at {matrix.size} px ({matrix.date})"
    )
    head = ("true label", *(f"taken for {label}" for label in output.labels), "faces")
    rows = (_row(label, counts) for label, counts in zip(output.labels, matrix.counts, strict=True))
    return ErrorTable(title=title, rows=(head, *rows))


def _row(label: str, counts: Sequence[int]) -> tuple[str, ...]:
    total = sum(counts)
    return (label, *(f"{100 * count / total:.1f} %" if total else "-" for count in counts), f"{total:,}")
