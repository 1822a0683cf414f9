"""Images of a source that were lost while it was listed: too many are refused before any work is done."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence

from shards.errors import DataError
from shards.images.faces import Listing, Skip
from shards.images.outcomes import Outcome

log = logging.getLogger(__name__)

NO_LOSS = {Outcome.IGNORED, Outcome.NOT_LISTED}  # litter and files that are no images; what the user's list leaves out


def refuse_losses(listing: Listing, *, allowed: float, where: str) -> None:
    """Refuse a source of which more than the fraction `allowed` of the images could not be listed.

    Raises:
        DataError: with the outcomes, and the first lost image.
    """
    lost = _lost(listing)
    if len(lost) > allowed * (len(lost) + len(listing.faces)):
        found = _described(lost, listing, where=where)
        remedy = f"allowed: a fraction of {allowed}; fix them or raise shard.max_bad_fraction"
        raise DataError(f"shard.faces: {found}; {remedy}")


def warn_of_losses(listing: Listing, *, field: str, where: str) -> None:
    """Log what could not be listed of a source that has no limit for it."""
    lost = _lost(listing)
    if lost:
        log.warning("%s: %s", field, _described(lost, listing, where=where))


def _lost(listing: Listing) -> list[Skip]:
    return [skip for skip in listing.skipped if skip.outcome not in NO_LOSS]


def _described(lost: Sequence[Skip], listing: Listing, *, where: str) -> str:
    counts = Counter(skip.outcome.value for skip in lost)
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common())
    total = len(lost) + len(listing.faces)
    reason = f" ({lost[0].detail})" if lost[0].detail else ""
    left = f"{len(lost)} of {total} images in {where} would be left out: {outcomes}"
    return f"{left}; the first is {lost[0].path}{reason}"
