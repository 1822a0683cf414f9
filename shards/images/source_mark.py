"""The mark in a synthetic picture's file: an XMP packet with IPTC's digital source type, and where the picture is from.

The mark does not touch the pixels. Its bytes follow from the version of the suite, the set's seed and the image's key.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from shards.images.headers import JPEG_MAGIC

SYSTEM = "CemiFace batch suite"

# IPTC NewsCodes: made by a model that learned from sampled content. "Digital Source Type" of IPTC Photo Metadata.
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"

# Ends this code and that for pictures which are synthetic in part, compositeWithTrainedAlgorithmicMedia.
SAYS_SYNTHETIC = b"rainedAlgorithmicMedia"

XMP = b"http://ns.adobe.com/xap/1.0/\0"  # begins an APP1 segment with an XMP packet (ISO 16684-3)

APP0, APP1 = b"\xff\xe0", b"\xff\xe1"

SHEET = "samples"  # in place of a key, in the mark of a sheet of several images

PACKET = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""'
    ' xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" xmlns:dc="http://purl.org/dc/elements/1.1/"'
    f' Iptc4xmpExt:DigitalSourceType="{SOURCE_TYPE}" Iptc4xmpExt:AISystemUsed="{SYSTEM}"'
    ' Iptc4xmpExt:AISystemVersionUsed="VERSION" dc:identifier="seed SEED image KEY"/></rdf:RDF></x:xmpmeta>'
    '<?xpacket end="r"?>'
)

_MARK = re.compile(
    re.escape(XMP + PACKET.encode())
    .replace(b"VERSION", rb"(?P<version>[0-9]{1,4}(?:\.[0-9]{1,4}){2})")
    .replace(b"SEED", rb"(?P<seed>[0-9]{1,20})")
    .replace(b"KEY", rb"(?P<key>[0-9]{6,18}-[0-9]{3,18}|samples)")
)


@dataclass(frozen=True, kw_only=True)
class SourceMark:
    """What a mark says beside that the picture is synthetic.

    Attributes:
        version: of the suite, three numbers.
        seed: of the set.
        key: of the image in its tar, or `SHEET`.
    """

    version: str
    seed: int
    key: str


def marked(jpeg: bytes, mark: SourceMark) -> bytes:
    """The JPEG with the mark. It must have none yet."""
    text = PACKET.replace("VERSION", mark.version).replace("SEED", str(mark.seed)).replace("KEY", mark.key)
    content = XMP + text.encode()
    assert _MARK.fullmatch(content)
    at = _place(jpeg)
    return jpeg[:at] + APP1 + (len(content) + 2).to_bytes(2, "big") + content + jpeg[at:]


def mark_of(jpeg: bytes) -> SourceMark | None:
    """The mark of a JPEG, if it has one as this suite writes it, and where it writes it."""
    found = _MARK.fullmatch(_content(jpeg))
    if found is None:
        return None
    version, seed, key = (part.decode() for part in found.groups())
    return SourceMark(version=version, seed=int(seed), key=key)


def is_mark(content: bytes) -> bool:
    """Whether the content of an APP1 segment is a mark."""
    return _MARK.fullmatch(content) is not None


def without_mark(jpeg: bytes) -> bytes:
    """The JPEG as it was before it was marked."""
    if mark_of(jpeg) is None:
        return jpeg
    at = _place(jpeg)
    return jpeg[:at] + jpeg[at + 4 + len(_content(jpeg)) :]


def says_synthetic(data: bytes) -> bool:
    """Whether an image file of any format says by IPTC's code that it is synthetic, in whole or in part.

    XMP and C2PA hold the code as plain text. Text that a PNG compresses is not read.
    """
    return SAYS_SYNTHETIC in data


def _content(jpeg: bytes) -> bytes:
    """The content of the APP1 segment where a mark would be; empty if there is none."""
    at = _place(jpeg)
    if not jpeg.startswith(JPEG_MAGIC) or jpeg[at : at + 2] != APP1:
        return b""
    return jpeg[at + 4 : at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")]


def _place(jpeg: bytes) -> int:
    """Behind the JFIF header, which has to come first, if there is one."""
    return 4 + int.from_bytes(jpeg[4:6], "big") if jpeg[2:4] == APP0 else 2
