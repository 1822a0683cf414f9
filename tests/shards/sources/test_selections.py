"""A list of the images to use fits every copy of a set, and is refused with its line where it cannot be read."""

from __future__ import annotations

import random

import pytest

from shards.errors import DataError
from shards.images.faces import Face, Listing, Skip, escaped
from shards.images.outcomes import Outcome
from shards.sources.selections import read_selection, select

PATHS = ["set/anna/1.jpg", "set/anna/2.jpg", "set/bob/1.jpg", "set/carl/9.png"]


def listing(paths: list[str] = PATHS) -> Listing:
    faces = tuple(Face(identity=path.split("/")[-2], path=path, bytes=3) for path in paths)
    return Listing(faces=faces, skipped=(Skip(path="set/.x", outcome=Outcome.IGNORED),), without_faces=("dora", "emil"))


@pytest.mark.parametrize(
    "text",
    [
        "anna/1.jpg\nbob/1.jpg\n",
        "anna/1.jpg\nbob/1.jpg",
        "anna/1.jpg\r\nbob/1.jpg\r\n",
        "a/b/c/anna/1.jpg\n/home/x/bob/1.jpg\n",
        "bob/1.jpg\nanna/1.jpg\nanna/1.jpg\n",
        "path\nanna/1.jpg\nbob/1.jpg\n",
        "path,age\nanna/1.jpg,30\nbob/1.jpg,4\n",
        "age\tpath\n30\tanna/1.jpg\n4\tbob/1.jpg\n",
        'age,path\r\n30,"anna/1.jpg"\r\n"4","x/bob/1.jpg"\r\n',
        "path,note\nanna/1.jpg,\nbob/1.jpg\n",
        "\ufeffanna/1.jpg\nbob/1.jpg\n",
        "\ufeffpath,age\nanna/1.jpg,30\n\nbob/1.jpg,4\n\n",
        "anna/1.jpg\n\nbob/1.jpg\n\n",
        "age;path\n30;anna/1.jpg\n4;bob/1.jpg\n",
        "Path\nanna/1.jpg\nbob/1.jpg\n",
        "x/anna/1.jpg 0\nx/bob/1.jpg 1\n",
        "anna/1.jpg\t17\nbob/1.jpg\t-1\n",
        "anna/1.jpg, 17\nbob/1.jpg, 1\n",
        "D:\\faces\\anna\\1.jpg\r\nD:\\faces\\bob\\1.jpg\r\n",
    ],
)
def test_lines_and_tables_of_any_tool_name_the_same_images(text):
    assert read_selection(text, name="train.csv") == {"anna/1.jpg", "bob/1.jpg"}


def test_a_label_is_told_from_a_name_by_all_lines():
    text = "anna/1.jpg 2\nbob/my 3\n"
    assert read_selection(text, name="t") == {"anna/1.jpg 2", "bob/my 3"}


def test_a_table_may_quote_names_with_commas_and_line_feeds():
    chosen = read_selection('path,n\n"a, b/1.jpg",1\n"x\ny/2.jpg",2\n', name="t")
    assert chosen == {"a, b/1.jpg", escaped(b"x\ny/2.jpg")}


def test_names_are_escaped_as_those_of_the_source():
    name = b"an%na/\xff1.jpg"
    (chosen,) = read_selection(name.decode(errors="surrogateescape"), name="t")
    assert chosen == escaped(name) == "an%25na/%FF1.jpg"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1.jpg\n", "t.csv: line 1: got '1.jpg'; expected a path that ends in person/file"),
        ("anna/1.jpg\n\n2.jpg\n", "t.csv: line 3: got '2.jpg'"),
        ("file\nanna/1.jpg\n", "t.csv: line 1: got 'file'"),
        ("path\nanna/1.jpg\n1.jpg\n", "t.csv: line 3: got '1.jpg'"),
        ("path\n\n\nanna/1.jpg\n1.jpg\n", "t.csv: line 5: got '1.jpg'"),
        ('path,n\n"a\nb/1.jpg",1\n2.jpg,2\n', "t.csv: line 4: got '2.jpg'"),
        ("n,path\n1,anna/1.jpg\n2\n", "t.csv: line 3: got ''"),
        ("path,n\rx/1.jpg,1\n", "t.csv: line 1: new-line character"),
        (f"path,n\n{'x' * 200_000}/1.jpg,1\n", "t.csv: line 2: field larger"),
    ],
)
def test_a_line_that_is_no_path_is_named_with_its_number(text, words):
    with pytest.raises(DataError) as caught:
        read_selection(text, name="t.csv")
    assert str(caught.value).startswith(words)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "path\n", "path,n", "n\tpath\r\n"])
def test_a_list_without_images_is_refused_with_what_is_expected(text):
    with pytest.raises(DataError, match="t: lists no image; expected a path per line, or a table with a column `path`"):
        read_selection(text, name="t")


def test_only_the_chosen_are_taken_and_the_others_are_counted():
    found = select(listing(), frozenset({"bob/1.jpg", "anna/2.jpg"}), name="t")
    assert [face.path for face in found.faces] == ["set/anna/2.jpg", "set/bob/1.jpg"]
    assert found.counts == {"ignored": 1, "not_listed": 2}
    assert found.without_faces == ("dora", "emil")
    assert {skip.path for skip in found.skipped[1:]} == {"set/anna/1.jpg", "set/carl/9.png"}


def test_images_that_are_not_in_the_source_are_refused_with_their_number_and_the_first_three():
    chosen = frozenset({"anna/1.jpg", *(f"zoe/{number}.jpg" for number in range(5))})
    with pytest.raises(DataError) as caught:
        select(listing(), chosen, name="train.csv")
    assert str(caught.value) == (
        "train.csv: 5 of 6 images are not in the source (zoe/0.jpg, zoe/1.jpg, zoe/2.jpg), which has "
        "anna/1.jpg; give the list that goes with these faces, or the whole set"
    )


@pytest.mark.parametrize("seed", range(20))
def test_every_face_is_taken_or_counted_whatever_is_chosen(seed):
    draw = random.Random(seed)
    paths = [f"set/p{number % 5}/{number}.jpg" for number in range(25)]
    chosen = draw.sample(paths, draw.randint(1, 25))
    text = "".join(f"{draw.choice(['', 'other/', '/root/'])}{path.partition('/')[2]}\n" for path in chosen)
    found = select(listing(paths), read_selection(text, name="t"), name="t")
    assert [face.path for face in found.faces] == [path for path in paths if path in chosen]
    assert len(found.faces) + found.counts.get("not_listed", 0) == 25
