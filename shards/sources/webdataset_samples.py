"""Faces in a WebDataset tar: `<key>.jpg` with the identity in `<key>.cls` or `<key>.json`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from shards.images.faces import Face, Skip, escaped, is_ignored_name
from shards.images.outcomes import Outcome
from shards.sources.archive_tree import Member, name_parts
from shards.sources.file_kinds import IMAGES, OTHER_IMAGES, is_archive
from shards.sources.webdataset_labels import MAX_LABEL_BYTES, Label, read_label

LABELS = (b"cls", b"json")

NO_LABEL = Label(None, "no .cls or .json with it")

DISAGREE = Label(None, "the .cls and .json files of its key disagree")

Read = Callable[[Member], bytes | None]


@dataclass
class Samples:
    """A tar, read as WebDataset samples.

    Attributes:
        labeled: images with an identity; the others are among `skipped`.
        images: all images of samples.
        people: pairs of the folder that an image lies in, "" for none, and its identity, None for none.
    """

    faces: list[Face] = field(default_factory=list)
    skipped: list[Skip] = field(default_factory=list)
    images: int = 0
    people: set[tuple[str, str | None]] = field(default_factory=set)

    @property
    def labeled(self) -> int:
        return len(self.faces)


def read_samples(archive: str, members: Iterable[Member], *, read: Read) -> Samples:
    """The faces, and everything else with its outcome.

    As in WebDataset, the key ends at the first dot of the name, and the members of a sample are adjacent; a name that
    comes again starts another sample. An image whose sample has no label gets that of the same key elsewhere in the
    tar, unless such labels disagree. An image with dots in its key, as in `john.smith.jpg`, is read if a label has
    the same name. Members that are neither image nor label are not parsed.
    """
    reader = _Reader(archive, read)
    for member in members:
        reader.take(member)
    return reader.end()


class _Reader:
    """Collects the samples of a tar, one member after the other."""

    def __init__(self, archive: str, read: Read) -> None:
        self.archive, self.read, self.found = archive, read, Samples()
        self.key: bytes | None = None  # this and the next four: of the current sample
        self.names: set[bytes] = set()
        self.images: list[Member] = []
        self.label: Label | None = None
        self.repeated = False  # whether the sample before has the same key
        self.apart: list[tuple[bytes, Member]] = []  # images of samples without a label, by key
        self.labels: dict[bytes, Label] = {}  # by key: those of samples without an image, and of repeated keys
        self.dotted: dict[bytes, list[tuple[bytes, Member]]] = {}  # images and labels with dots in their keys, by key

    def take(self, member: Member) -> None:
        parts = name_parts(member.name)
        if member.refused is not None or any(map(is_ignored_name, parts)):
            self._skip(member, member.refused or Outcome.IGNORED, "" if member.refused else "hidden or of the system")
            return
        folder, slash, name = member.name.rpartition(b"/")
        stem, _, kind = name.partition(b".")
        kind = kind.lower()
        key = folder + slash + stem
        if key != self.key or name in self.names:
            self._next_sample(key)
        self.names.add(name)
        last = kind.rpartition(b".")[2]
        if kind in IMAGES:
            self.images.append(member)
        elif kind in LABELS:
            self._take_label(read_label(self._content(member), kind=kind))
        elif last in IMAGES or last in LABELS:
            self.dotted.setdefault(member.name[: -len(last) - 1], []).append((last, member))
        elif last in OTHER_IMAGES:
            self._skip(member, Outcome.FORMAT, "by its name not JPEG, PNG, WebP or PNM")
        elif is_archive(name):
            self._skip(member, Outcome.UNREADABLE, "an archive inside the tar")
        else:
            self._skip(member, Outcome.IGNORED, "neither an image nor a label")

    def end(self) -> Samples:
        """What was found, after the last member."""
        self._next_sample(None)
        for key, image in self.apart:
            self._add(image, self.labels.get(key, NO_LABEL))
        if self.dotted:
            keys = {_key(face.path) for face in self.found.faces}
            keys |= {_key(skip.path) for skip in self.found.skipped if skip.outcome == Outcome.NO_IDENTITY}
            for key, members in self.dotted.items():
                self._end_dotted(members, label=_key(f"{self.archive}/{escaped(key)}") not in keys)
        return self.found

    def _take_label(self, label: Label) -> None:
        if self.label is None or (self.label.identity is None and label.identity is not None):
            self.label = label

    def _next_sample(self, key: bytes | None) -> None:
        again = key is not None and key == self.key
        if self.key is not None:
            if self.label is None:
                self.apart += [(self.key, image) for image in self.images]
            else:
                for image in self.images:
                    self._add(image, self.label)
                if not self.images or again or self.repeated:
                    known = self.labels.setdefault(self.key, self.label)
                    self.labels[self.key] = known if known.identity == self.label.identity else DISAGREE
        self.key, self.names, self.images, self.label, self.repeated = key, set(), [], None, again

    def _end_dotted(self, members: list[tuple[bytes, Member]], *, label: bool) -> None:
        """Images and labels of one key with dots; without `label` they are parts of a sample, as 0.mask.png is."""
        labels = [(kind, member) for kind, member in members if kind in LABELS]
        found = read_label(self._content(labels[0][1]), kind=labels[0][0]) if label and labels else NO_LABEL
        for kind, member in members:
            if label and kind in IMAGES:
                self._add(member, found)
            elif not label:
                self._skip(member, Outcome.IGNORED, "another part of a sample")

    def _content(self, member: Member) -> bytes | None:
        return self.read(member) if member.bytes <= MAX_LABEL_BYTES else None

    def _add(self, image: Member, label: Label) -> None:
        parts = name_parts(image.name)
        self.found.images += 1
        self.found.people.add((escaped(parts[-2]) if len(parts) > 1 else "", label.identity))
        if label.identity is None:
            self._skip(image, Outcome.NO_IDENTITY, label.reason)
            return
        path = f"{self.archive}/{escaped(image.name)}"
        self.found.faces.append(Face(identity=label.identity, path=path, bytes=image.bytes, location=image.location))

    def _skip(self, member: Member, outcome: Outcome, detail: str) -> None:
        self.found.skipped.append(Skip(path=f"{self.archive}/{escaped(member.name)}", outcome=outcome, detail=detail))


def _key(path: str) -> str:
    """The key of a path: up to the first dot of the name."""
    folder, slash, name = path.rpartition("/")
    return folder + slash + name.partition(".")[0]
