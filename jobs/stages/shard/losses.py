"""Images of a source that were lost while it was listed: too many are refused before any work is done."""

from __future__ import annotations

from collections import Counter

from shards.errors import DataError
from shards.images.faces import Listing
from shards.images.outcomes import Outcome

NO_LOSS = {Outcome.IGNORED, Outcome.NOT_LISTED}  # litter and files that are no images; what the user's list leaves out


def refuse_losses(listing: Listing, *, allowed: float, where: str) -> None:
    """Refuse a source of which more than the fraction `allowed` of the images could not be listed.

    Raises:
        DataError: with the outcomes, and the first lost image.
    """
    lost = [skip for skip in listing.skipped if skip.outcome not in NO_LOSS]
    total = len(lost) + len(listing.faces)
    if len(lost) <= allowed * total:
        return
    outcomes = ", ".join(
        f"{count} {outcome}" for outcome, count in Counter(s.outcome.value for s in lost).most_common()
    )
    reason = f" ({lost[0].detail})" if lost[0].detail else ""
    raise DataError(
        f"shard.faces: {len(lost)} of {total} images in {where} would be left out: {outcomes}; the first is "
        f"{lost[0].path}{reason}; allowed: a fraction of {allowed}; fix them or raise shard.max_bad_fraction"
    )
