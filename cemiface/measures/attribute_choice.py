"""Which nets measure which attributes. For plans: imports neither torch nor a runtime."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from pydantic import Field

from cemiface.errors import ModelError
from cemiface.measures.net_cards import EMBEDDED, AttributeNet, read_card
from cemiface.values import FrozenModel

LIGHT = "light"  # needs no net
DEFAULTS = ("gender.json", "age.json", "face_mesh.json")


class AttributesConfig(FrozenModel):
    """For the section of a stage that measures attributes."""

    attributes: tuple[str, ...] = Field(
        default=(),
        description="card files of further attribute nets (docs/attributes.md); one that gives an attribute of the "
        "suite's own nets takes its place. Own nets: male, age, yaw, pitch, roll, mouth, smile, eyes, face",
    )


class Choice(FrozenModel):
    """The nets to load, and the attributes to take from each."""

    nets: tuple[tuple[AttributeNet, tuple[str, ...]], ...]

    @property
    def names(self) -> tuple[str, ...]:
        return (*(name for _, names in self.nets for name in names), LIGHT)


def choose_nets(cards: Sequence[str | Path] = (), *, size: int, wanted: Collection[str] | None = None) -> Choice:
    """The nets for aligned faces of `size` px.

    Args:
        cards: of the user's nets; they go before the embedded ones.
        wanted: the attributes that are needed. None means all that can be measured at this size.

    Raises:
        ModelError: a card that cannot be read, two cards for one attribute, a wanted attribute that no net gives, or
            one whose net is worth nothing at this size.
    """
    given = [read_card(path) for path in cards]
    for net in given:
        _check_size(net, size=size, asked=f"attributes: {net.path}")
    owners = {
        name: net for net in map(read_card, (EMBEDDED / name for name in DEFAULTS)) for name in net.card.attributes
    }
    seen: dict[str, AttributeNet] = {}
    for net in given:
        for name in net.card.attributes:
            if name in seen:
                raise ModelError(f"attributes: {net.path} gives {name!r}, as {seen[name].path} does; give one of them")
            seen[name] = net
    owners |= seen
    if wanted is None:
        wanted = {name for name, net in owners.items() if net.card.smallest_face <= size}
    for name in sorted(set(wanted) - {LIGHT}):
        if name not in owners:
            known = ", ".join(sorted({*owners, LIGHT}))
            raise ModelError(f"attributes: no net gives {name!r}; known: {known}. Add a net's card to `attributes`")
        _check_size(owners[name], size=size, asked=f"{name}")
    nets = {net.path: net for net in owners.values()}
    chosen = (
        (net, tuple(name for name in net.card.attributes if name in wanted and owners[name] is net))
        for net in nets.values()
    )
    return Choice(nets=tuple((net, names) for net, names in chosen if names))


def _check_size(net: AttributeNet, *, size: int, asked: str) -> None:
    if size < net.card.smallest_face:
        raise ModelError(
            f"{asked} at {size} px: the net {net.card.name!r} is worth nothing below {net.card.smallest_face} px "
            "(its card says how it was measured); use larger images, another net, or do without"
        )
