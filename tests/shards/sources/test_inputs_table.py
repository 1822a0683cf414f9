"""The table of docs/inputs.md: each oddity is built beside ordinary images, and what becomes of it is compared."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from cemiface.errors import ModelError
from cemiface.recognition.config import RecognitionConfig
from cemiface.recognition.nets import build_recognition, load_recognition
from shards.errors import DataError
from shards.images.faces import UnreadableFaceError
from shards.images.prepare import prepare
from shards.images.rules import ImageRules
from shards.small_files import read_lines
from shards.sources.benchmarks.bin_file import read_bin
from shards.sources.benchmarks.image_files import ImageSource
from shards.sources.benchmarks.pair_lists import read_pairs
from shards.sources.formats import Format
from shards.sources.recordio import HEAD, MAGIC
from shards.sources.selections import read_selection, select
from shards.sources.sources import open_source

from ..pictures import jpeg
from .test_folder_source import put
from .test_webdataset_samples import repeated

DOCS = Path(__file__).parents[3] / "docs" / "inputs.md"

IMAGE, OTHER = jpeg(1, size=32), jpeg(2, size=32)

Members = list[tuple[str, bytes]]

TREE: Members = [(f"{person}/{number}.jpg", IMAGE) for person in ("anna", "bob") for number in range(2)]

SAMPLES: Members = [
    (f"{number}.{kind}", data) for number in range(4) for kind, data in (("jpg", IMAGE), ("cls", b"%d" % (number % 2)))
]


def rows(heading: str) -> Iterator[tuple[str, str, str]]:
    """Source, oddity and result of each row of the first table below a heading."""
    text = DOCS.read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| ") and cells[0] not in ("source", "file"):
            yield cells[0], cells[1], cells[2].rstrip(" |")


def tree(root: Path, *more: tuple[str, bytes]) -> Path:
    for name, data in (*TREE, *more):
        put(root / name, data)
    return root


def tar(root: Path, *more: tuple[str, bytes], first: Members = TREE, name: str = "a.tar") -> Path:
    root.mkdir(exist_ok=True)
    repeated(root / name, [*first, *more])
    return root


def samples(root: Path, *more: tuple[str, bytes]) -> Path:
    return tar(root, *more, first=SAMPLES)


def zipped(root: Path, change: Callable[[zipfile.ZipFile], None]) -> Path:
    root.mkdir(exist_ok=True)
    with zipfile.ZipFile(root / "a.zip", "w") as archive:
        for name, data in TREE:
            archive.writestr(name, data)
        change(archive)
    return root


def special(root: Path, *kinds: bytes) -> Path:
    with tarfile.open(tar(root) / "a.tar", "a") as archive:
        for kind in kinds:
            info = tarfile.TarInfo(f"anna/{kind.decode()}.jpg")
            info.type, info.linkname = kind, "anna/0.jpg"
            archive.addfile(info)
    return root


def records(root: Path, *, labels: tuple[float, ...] = (3, 3, 5, 5), unnamed: int = 0, index: bool = True) -> Path:
    root.mkdir(exist_ok=True)
    data, lines = io.BytesIO(), []
    for key, label in enumerate(labels):
        payload = struct.pack("<IfQQ", 0, label, key, 0) + IMAGE
        lines.append(f"{key}\t{data.tell()}\n")
        data.write(HEAD.pack(MAGIC, len(payload)) + payload + bytes(-len(payload) % 4))
    (root / "train.rec").write_bytes(data.getvalue())
    if index:
        (root / "train.idx").write_text("".join(lines[: len(lines) - unnamed]))
    return root


def also(root: Path, name: str, data: bytes = b"x") -> Path:
    put(root / name, data)
    return root


def link(root: Path, name: str, target: str) -> Path:
    (root / name).symlink_to(target)
    return root


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def twice(path: Path) -> None:
    path.write_bytes(path.read_bytes() * 2)


def then(root: Path, *steps: object) -> Path:
    return root


def labels(*, value: Callable[[str], object]) -> list[tuple[str, bytes]]:
    return [(name.replace(".jpg", ".json"), json.dumps({"label": value(name)}).encode()) for name, _ in TREE]


def cls(key: str, *, image: str = "jpg", label: bytes = b"0", kind: str = "cls") -> Members:
    return [(f"{key}.{image}", OTHER), (f"{key}.{kind}", label)]


SYSTEM_FILES = (".DS_Store", "._1.jpg", "Thumbs.db", "desktop.ini")
SYSTEM_FOLDERS = ("@eaDir", "_tmp", "#recycle", "lost+found", "__MACOSX")
LABELS = (b'{"label": NaN}', b'{"label": 1.5}', b'{"label": true}', b'{"label": null}', b'{"label": ""}')
NO_CLASS = (b"", b"nan", b"inf", b"null", b"None")

# By source and oddity: what builds it in a folder, one entry of its kind per variant, and the format if it is stated.
ODD: dict[tuple[str, str], Callable[[Path], Path]] = {
    ("folder", "file of the system: `.DS_Store`, `._1.jpg`, `Thumbs.db`, `desktop.ini`"): lambda root: tree(
        root, *((f"anna/{name}", b"x") for name in SYSTEM_FILES), *((name, b"x") for name in SYSTEM_FILES)
    ),
    ("folder", "folder of the system: `@eaDir`, `_tmp`, `#recycle`, `lost+found`, `__MACOSX`"): lambda root: tree(
        root, *((f"{name}/1.jpg", IMAGE) for name in SYSTEM_FOLDERS)
    ),
    ("folder", "text beside the identity folders"): lambda root: tree(root, ("README", b"x")),
    ("folder", "image beside the identity folders"): lambda root: tree(root, ("1.jpg", IMAGE)),
    ("folder", "text in an identity folder"): lambda root: tree(root, ("anna/list.txt", b"x")),
    ("folder", "link to an image"): lambda root: link(tree(root), "anna/9.jpg", "0.jpg"),
    ("folder", "link to an identity folder"): lambda root: link(tree(root), "carl", "anna"),
    ("folder", "pipe in an identity folder"): lambda root: then(tree(root), os.mkfifo(root / "anna" / "p")),
    ("folder", "empty image"): lambda root: tree(root, ("anna/9.jpg", b"")),
    ("folder", "image cut short"): lambda root: tree(root, ("anna/9.jpg", IMAGE[:-40])),
    ("folder", "image of another size"): lambda root: tree(root, ("anna/9.jpg", jpeg(3, size=48))),
    ("folder", "image under another suffix"): lambda root: tree(root, ("anna/9.txt", OTHER)),
    ("folder", "folder inside an identity folder"): lambda root: tree(root, ("anna/more/1.jpg", IMAGE)),
    ("folder", "tar or zip beside the identity folders"): lambda root: tar(tree(root)),
    ("folder", "tar or zip beside the identity folders, `format: folder`"): lambda root: tar(tree(root)),
    ("folder", "compressed tar beside the identity folders"): lambda root: tree(root, ("a.tar.gz", b"x")),
    ("folder", "linked tar beside the identity folders"): lambda root: link(tree(root), "a.tar", "/a.tar"),
    ("folder", "archive in an identity folder"): lambda root: tree(root, ("anna/a.zip", b"x")),
    ("archives", "file of the system in the archive"): lambda root: tar(
        root, *((f"anna/{name}", b"x") for name in SYSTEM_FILES), ("__MACOSX/anna/1.jpg", b"x")
    ),
    ("archives", "text in no folder"): lambda root: tar(root, ("README", b"x")),
    ("archives", "image in no folder"): lambda root: tar(root, ("1.jpg", IMAGE)),
    ("archives", "link in a tar"): lambda root: special(root, tarfile.SYMTYPE),
    ("archives", "hard link or device in a tar"): lambda root: special(root, tarfile.LNKTYPE, tarfile.CHRTYPE),
    ("archives", "encrypted or oddly compressed member of a zip"): lambda root: zipped(
        root, lambda archive: archive.writestr("anna/9.jpg", IMAGE, compress_type=zipfile.ZIP_LZMA)
    ),
    ("archives", "name that comes again: the last is used"): lambda root: tar(root, ("anna/0.jpg", OTHER)),
    ("archives", "folder inside an identity folder"): lambda root: tar(root, ("anna/more/1.jpg", IMAGE)),
    ("archives", "archive inside the archive"): lambda root: tar(root, ("b.tar", b"x")),
    ("archives", "label file beside one image"): lambda root: tar(root, labels(value=len)[0]),
    ("archives", "label file beside one image, `format: archives`"): lambda root: tar(root, labels(value=len)[0]),
    ("archives", "equal label files beside the images of several people"): lambda root: tar(
        root, *labels(value=lambda name: 0)
    ),
    ("archives", "label file that says what the folder says beside every image"): lambda root: tar(
        root, ("anna/9.jpg", OTHER), ("anna/9.cls", b"anna"), *labels(value=lambda name: name.partition("/")[0])
    ),
    ("archives", "JSON without an identity beside an image"): lambda root: tar(root, ("anna/0.json", b'{"age": 3}')),
    ("archives", "compressed, split or partly loaded archive beside it"): lambda root: also(tar(root), "b.tar.xz"),
    ("archives", "linked archive beside it"): lambda root: link(tar(root), "b.tar", "a.tar"),
    ("archives", "folder of images beside it"): lambda root: also(tar(root), "anna/1.jpg"),
    ("archives", "folder of images beside it, `format: archives`"): lambda root: also(tar(root), "anna/1.jpg"),
    ("archives", "text or index beside it"): lambda root: also(also(tar(root), "README"), "a.tar.idx"),
    ("archives", "image beside it"): lambda root: also(tar(root), "1.jpg"),
    ("archives", "suffix in upper case"): lambda root: tar(tar(root), first=[("carl/1.jpg", OTHER)], name="B.TAR"),
    ("archives", "cut short"): lambda root: then(tar(root), cut(root / "a.tar", 1500)),
    ("archives", "two tars in one file"): lambda root: then(tar(root), twice(root / "a.tar")),
    ("webdataset", "image without a label"): lambda root: samples(root, ("9.jpg", OTHER)),
    ("webdataset", "label that is NaN, 1.5, true, null or empty"): lambda root: samples(
        root, *(member for n, data in enumerate(LABELS) for member in cls(f"9{n}", label=data, kind="json"))
    ),
    ("webdataset", "`.cls` that is empty or holds nan, inf, null or None"): lambda root: samples(
        root, *(member for n, data in enumerate(NO_CLASS) for member in cls(f"9{n}", label=data))
    ),
    ("webdataset", "label twice in one JSON"): lambda root: samples(
        root, *cls("9", label=b'{"label": 1, "label": 2}', kind="json")
    ),
    ("webdataset", "JSON that does not parse"): lambda root: samples(root, *cls("9", label=b"{", kind="json")),
    ("webdataset", "NaN in a field that is not the label"): lambda root: samples(
        root, *cls("9", label=b'{"label": 1, "score": NaN}', kind="json")
    ),
    ("webdataset", "label 7.0, for 7"): lambda root: samples(root, *cls("9", label=b'{"label": 7.0}', kind="json")),
    ("webdataset", "`.cls` with 7.0 or 7.000e+00, for 7"): lambda root: samples(
        root, *cls("9", label=b"7.0"), *cls("8", label=b"7.000e+00")
    ),
    ("webdataset", "byte-order mark before the label"): lambda root: samples(root, *cls("9", label=b"\xef\xbb\xbf1")),
    ("webdataset", "suffix in upper case"): lambda root: samples(
        root, *cls("9", image="JPG", label=b'{"label": 1}', kind="JSON")
    ),
    ("webdataset", "key with dots, with a label of the same name"): lambda root: samples(root, *cls("john.smith.1")),
    ("webdataset", "members of a sample apart from each other"): lambda root: tar(
        root, first=[("9.jpg", OTHER), *SAMPLES, ("9.cls", b"1")]
    ),
    ("webdataset", "file of the system between the members of a sample"): lambda root: samples(
        root, ("9.jpg", OTHER), ("._9.jpg", b"x"), ("9.cls", b"1")
    ),
    (
        "webdataset",
        "label of a key that comes again, for an image apart, where the labels disagree",
    ): lambda root: samples(root, ("9.cls", b"1"), ("8.cls", b"0"), ("9.cls", b"2"), ("8.cls", b"0"), ("9.jpg", OTHER)),
    ("webdataset", "key that comes again with its own label"): lambda root: samples(root, *cls("0", label=b"7")),
    ("webdataset", "another part of the sample: `0.seg.png`, `0.txt`, `0.pkl` (never parsed)"): lambda root: samples(
        root, *cls("9"), ("9.seg.png", b"x"), ("9.txt", b"x"), ("9.pkl", b"x")
    ),
    ("webdataset", "image in another format by its name"): lambda root: samples(root, ("3.gif", b"x")),
    ("webdataset", "archive as a member"): lambda root: samples(root, ("3.zip", b"x")),
    ("webdataset", "tar without any label beside the others"): lambda root: tar(
        samples(root), first=[("0.jpg", OTHER)], name="b.tar"
    ),
    ("recordio", "record that the index does not name"): lambda root: records(root, labels=(3, 3, 5, 5, 5), unnamed=1),
    ("recordio", "label that is no whole number"): lambda root: records(root, labels=(3, 3, 5, 5, 1.5)),
    ("recordio", "benchmark or folder beside it"): lambda root: also(also(records(root), "lfw.bin"), "imgs/1.jpg"),
    ("recordio", "archive beside it"): lambda root: tar(records(root)),
    ("recordio", "second `.rec` file"): lambda root: also(records(root), "b.rec"),
    ("recordio", "index of another file"): lambda root: then(
        records(root), (root / "train.idx").write_text("0\t0\n1\t8\n")
    ),
    ("recordio", "all labels 0 and no `list.txt`"): lambda root: records(root, labels=(0, 0, 0)),
    ("recordio", "cut short"): lambda root: then(records(root), cut(root / "train.rec", 1000)),
}

STATED: dict[str, Format] = {"`format: folder`": "folder", "`format: archives`": "archives"}


def becomes(root: Path, *, form: Format) -> Counter[str]:
    """How often each outcome comes out of a source."""
    source = open_source(root, form=form)
    listing = source.listing()
    counts = Counter(skip.outcome.value for skip in listing.skipped)
    for face in listing.faces:
        try:
            counts[prepare(source.read(face), rules=ImageRules(size=32)).outcome.value] += 1
        except UnreadableFaceError as error:
            counts[error.outcome.value] += 1
    return counts


def test_the_table_names_every_oddity_that_is_built_and_no_other() -> None:
    assert [(source, oddity) for source, oddity, _ in rows("Sources")] == list(ODD)


@pytest.mark.parametrize(("source", "oddity", "result"), list(rows("Sources")))
def test_each_oddity_becomes_what_the_table_says(tmp_path: Path, source: str, oddity: str, result: str) -> None:
    root = ODD[source, oddity](tmp_path / "faces")
    form = STATED.get(oddity.rpartition(", ")[2], "auto")
    if result == "refused":
        with pytest.raises(DataError) as caught:
            becomes(root, form=form)
        assert "\n" not in str(caught.value)
        return
    found, outcome = becomes(root, form=form), result.strip("`")
    assert found.pop("kept") >= (5 if outcome == "kept" else 4)
    assert set(found) == {outcome} - {"kept"}


@pytest.mark.parametrize("source", ["folder", "archives", "webdataset", "recordio"])
def test_an_ordinary_source_of_each_format_has_nothing_but_images(tmp_path: Path, source: str) -> None:
    build = {"folder": tree, "archives": tar, "webdataset": samples, "recordio": records}[source]
    assert becomes(build(tmp_path / "faces"), form="auto") == {"kept": 4}
    assert becomes(tmp_path / "faces", form=source) == {"kept": 4}  # type: ignore[arg-type]


def listed(root: Path, data: bytes | str, *, images: str = "faces") -> None:
    """Read a list of pairs and look for its images, as the stage convert-benchmarks does."""
    put(root / "pairs", data.encode() if isinstance(data, str) else data)
    pairs = read_pairs(read_lines(root / "pairs", limit=10_000), name="pairs")
    files = ImageSource(root / images)
    assert {len(files.read(path)) for path in (*pairs.first, *pairs.second)} == {len(IMAGE)}


def selected(root: Path, data: bytes | str, *, count: int = 2) -> None:
    put(root / "only", data.encode() if isinstance(data, str) else data)
    chosen = read_selection(read_lines(root / "only", limit=10_000), name="only")
    assert len(select(open_source(root / "faces").listing(), chosen, name="only").faces) == count


def weights(root: Path, *prefixes: str) -> None:
    net = build_recognition(RecognitionConfig(net="ir_tiny", image_size=32, embedding=16))
    torch.save({f"{p}{name}": value for p in prefixes for name, value in net.state_dict().items()}, root / "net.pt")
    load_recognition(root / "net.pt", config=RecognitionConfig(net="ir_tiny", image_size=32, embedding=16))


def binary(value: object, *, protocol: int = 2) -> None:
    read_bin(pickle.dumps(value, protocol=protocol), name="x.bin")


PAIR = "anna/0.jpg{0}bob/1.jpg{0}{1}"

# By file and oddity: each reads what has the oddity, or a variant of it.
FILES: dict[tuple[str, str], list[Callable[[Path], object]]] = {
    ("any list", "byte-order mark, UTF-16 with a mark, CR LF"): [
        lambda root: selected(root, "\ufeffanna/0.jpg\r\nbob/1.jpg\r\n"),
        lambda root: selected(root, "path\tage\r\nanna/0.jpg\t1\r\nbob/1.jpg\t2\r\n".encode("utf-16")),
        lambda root: listed(root, "\ufeffa,b,same\r\nanna/0.jpg,bob/1.jpg,0\r\n"),
    ],
    ("any list", "blank lines"): [
        lambda root: selected(root, "\nanna/0.jpg\n\nbob/1.jpg\n\n"),
        lambda root: listed(root, "a,b,same\n\nanna/0.jpg,bob/1.jpg,0\n\n"),
    ],
    ("any list", "backslashes between folders, in all lines"): [
        lambda root: selected(root, "faces\\anna\\0.jpg\nfaces\\bob\\1.jpg\n"),
        lambda root: listed(root, "a,b,same\nanna\\0.jpg,bob\\1.jpg,0\n"),
    ],
    ("`shard.only`", "table with `;`, column `Path`"): [
        lambda root: selected(root, "Path;age\nanna/0.jpg;1\nbob/1.jpg;2\n")
    ],
    ("`shard.only`", "a label behind every path"): [lambda root: selected(root, "anna/0.jpg 0\nbob/1.jpg 1\n")],
    ("`shard.only`", "image that is not in the source"): [lambda root: selected(root, "anna/7.jpg\n")],
    ("pairs", "LFW's own list"): [lambda root: read_pairs("1\nanna 1 2\nanna 1 bob 1\n\n", name="x")],
    ("pairs", "`path path 0/1`, also with `;`, commas or tabs, or the truth first"): [
        *(lambda root, sign=sign: listed(root, PAIR.format(sign, 1)) for sign in (" ", ";", ",", "\t")),  # type: ignore[misc]
        lambda root: listed(root, "0 anna/0.jpg bob/1.jpg"),
    ],
    ("pairs", "True and False for 1 and 0"): [
        lambda root: listed(root, PAIR.format(" ", "False")),
        lambda root: listed(root, "a,b,same\nanna/0.jpg,bob/1.jpg,True\n"),
    ],
    ("pairs", "header with other columns"): [lambda root: listed(root, "left,right,label\nanna/0.jpg,bob/1.jpg,0\n")],
    ("pairs", "truth of another kind: yes, -1, 0.5"): [
        *(lambda root, truth=truth: listed(root, PAIR.format(",", truth)) for truth in ("yes", "-1", "0.5"))  # type: ignore[misc]
    ],
    ("pairs", "images in another folder: the message names it"): [
        lambda root: listed(root, PAIR.format(" ", 1), images="faces/anna")
    ],
    ("`.bin`", "text protocol of Python 2"): [
        lambda root: read_bin(b"(lp0\n(lS'\\xff\\xd8'\naS'b'\naa(lI01\naa.", name="x.bin")
    ],
    ("`.bin`", "arrays and booleans of numpy"): [
        lambda root: binary(([np.frombuffer(IMAGE, np.uint8)] * 2, np.array([True])), protocol=5),
        lambda root: binary(([IMAGE] * 2, [np.bool_(True)])),
    ],
    ("`.bin`", "arrays of images that are decoded already"): [
        lambda root: binary(([np.zeros((4, 4, 3), np.uint8)] * 2, [True]))
    ],
    ("`.bin`", "anything that would run code"): [lambda root: binary(([os.system, b"x"], [True]))],
    ("weights", "names behind `module.`, `model.`, `net.`, `backbone.`, `_orig_mod.`, `ema.`"): [
        *(
            lambda root, prefix=prefix: weights(root, prefix)  # type: ignore[misc]
            for prefix in ("module.", "model.", "net.", "backbone.", "_orig_mod.", "ema.")
        )
    ],
    ("weights", "two nets in one file"): [lambda root: weights(root, "model.", "ema.")],
}


def test_the_table_of_files_names_every_oddity_that_is_built_and_no_other() -> None:
    assert [(file, oddity) for file, oddity, _ in rows("Lists, benchmarks, weights")] == list(FILES)


@pytest.mark.parametrize(("file", "oddity", "result"), list(rows("Lists, benchmarks, weights")))
def test_each_file_is_read_or_refused_as_the_table_says(tmp_path: Path, file: str, oddity: str, result: str) -> None:
    tree(tmp_path / "faces")
    for read in FILES[file, oddity]:
        if result == "read":
            read(tmp_path)
            continue
        assert result == "refused"
        with pytest.raises((DataError, ModelError)) as caught:
            read(tmp_path)
        assert "\n" not in str(caught.value)
