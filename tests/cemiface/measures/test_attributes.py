"""Attribute nets: what they measure, that faces do not influence each other, and cards that cannot be used."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from cemiface.errors import ModelError
from cemiface.measures.attribute_choice import choose_nets
from cemiface.measures.attributes import AttributeNets, cut_square, open_attribute_nets
from cemiface.measures.error_matrices import error_tables
from cemiface.measures.net_cards import EMBEDDED, Square, read_card

NAMES = {"male", "age", "yaw", "pitch", "roll", "mouth", "smile", "eyes", "face", "light"}
MATRIX = {"counts": [[90, 10], [20, 80]], "data": "two hundred drawn faces", "size": 64, "date": "2026-11-27"}

MakeCard = Callable[..., Path]


def drawn_face(size: int = 112, *, mouth: int = 2, shift: float = 0.0, level: int = 190) -> np.ndarray:
    """A face of ellipses on the ArcFace template, uint8 (3, S, S); `shift` moves nose and mouth to the right."""
    image = Image.new("RGB", (112, 112), (60, 70, 80))
    draw = ImageDraw.Draw(image)
    draw.ellipse((14, -8, 98, 118), fill=(level, level * 3 // 4, level * 3 // 5))
    for x in (38.3, 73.5):
        draw.ellipse((x - 8, 47, x + 8, 56), fill=(240, 240, 240))
        draw.ellipse((x - 4, 47, x + 4, 56), fill=(50, 30, 20))
        draw.line((x - 10, 41, x + 10, 41), fill=(60, 40, 30), width=3)
    draw.polygon([(56 + shift, 52), (50 + shift, 74), (62 + shift, 74)], fill=(level * 4 // 5, level // 2, level // 2))
    draw.ellipse((41 + shift, 90 - mouth, 71 + shift, 92 + mouth), fill=(150, 40, 50))
    return np.asarray(image.resize((size, size), Image.Resampling.LANCZOS)).transpose(2, 0, 1)


@pytest.fixture(scope="module")
def nets() -> AttributeNets:
    return open_attribute_nets(size=112)


@pytest.fixture
def make_card(tmp_path: Path) -> MakeCard:
    """Writes a user's card: the embedded gender net under other names, with the changes given."""

    def make(name: str = "group", **changes: Any) -> Path:
        card = json.loads((EMBEDDED / "gender.json").read_text())
        output = {"kind": "classes", "name": name, "labels": ["one", "two"], "error_matrix": MATRIX}
        card |= {"name": name, "outputs": [output], "measured": []} | changes
        shutil.copy(EMBEDDED / "gender.onnx", tmp_path)
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(card))
        return path

    return make


def test_all_attributes_come_as_one_number_per_face(nets: AttributeNets) -> None:
    found = nets.measure(np.stack([drawn_face(), drawn_face(mouth=9)]))
    assert found.keys() == NAMES == set(nets.names)
    assert {values.shape for values in found.values()} == {(2,)}
    assert {values.dtype for values in found.values()} == {np.dtype(np.float32)}
    assert all(np.isfinite(values).all() for values in found.values())
    assert nets.measure(np.zeros((0, 3, 112, 112), np.uint8))["age"].shape == (0,)


def test_a_face_has_the_same_values_in_every_batch(nets: AttributeNets) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (3, 3, 112, 112), dtype=np.uint8)
    faces = np.concatenate([noise, drawn_face()[None]])
    together = nets.measure(faces)
    backwards = open_attribute_nets(size=112).measure(torch.from_numpy(faces[::-1].copy()))  # type: ignore[arg-type]
    for name, values in together.items():
        assert values.tobytes() == backwards[name][::-1].tobytes(), name
        assert values[3] == nets.measure(faces[3:])[name][0], name


def test_the_mesh_tells_a_face_its_mouth_and_where_it_looks(nets: AttributeNets) -> None:
    faces = [drawn_face(), drawn_face(mouth=9), drawn_face(shift=9), drawn_face(shift=-9), np.zeros_like(drawn_face())]
    found = nets.measure(np.stack(faces))
    assert found["face"][0] > 0.9 > 0.1 > found["face"][4]
    assert found["mouth"][1] > found["mouth"][0] + 0.1
    assert found["yaw"][2] > found["yaw"][0] + 5 > found["yaw"][0] - 5 > found["yaw"][3]


def test_light_is_the_mean_luminance_of_the_face(nets: AttributeNets) -> None:
    found = nets.measure(np.stack([np.full((3, 112, 112), level, np.uint8) for level in (0, 51, 255)]))["light"]
    assert found == pytest.approx([0, 0.2, 1], abs=1e-6)


def test_a_square_is_cut_at_the_same_place_at_every_size_with_the_edge_repeated() -> None:
    face = drawn_face().transpose(1, 2, 0)
    small = np.asarray(Image.fromarray(face).resize((56, 56), Image.Resampling.BOX))
    square = Square(left=-28, top=20, side=120)
    large = cut_square(face, square=square, size=40).astype(float)
    assert np.abs(large - cut_square(small, square=square, size=40)).mean() < 3
    assert (large[20:25, :9] == large[20:25, :1]).all()


def test_a_net_of_the_user_gives_a_probability_for_each_class(make_card: MakeCard) -> None:
    faces = np.stack([drawn_face(), drawn_face(level=120)])
    found = open_attribute_nets([make_card()], size=112).measure(faces)
    assert found.keys() == NAMES | {"group.one", "group.two"}
    assert found["group.one"] + found["group.two"] == pytest.approx([1, 1], abs=1e-6)
    assert found["group.two"] == pytest.approx(found["male"])


def test_a_net_of_the_user_takes_the_place_of_an_embedded_one(make_card: MakeCard) -> None:
    output = {"kind": "expected", "name": "age", "values": [20, 60]}
    nets = open_attribute_nets([make_card("years", outputs=[output])], size=112)
    assert [net.net.card.name for net in nets.nets if "age" in net.names] == ["years"]
    assert 20 <= nets.measure(drawn_face()[None])["age"][0] <= 60


def test_the_error_matrix_of_a_net_of_classes_is_a_table(make_card: MakeCard) -> None:
    assert error_tables([read_card(EMBEDDED / "age.json")]) == ()
    (table,) = error_tables([read_card(make_card())])
    assert table.rows == (
        ("true label", "taken for one", "taken for two", "faces"),
        ("one", "90.0 %", "10.0 %", "100"),
        ("two", "20.0 %", "80.0 %", "100"),
    )
    assert table.markdown().splitlines()[:4] == [
        "Errors of the net 'group' for group, on two hundred drawn faces at 64 px (2026-11-27)",
        "",
        "| true label | taken for one | taken for two | faces |",
        "|---|---|---|---|",
    ]


def test_only_nets_that_are_wanted_are_opened() -> None:
    nets = open_attribute_nets(size=112, wanted=["yaw", "light"])
    assert nets.names == ("yaw", "light")
    assert [net.net.card.name for net in nets.nets] == ["face_mesh"]


def test_age_is_refused_at_32_px_and_left_out_unless_it_is_asked_for() -> None:
    assert set(choose_nets(size=32).names) == NAMES - {"age"}
    with pytest.raises(ModelError, match=r"^age at 32 px: the net 'age' is worth nothing below 48 px .*$"):
        choose_nets(size=32, wanted=["age", "yaw"])


def test_a_net_of_the_user_is_refused_below_its_size_at_once(make_card: MakeCard) -> None:
    with pytest.raises(ModelError, match=r"^attributes: .*group\.json at 64 px: .* below 96 px .*$"):
        choose_nets([make_card(smallest_face=96)], size=64)


def test_wishes_that_no_net_or_two_nets_fulfill_are_refused(make_card: MakeCard) -> None:
    with pytest.raises(ModelError, match=r"no net gives 'group'; known: age, eyes, face, "):
        choose_nets(size=112, wanted=["group"])
    with pytest.raises(ModelError, match=r"gives 'group.one', as .* does; give one of them"):
        choose_nets([make_card(), make_card()], size=112)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sha256": "0" * 64}, r"sha256: the card says 0{64}, .*gender\.onnx has [0-9a-f]{64}$"),
        ({"file": "absent.onnx"}, r"file: .*absent\.onnx: No such file or directory; put the net beside its card$"),
        ({"file": "../gender.onnx"}, r"file: "),
        ({"file": "gender.pt"}, r"file: got gender.pt; allowed: a file that ends with .onnx or .tflite$"),
        ({"outputs": [{"kind": "classes", "name": "group", "labels": ["one", "two"]}]}, r"error_matrix: got nothing"),
        ({"outputs": [{"kind": "value", "name": "x"}, {"kind": "value", "name": "x"}]}, r"each attribute once$"),
        ({"outputs": [{"kind": "expected", "name": "x", "values": [1, 2, 3]}]}, r"needs 3 numbers; the net gives 2$"),
        ({"outputs": [{"kind": "value", "name": "x", "tensor": "y"}]}, r"got 'y'; allowed: probabilities$"),
        ({"surprise": 1}, r"surprise: Extra inputs are not permitted$"),
        ({"input": {"size": 40, "layout": "NCHW", "mean": [0, 0, 0], "std": [1, 1, 1]}}, r"cannot be run as its card"),
        ({"input": {"size": 32, "layout": "NCHW", "mean": [0, 0, 0], "std": [1, 1, 0]}}, r"three numbers above 0$"),
    ],
)
def test_a_card_that_does_not_fit_its_net_is_refused_in_one_line(
    make_card: MakeCard, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message) as refused:
        open_attribute_nets([make_card(**changes)], size=112)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("suffix", [".onnx", ".tflite"])
def test_a_damaged_net_is_refused_in_one_line(make_card: MakeCard, tmp_path: Path, suffix: str) -> None:
    data = b"no net at all" * 40
    (tmp_path / f"net{suffix}").write_bytes(data)
    card = make_card(file=f"net{suffix}", sha256=hashlib.sha256(data).hexdigest())
    with pytest.raises(ModelError, match=rf"net{suffix}: cannot be run as its card says: [^\n]+$"):
        open_attribute_nets([card], size=112)


@pytest.mark.parametrize("text", ["", "[", "[1]", "[" * 100_000, '{"name": "x"}', "\xff"])
def test_a_file_that_is_no_card_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "card.json").write_text(text, encoding="latin-1")
    with pytest.raises(ModelError, match=r"card\.json: [^\n]+$"):
        read_card(tmp_path / "card.json")
    with pytest.raises(ModelError, match=r"absent\.json: No such file or directory; give the card"):
        read_card(tmp_path / "absent.json")


@pytest.mark.parametrize("faces", [np.zeros((1, 3, 64, 64), np.uint8), np.zeros((1, 3, 112, 112), np.float32)])
def test_faces_of_another_size_or_type_are_refused(nets: AttributeNets, faces: np.ndarray) -> None:
    with pytest.raises(ModelError, match=r"^faces: got .*; allowed: uint8 \(N, 3, 112, 112\)"):
        nets.measure(faces)


def test_a_net_that_keeps_its_weights_in_another_file_is_refused(
    make_card: MakeCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The card's sha256 would not cover that file."""
    inside = (EMBEDDED / "gender.onnx").read_bytes()
    weights, model = moved_out(inside, "weights.bin")
    (tmp_path / "moved.onnx").write_bytes(model)
    (tmp_path / "weights.bin").write_bytes(weights)
    monkeypatch.chdir(tmp_path)
    card = make_card(file="moved.onnx", sha256=hashlib.sha256(model).hexdigest())
    with pytest.raises(ModelError, match=r"moved\.onnx: cannot be run as its card says: [^\n]*[Ee]xternal data"):
        open_attribute_nets([card], size=112)


def varint(number: int) -> bytes:
    """A number as protobuf writes it."""
    low, rest = number & 127, number >> 7
    return bytes([low | 128]) + varint(rest) if rest else bytes([low])


def fields(message: bytes) -> Iterator[tuple[int, int, bytes, bytes]]:
    """Number, wire type, content and whole bytes of each field of a protobuf message."""
    at = 0
    while at < len(message):
        start, (key, at) = at, read_varint(message, at)
        if key & 7 == 2:
            length, at = read_varint(message, at)
            content, at = message[at : at + length], at + length
        else:
            assert key & 7 == 0
            content, at = b"", read_varint(message, at)[1]
        yield key >> 3, key & 7, content, message[start:at]


def read_varint(message: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte, at = message[at], at + 1
        number, shift = number | (byte & 127) << shift, shift + 7
        if byte < 128:
            return number, at


def block(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def moved_out(model: bytes, name: str) -> tuple[bytes, bytes]:
    """The raw data of an ONNX model's first tensor, and the model with that tensor in a file of that name."""
    graph = next(content for number, _, content, _ in fields(model) if number == 7)
    tensor = next(content for number, _, content, _ in fields(graph) if number == 5)
    data = next(content for number, _, content, _ in fields(tensor) if number == 9)
    place = block(13, block(1, b"location") + block(2, name.encode()))
    outside = b"".join(whole for number, _, _, whole in fields(tensor) if number != 9) + place + varint(14 << 3) + b"\1"
    changed = graph.replace(block(5, tensor), block(5, outside), 1)
    return data, model.replace(block(7, graph), block(7, changed), 1)


def test_every_embedded_net_is_the_one_that_its_card_describes() -> None:
    cards = sorted(EMBEDDED.glob("*.json"))
    assert len(cards) >= 3
    for path in cards:
        net = read_card(path)
        net.read()
        assert net.card.measured or not net.card.attributes, path
