"""Every format that is read: small valid files of it, and a function that reads all of a folder with one of them."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np
from PIL import Image

from cemiface.gandiff.text.model_folder import check_model_folder
from cemiface.gandiff.text.part_costs import unet_cost
from cemiface.gandiff.text.parts import UNetPart
from jobs.frame.errors import USER_ERRORS
from jobs.frame.experiment import load_run
from shards import strict_json
from shards.embeddings.classifier import classifier_bytes, classifier_centers
from shards.embeddings.embeddings import embeddings_bytes, merged_bytes, open_merged, read_embeddings, with_similarity
from shards.exports import standalone_verify
from shards.exports.recordio_writer import framed
from shards.images.prepare import decoded_hash, prepare
from shards.images.rules import ImageRules
from shards.privacy.fingerprints import Fingerprints, read_fingerprints, vectors_bytes
from shards.sources.benchmarks.bin_file import read_bin
from shards.sources.benchmarks.image_files import ImageSource
from shards.sources.benchmarks.pair_lists import read_pairs
from shards.sources.selections import read_selection
from shards.sources.sources import open_source
from shards.tars.index import index_path
from shards.tars.manifest import Manifest, describe_shard, manifest_bytes, read_manifest
from shards.tars.reader import read_tar
from shards.tars.shard_set import ShardSet
from shards.tars.writer import TarWriter
from slurm.files import read_json

from ..shards.pictures import encoded, jpeg, picture, random_features, unit_features, with_exif

Files = dict[str, bytes]


@dataclass(frozen=True, kw_only=True)
class Format:
    """One format.

    Attributes:
        seeds: folders of valid files, by name in the folder.
        read: reads everything in a folder with these files; raises only `errors`.
        still: names of files that are never changed.
    """

    seeds: Callable[[], list[Files]]
    read: Callable[[Path], object]
    errors: tuple[type[Exception], ...] = USER_ERRORS
    still: tuple[str, ...] = ()


def _image_seeds() -> list[Files]:
    small = picture(1, size=(32, 32))
    gray16 = Image.fromarray(np.arange(1024, dtype=np.uint16).reshape(32, 32) * 60)
    exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    return [
        {"x": jpeg(0, size=32)},
        {"x": with_exif(jpeg(0, size=32), exif)},
        {"x": encoded(small, "JPEG", progressive=True, quality=80)},
        {"x": encoded(small.convert("CMYK"), "JPEG")},
        {"x": encoded(small, "PNG")},
        {"x": encoded(small.convert("P"), "PNG", transparency=3)},
        {"x": encoded(small.convert("RGBA"), "PNG")},
        {"x": encoded(gray16, "PNG")},
        {"x": encoded(small, "WEBP")},
        {"x": encoded(small, "WEBP", lossless=True, exif=exif)},
        {"x": encoded(small, "PPM")},
        {"x": encoded(small.convert("L"), "PPM")},
    ]


def _read_image(folder: Path) -> object:
    data = (folder / "x").read_bytes()
    rules = [ImageRules(size=32), ImageRules(size=16, resize="pad"), ImageRules(size=40, resize="center")]
    return [prepare(data, rules=one) for one in rules], decoded_hash(data, rules=rules[0])


def _tree(image: bytes) -> Files:
    return {f"faces/p{person}/{number}.jpg": image for person in range(2) for number in range(2)}


def _tar_of(files: Files, *, form: int, long: bool = False) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name.replace("faces", "x" * 120) if long else name)
            info.size = len(data)
            if form == tarfile.PAX_FORMAT:
                info.pax_headers = {"size": str(len(data)), "comment": "c" * 40, "mtime": "1.5"}
            tar.addfile(info, io.BytesIO(data))
    whole = buffer.getvalue().rstrip(b"\0")
    return whole + bytes(-len(whole) % 512) + bytes(1024)  # less padding, in which nothing happens


def _tar_seeds() -> list[Files]:
    files = _tree(b"\xff\xd8 no image, but listed as one")
    forms = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
    return [{"x.tar": _tar_of(files, form=form, long=long)} for form in forms for long in (False, True)][:6]


def _zip_seeds() -> list[Files]:
    seeds = []
    for packing in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", packing) as archive:
            for name, data in _tree(b"\xff\xd8 no image, but listed as one").items():
                with archive.open(zipfile.ZipInfo(name), "w", force_zip64=packing == zipfile.ZIP_STORED) as file:
                    file.write(data)
        seeds.append({"x.zip": buffer.getvalue()})
    return seeds


def _webdataset_seeds() -> list[Files]:
    image = b"\xff\xd8 no image, but listed as one"
    samples = {"a.jpg": image, "a.cls": b"3", "b.jpg": image, "b.json": b'{"identity": "anna", "n": [1, 2.5]}'}
    return [{"x.tar": _tar_of(samples, form=form)} for form in (tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT)]


def _read_source(folder: Path) -> object:
    found = []
    for name in os.listdir(folder):
        if name.endswith((".tar", ".zip", ".rec")) or (folder / name).is_dir():
            source = open_source(folder / name)
            for face in source.listing().faces[:50]:
                with _allowed():
                    found.append(source.read(face))
            if name.endswith(".tar"):
                images = ImageSource(folder / name)
                found += [images.read(path) for path in list(images._members or ())[:50]]
    return found


class _allowed:  # noqa: N801 -- reads like a function
    """One unreadable face does not end the reading of a source."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> bool:
        return kind is not None and issubclass(kind, USER_ERRORS)


def _recordio_seeds() -> list[Files]:
    seeds = []
    for labels, magic in ((True, False), (False, True)):
        data, index, paths = b"", "", ""
        for number in range(5):
            image = b"\xff\xd8 image" + (struct.pack("<I", 0xCED7230A) * 2 if magic else b"") + bytes(number)
            image = bytes(-(24 + 7) % 4) + image
            header = struct.pack("<IfQQ", 0, float(number + 1) if labels else 0.0, number, 0)
            index += f"{number}\t{len(data)}\n"
            paths += f"{number}\tp{number % 2}/{number}.jpg\n"
            data += b"".join(framed(header + image))
        data += b"".join(framed(struct.pack("<IfQQff", 2, 0.0, 9, 0, 1.0, 5.0)))
        seeds.append({"x.rec": data, "x.idx": index.encode(), "list.txt": paths.encode()})
    return seeds


def _bin_seeds() -> list[Files]:
    value = ([b"\xff\xd8 one", b"two", b"\x80three", b"four"], [True, False])
    return [{"x.bin": pickle.dumps(value, protocol=protocol)} for protocol in (1, 2, 3, 4, 5)]


LFW = b"2\t1\nanna\t1\t2\nanna\t1\tbob\t1\nbob\t1\t2\nbob\t1\tanna\t2\n"
TABLE = b"a,b,same,fold\nanna/anna_0001.jpg,anna/anna_0002.jpg,1,0\nanna/anna_0001.jpg,bob/bob_0001.jpg,0,1\n"


def _pair_seeds() -> list[Files]:
    images = {f"images/{name}/{name}_000{number}.jpg": b"image" for name in ("anna", "bob") for number in (1, 2)}
    return [{"pairs.txt": text, **images} for text in (LFW, TABLE, TABLE.replace(b",", b"\t"))]


def _read_pair_list(folder: Path) -> object:
    text = (folder / "pairs.txt").read_bytes().decode("utf-8", "surrogateescape")
    with _allowed():
        read_selection(text.replace("a,b", "path,b"), name="x")
    pairs = read_pairs(text, name="x")
    images = ImageSource(folder / "images")
    for path in [*pairs.first, *pairs.second][:50]:
        with _allowed():
            images.read(path)
    return pairs


def _json_seeds() -> list[Files]:
    record = {"identity": "anna", "m": 0.5, "asked": {"m": [1, 2, None, True]}, "n": 12345, "t": "\u00e9\\n"}
    return [{"x.json": json.dumps(record).encode()}, {"x.json": json.dumps(record, indent=1).encode()}]


def _read_json_file(folder: Path) -> object:
    read_json(folder / "x.json")
    return strict_json.loads((folder / "x.json").read_bytes(), where="x.json")


def _tar_bytes(samples: int = 3) -> Files:
    buffer = io.BytesIO()
    tar = TarWriter(buffer)
    for number in range(samples):
        tar.add(f"a-{number:05d}", jpg=jpeg(number, size=16), record={"identity": f"p{number % 2}", "index": number})
    tar.close()
    return {"x.tar": buffer.getvalue(), "x.index.npz": tar.index()}


def _manifest_seeds() -> list[Files]:
    with TemporaryDirectory() as name:
        path = Path(name) / "x.tar"
        path.write_bytes(_tar_bytes()["x.tar"])
        manifest = Manifest.of([describe_shard(path, samples=3)], private=False)
    return [{**_tar_bytes(), "manifest.json": manifest_bytes(manifest)}]


def _read_set(folder: Path) -> object:
    with redirect_stdout(io.StringIO()) as printed, patch("sys.argv", ["verify.py", str(folder)]):
        assert standalone_verify.main() in (0, 1)
    assert "Traceback" not in printed.getvalue()
    return read_manifest(folder / "manifest.json")


def _read_indexed(folder: Path) -> object:
    images = ShardSet([folder / "x.tar"])
    found = [images.jpeg(row) for row in range(min(len(images), 20))]
    for row in range(min(len(images), 20)):
        with _allowed():
            found.append((images.record(row), images.rgb(row)))
    return found


def _read_scanned(folder: Path) -> object:
    index_path(folder / "x.tar").unlink(missing_ok=True)
    samples = list(read_tar(folder / "x.tar"))
    return samples, _read_indexed(folder)


def _hdf5_seeds() -> list[Files]:
    with TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(2):
            features = random_features(4, seed=number)
            keys = [f"{number}-{row}" for row in range(4)]
            part = with_similarity(keys, identities=list("aabb"), features=features, flipped=-features)
            (folder / f"part-{number}.h5").write_bytes(embeddings_bytes(part, embedder="net"))
        parts = sorted(folder.iterdir())
        files = {path.name: path.read_bytes() for path in parts}
        files["merged.h5"] = merged_bytes(parts)
    hashes = np.random.default_rng(0).integers(0, 256, (4, 32), np.uint8)
    prints = Fingerprints(
        keys=list("wxyz"), identities=list("aabb"), features=unit_features(4), exact=hashes, near=hashes
    )
    return [files, {"prints.h5": vectors_bytes(prints, embedder="net")}]


def _read_hdf5(folder: Path) -> object:
    found: list[object] = []
    for name in sorted(os.listdir(folder)):
        with _allowed():
            if name.startswith("part"):
                found.append(read_embeddings(folder / name))
            elif name.startswith("merged"):
                merged = open_merged(folder / name)
                found.append((merged, merged.features[:], merged.flipped[np.arange(len(merged.keys))]))
            else:
                found.append(read_fingerprints(folder / name))
    return found


def _classifier_seeds() -> list[Files]:
    return [{"c.safetensors": classifier_bytes(unit_features(3), classes=["anna", "b", "\u00e9"])}]


CONFIG = b"""name: fuzz
seed: 3
shard: {faces: faces, image_size: 32, resize: center}
embedder: {weights: "nets/embedder.safetensors"}
embed: {}
train-diffusion:
  denoiser: {preset: tiny32, condition_tokens: 8}
  similarity: {low: -1, high: 1, interval: 0.04}
  images: 1600
  "batch": 16   # a comment
  ema_decay: 9.95e-1
  initial_weights: >-
    two
    words
"""


def _config_seeds() -> list[Files]:
    minimal = {"x.yaml": b"name: fuzz\nshard: {faces: faces}\n"}
    return [minimal, {"x.yaml": CONFIG}, {"x.yaml": b"base: y.yaml\nseed: 5\n", "y.yaml": minimal["x.yaml"]}]


def _state() -> Iterator[tuple[str, object]]:
    import torch  # here, as most formats are read without it

    draw = torch.Generator().manual_seed(0)
    yield "conv1.weight", torch.randn((4, 3, 3, 3), generator=draw)
    yield "bn1.running_mean", torch.zeros(4)
    yield "bn1.num_batches_tracked", torch.tensor(5)
    yield "layer1.0.conv1.weight", torch.randn((4, 4, 1, 1), generator=draw).half()
    yield "bn2.weight", torch.ones(4)
    yield "fc.weight", torch.randn((8, 16), generator=draw)


def _pth_seeds() -> list[Files]:
    import torch  # as above

    odd = {
        "a": torch.zeros(3, dtype=torch.complex64),
        "b": torch.eye(3).to_sparse(),
        "c": torch.zeros(3, device="meta"),
    }
    odd["d"] = torch.quantize_per_tensor(torch.ones(4), 0.1, 2, torch.qint8)
    seeds = []
    for value in (dict(_state()), {"state_dict": dict(_state()), "epoch": 3}, odd):
        for new in (True, False) if value is not odd else (True,):
            buffer = io.BytesIO()
            torch.save(value, buffer, _use_new_zipfile_serialization=new)
            seeds.append({"x.pth": buffer.getvalue()})
    return seeds


def _safetensors_seeds() -> list[Files]:
    from safetensors.torch import save  # as above

    from cemiface.recognition.config import RecognitionConfig
    from cemiface.semihard.config import DenoiserConfig

    config = RecognitionConfig(net="ir_tiny", embedding=8, image_size=16).model_dump_json()
    tensors = dict(_state())
    described = {"config": config, "color": "RGB", "normalization": "[-1,1]"}
    denoiser = {"config": DenoiserConfig().model_dump_json(), "diffusion": "{}", "embedder": "x"}
    return [{"x.safetensors": save(tensors, metadata=given)} for given in (described, denoiser, None)]


def _read_weights(folder: Path) -> object:
    from cemiface.recognition.nets import load_recognition  # as above
    from cemiface.semihard.denoiser import load_denoiser
    from cemiface.weights import read_weights

    (name,) = os.listdir(folder)
    for load in (load_recognition, load_denoiser, lambda path: load_recognition(path, color="RGB")):
        with _allowed():
            load(folder / name)
    return read_weights(folder / name)


def _sd_seeds() -> list[Files]:
    """A Stable Diffusion folder of one level and two channels; its weights are zeros."""
    unet = {
        "sample_size": 8,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": [2],
        "down_block_types": ["CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D"],
        "cross_attention_dim": 4,
        "attention_head_dim": 1,
    }
    vae = {
        "latent_channels": 4,
        "block_out_channels": [2, 2],
        "down_block_types": ["DownEncoderBlock2D"] * 2,
        "up_block_types": ["UpDecoderBlock2D"] * 2,
    }
    text = {"architectures": ["CLIPTextModel"], "hidden_size": 4, "num_hidden_layers": 1, "vocab_size": 9}
    scheduler = {"_class_name": "DDIMScheduler", "beta_schedule": "scaled_linear", "prediction_type": "epsilon"}
    index = {
        "_class_name": "StableDiffusionPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "safety_checker": [None, None],
    }
    described = {
        "model_index.json": index,
        "unet/config.json": {"_class_name": "UNet2DConditionModel", **unet},
        "vae/config.json": {"_class_name": "AutoencoderKL", **vae},
        "text_encoder/config.json": text,
        "scheduler/scheduler_config.json": scheduler,
        "tokenizer/vocab.json": {"a": 0, "b": 1},
    }
    files = {name: json.dumps(value).encode() for name, value in described.items()}
    numbers = unet_cost(UNetPart.model_validate(unet), size=8).parameters
    for name, count in (("unet", numbers), ("vae", 3)):
        files[f"{name}/diffusion_pytorch_model.safetensors"] = _zeros(count)
    return [{**files, "text_encoder/model.safetensors": _zeros(5), "tokenizer/merges.txt": b"#version: 0.2\na b\n"}]


def _zeros(count: int) -> bytes:
    header = json.dumps({"a": {"dtype": "F16", "shape": [count], "data_offsets": [0, 2 * count]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(2 * count)


def _stylegan_seeds() -> list[Files]:
    from ..cemiface.gandiff.gan.official_files import pickled, stylegan2, stylegan3  # as above

    with TemporaryDirectory() as folder:
        path = Path(folder) / "x.pkl"
        made = [(stylegan2(), 3), (stylegan3(), 3), (stylegan3(kernel=1, radial=True), 4)]
        return [{"x.pkl": pickled(net, path, protocol=protocol).read_bytes()} for net, protocol in made]


def _read_stylegan(folder: Path) -> object:
    from cemiface.gandiff.gan.generator import load_generator  # as above
    from cemiface.gandiff.gan.stylegan.convert import converted

    path = folder / "x.safetensors"
    path.write_bytes(converted(folder / "x.pkl", license="x", origin="x"))
    return load_generator(path)


FORMATS: dict[str, Format] = {
    "images": Format(seeds=_image_seeds, read=_read_image, errors=()),
    "folder": Format(seeds=lambda: [_tree(b"\xff\xd8")], read=_read_source),
    "tar": Format(seeds=_tar_seeds, read=_read_source),
    "zip": Format(seeds=_zip_seeds, read=_read_source),
    "webdataset": Format(seeds=_webdataset_seeds, read=_read_source),
    "recordio": Format(seeds=_recordio_seeds, read=_read_source),
    "bin": Format(seeds=_bin_seeds, read=lambda folder: read_bin((folder / "x.bin").read_bytes(), name="x.bin")),
    "pairs": Format(seeds=_pair_seeds, read=_read_pair_list, still=("images",)),
    "json": Format(seeds=_json_seeds, read=_read_json_file),
    "manifest": Format(seeds=_manifest_seeds, read=_read_set, still=("x.tar", "x.index.npz")),
    "index": Format(seeds=lambda: [_tar_bytes()], read=_read_indexed, still=("x.tar",)),
    "shard": Format(seeds=lambda: [_tar_bytes()], read=_read_scanned, still=("x.index.npz",)),
    "hdf5": Format(seeds=_hdf5_seeds, read=_read_hdf5),
    "classifier": Format(
        seeds=_classifier_seeds,
        read=lambda folder: classifier_centers(folder / "c.safetensors", classes=["anna"], width=16),
    ),
    "config": Format(seeds=_config_seeds, read=lambda folder: load_run(folder / "x.yaml")),
    "pth": Format(seeds=_pth_seeds, read=_read_weights),
    "safetensors": Format(seeds=_safetensors_seeds, read=_read_weights),
    "stable-diffusion": Format(seeds=_sd_seeds, read=check_model_folder),
    "stylegan": Format(seeds=_stylegan_seeds, read=_read_stylegan),
}
