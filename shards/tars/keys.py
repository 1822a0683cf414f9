"""Keys of samples: the name that the image and the record of a sample share."""

from __future__ import annotations

import re

KEY_LENGTH = 90  # a USTAR name field has 100 bytes

# No dots: WebDataset ends the key at the first one. No capitals: some file systems cannot tell them apart.
KEY = re.compile(r"[0-9a-z_-]+(/[0-9a-z_-]+)*")
