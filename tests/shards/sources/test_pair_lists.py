"""Pair lists in LFW's own format and as tables, and the images they name in folders and tars."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import numpy as np
import pytest

from shards.errors import DataError
from shards.sources.benchmarks.image_files import ImageSource
from shards.sources.benchmarks.pair_lists import read_pairs

LFW = "2\t1\nAnn\t1\t2\nAnn\t3\tBob\t10\nCid\t1\t4\nBob\t2\tCid\t3\n"


def refusal(text: str) -> str:
    with pytest.raises(DataError) as error:
        read_pairs(text, name="pairs.txt")
    assert str(error.value).startswith("pairs.txt: ")
    return str(error.value)


def test_lfws_own_list_names_people_and_numbers():
    found = read_pairs(LFW, name="pairs.txt")
    assert found.first == ["Ann/Ann_0001.jpg", "Ann/Ann_0003.jpg", "Cid/Cid_0001.jpg", "Bob/Bob_0002.jpg"]
    assert found.second == ["Ann/Ann_0002.jpg", "Bob/Bob_0010.jpg", "Cid/Cid_0004.jpg", "Cid/Cid_0003.jpg"]
    assert found.same == [True, False, True, False]
    assert found.folds == 2


def test_backslashes_separate_folders_where_all_paths_have_them_and_no_slash():
    found = read_pairs("x\\a.jpg x\\b.jpg 1\nx\\a.jpg y\\c.jpg 0\n", name="pairs.txt")
    assert (found.first, found.second) == (["x/a.jpg", "x/a.jpg"], ["x/b.jpg", "y/c.jpg"])
    found = read_pairs("x/a.jpg x\\b.jpg 1\n", name="pairs.txt")
    assert (found.first, found.second) == (["x/a.jpg"], ["x\\b.jpg"])


@pytest.mark.parametrize("text", [f"\ufeff{LFW}", f"{LFW}\n\n", f"{LFW}  \n", LFW.replace("Cid\t1", "\nCid\t1")])
def test_a_mark_at_the_start_and_blank_lines_do_not_matter(text):
    assert read_pairs(text, name="pairs.txt") == read_pairs(LFW, name="pairs.txt")


@pytest.mark.parametrize(
    "text",
    [
        "a.jpg b.jpg 1\nc.jpg d.jpg 0\n",
        "a.jpg\tb.jpg\tTrue\nc.jpg\td.jpg\tFalse\n",
        "a.jpg;b.jpg;1\n\nc.jpg;d.jpg;0\n\n",
        "a.jpg, b.jpg, true\nc.jpg, d.jpg, false\n",
        "1 a.jpg b.jpg\n0 c.jpg d.jpg\n",
        '"a.jpg","b.jpg","1"\n"c.jpg","d.jpg","0"\n',
        '"a", "b", "same"\n"a.jpg", "b.jpg", "1"\n"c.jpg", "d.jpg", "0"\n',
        "a;b;same\na.jpg;b.jpg;1\nc.jpg;d.jpg;0\n",
        "A,B,Same\na.jpg,b.jpg,True\nc.jpg,d.jpg,False\n,,\n",
        "\ufeffa, b, same\na.jpg, b.jpg, 1.0\nc.jpg, d.jpg, 0.0\n",
        "\na,b,same\na.jpg,b.jpg,1\n\nc.jpg,d.jpg,0\n",
    ],
)
def test_pairs_are_read_however_their_columns_are_written(text):
    found = read_pairs(text, name="pairs.txt")
    assert (found.first, found.second) == (["a.jpg", "c.jpg"], ["b.jpg", "d.jpg"])
    assert (found.same, found.folds) == ([True, False], None)


def test_a_list_of_one_part_has_no_folds():
    assert read_pairs("1\nAnn 1 2\nAnn 1 Bob 1\n", name="pairs.txt", extension=".png").folds is None


def test_pairs_without_folds_are_distributed_so_that_every_fold_has_both_kinds():
    mated, others = 50, 30
    lines = [f"m{n},n{n},1" for n in range(mated)] + [f"x{n},y{n},0" for n in range(others)]
    found = read_pairs("\n".join(["a,b,same", *lines]), name="pairs.csv")
    for folds in (2, 7, 10):
        kinds = [sum(fold) for fold in np.array_split(np.array(found.same), folds)]
        assert max(kinds) - min(kinds) <= 2
        assert abs(kinds[0] - mated / folds) <= 1
    pairs = list(zip(found.first, found.second, found.same, strict=True))
    assert [pair for pair in pairs if pair[2]] == [(f"m{n}", f"n{n}", True) for n in range(mated)]  # each in its order
    assert [pair for pair in pairs if not pair[2]] == [(f"x{n}", f"y{n}", False) for n in range(others)]


def test_a_table_is_read_in_the_order_of_its_folds():
    text = "fold\tsame\ta\tb\n1\t1\tx\ty\n0\t0\tp\tq\n1\t0\tu\tv\n0\t1\tr\ts\n"
    found = read_pairs(text, name="pairs.tsv")
    assert found.first == ["p", "r", "x", "u"]
    assert found.same == [False, True, True, False]
    assert found.folds == 2
    assert read_pairs("a,b,same\nx,y,1\n", name="pairs.csv").folds is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("a\tb\n", "columns same are missing"),
        ("a,b,same\n", "has no pairs"),
        ("a,b,same\nx,y,yes\n", "line 2: got"),
        ("a,b,same\nx,y,1\nx,,1\n", "line 3: got"),
        ("a,b,same,fold\nx,y,1,0\nx,z,1,1\nx,z,0,1\n", "folds of 1 to 2 pairs"),
        (
            "2\t1\nAnn\t1\t2\n",
            "got 1 lines of pairs; line 1 says 2 folds with 1 pairs of one person and 1 of two, so 4",
        ),
        ("a.jpg b.jpg\n", "line 1: got 'a.jpg b.jpg'; columns a, b, same are missing; expected a header a, b, same"),
        ("a.jpg b.jpg -1\n", "or two paths and 0 or 1 in each line"),
        ("a.jpg b.jpg 1\na.jpg b.jpg\n", "line 2: got 'a.jpg b.jpg'; expected two paths and 0 or 1, as in line 1"),
        ("a.jpg b.jpg 1\n\n\nc.jpg 1\n", "line 4: got 'c.jpg 1'"),
        ("2\t1\n\nAnn\t1\t2\nAnn\t3\tBob\n\nCid\t1\t4\nBob\t2\tCid\t3\n", "line 4: got 'Ann"),
        ("1\nAnn 1 2\nAnn 1 Bob\n", "line 3: got 'Ann 1 Bob'; expected person1 n1 person2 n2"),
        ("1\nAnn one 2\nAnn 1 Bob 1\n", "line 2: got 'Ann one 2'; expected person n1 n2"),
        ("0\n", "line 1: got '0'"),
    ],
)
def test_a_list_that_does_not_fit_is_refused_with_its_line(text, message):
    assert message in refusal(text)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    home = tmp_path / "images" / "Ann"
    home.mkdir(parents=True)
    (home / "1.jpg").write_bytes(b"one")
    (home / "2.jpg").write_bytes(b"two!")
    return home.parent


def test_a_folder_and_a_tar_give_the_same_images(folder, tmp_path):
    path = tmp_path / "images.tar"
    with tarfile.open(path, "w") as tar:
        tar.add(folder / "Ann", arcname="./Ann")
    for source in (ImageSource(folder), ImageSource(path)):
        assert [source.read(name) for name in ("Ann/1.jpg", "Ann/2.jpg")] == [b"one", b"two!"]
        assert source.size("Ann/2.jpg") == 4
        with pytest.raises(DataError, match=r"has no Ann/3.jpg"):
            source.read("Ann/3.jpg")
    assert sorted(tmp_path.iterdir()) == [folder, path]  # nothing was unpacked


@pytest.mark.parametrize("path", ["/etc/passwd", "../images/Ann/1.jpg", "Ann/../../x"])
def test_paths_out_of_the_folder_are_refused(folder, path):
    with pytest.raises(DataError, match="is outside of it"):
        ImageSource(folder).read(path)


def test_links_and_pipes_are_refused(folder):
    (folder / "link.jpg").symlink_to(folder / "Ann" / "1.jpg")
    os.mkfifo(folder / "pipe.jpg")
    for name in ("link.jpg", "pipe.jpg", "Ann"):
        with pytest.raises(DataError, match="is not a regular file"):
            ImageSource(folder).read(name)


def test_an_image_source_that_is_neither_folder_nor_tar_is_refused(tmp_path):
    (tmp_path / "text.tar").write_text("no tar")
    with pytest.raises(DataError, match="not a folder and not an uncompressed tar"):
        ImageSource(tmp_path / "text.tar")
    with pytest.raises(DataError, match="no such folder or tar"):
        ImageSource(tmp_path / "missing")


@pytest.mark.parametrize(
    ("root", "path", "hint"),
    [
        ("images", "images/Ann/1.jpg", r"; .*test_.* has it: give that as images$"),
        (".", "Ann/1.jpg", r"; .*/images has it: give that as images$"),
        ("images/Ann", "Ann/1.jpg", r"; .*/images has it: give that as images$"),
        ("images", "lfw/Ann/1.jpg", r"; without lfw/ in front it would be there: change the list$"),
        ("images", "Ann/1.png", r"; there is one that ends in \.jpg: set extension, or change the list$"),
        ("images", "Bob/1.jpg", r"\(No such file or directory\)$"),
    ],
)
def test_a_wrong_root_names_the_one_that_would_match(folder, tmp_path, root, path, hint):
    with pytest.raises(DataError, match=hint) as caught:
        ImageSource(tmp_path / root).size(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("Ann/1.jpg", r"; it has lfw/Ann/1\.jpg: set prefix: lfw/$"),
        ("x/lfw/Ann/1.jpg", r"; without x/ in front it would be there: change the list$"),
        ("Bob/1.jpg", r"has no Bob/1\.jpg$"),
    ],
)
def test_a_tar_with_a_folder_around_names_the_prefix(folder, tmp_path, path, hint):
    with tarfile.open(tmp_path / "images.tar", "w") as tar:
        tar.add(folder / "Ann", arcname="lfw/Ann")
    with pytest.raises(DataError, match=hint):
        ImageSource(tmp_path / "images.tar").size(path)
