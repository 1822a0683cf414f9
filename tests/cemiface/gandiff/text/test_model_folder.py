"""A Stable Diffusion folder is checked before anything is loaded; whatever is wrong is one line that names the file."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from cemiface.errors import ModelError
from cemiface.gandiff.text.model_folder import check_model_folder

from ....tiny_sd import write_folder


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    root = tmp_path_factory.mktemp("sd")
    return {layout: write_folder(root / layout, layout) for layout in ("1.5", "2.1", "xl")}


@pytest.fixture
def folder(built, tmp_path):
    return Path(shutil.copytree(built["1.5"], tmp_path / "sd"))


@pytest.mark.parametrize(
    ("layout", "is_xl", "prediction"), [("1.5", False, "noise"), ("2.1", False, "velocity"), ("xl", True, "noise")]
)
def test_the_three_layouts_are_taken(built, layout, is_xl, prediction):
    found = check_model_folder(built[layout])
    assert found.is_xl == is_xl
    assert found.image_size == 32
    diffusion = found.scheduler.diffusion
    assert (diffusion.schedule, diffusion.prediction) == ("scaled_linear", prediction)
    assert found.zeros_if_empty == is_xl


def test_what_lies_beside_the_parts_is_taken_if_it_is_no_code(folder):
    for name in (
        "README.md",
        "LICENSE",
        "LICENSE.md",
        ".gitattributes",
        "sample.png",
        "safety.txt",
        "v1-inference.yaml",
    ):
        (folder / name).write_text("text")
    for name in (".git", ".cache"):
        (folder / name).mkdir()
        (folder / name / "index.lock").touch()
    check_model_folder(folder)


def _edit(name: str, **fields: object) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        data = json.loads((folder / name).read_text())
        data.update(fields)
        (folder / name).write_text(json.dumps(data))

    return edit


def _write(name: str, data: bytes) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)

    return write


def _cut(name: str, share: float) -> Callable[[Path], None]:
    return lambda folder: os.truncate(folder / name, int(share * (folder / name).stat().st_size))


def _link(name: str, target: str) -> Callable[[Path], None]:
    def link(folder: Path) -> None:
        (folder.parent / "outside.json").write_text("{}")
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return link


def _fewer_tensors(folder: Path) -> None:
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    tensors.pop("conv_in.bias")
    save_file(tensors, path)


UNET, VAE, TEXT = "unet/config.json", "vae/config.json", "text_encoder/config.json"
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"

REFUSED = {
    # Code, and what may hold code.
    "bin": (_write("unet/diffusion_pytorch_model.bin", b""), "unet/diffusion_pytorch_model.bin: only safetensors"),
    "ckpt": (_write("v1-5-pruned.ckpt", b""), "v1-5-pruned.ckpt: only safetensors"),
    "pt": (_write("vae/x.PT", b""), r"vae/x.PT: only safetensors"),
    "pickle": (_write("unet/data.pkl", pickle.dumps({})), "unet/data.pkl: only safetensors"),
    "python": (_write("pipeline.py", b""), "pipeline.py: only safetensors"),
    "python inside": (_write("unet/my_unet.py", b""), "unet/my_unet.py: only safetensors"),
    "library": (_write("unet/x.so", b""), "unet/x.so: only safetensors"),
    "pickle of another name": (_write(WEIGHTS, pickle.dumps({"a": 1})), f"{WEIGHTS}: not a whole safetensors file"),
    "name in two lines": (_write("a\n.json", b"{}"), r"holds 'a\\n.json'"),
    "pipeline": (_edit("model_index.json", _class_name="MyPipeline"), "model_index.json: got _class_name 'MyPipeline'"),
    "pipeline list": (_edit("model_index.json", _class_name=["a"]), "model_index.json: got _class_name"),
    "class": (_edit("model_index.json", unet=["diffusers", "UNet3D"]), r"model_index.json: got unet: .*UNet3D"),
    "own module": (_edit("model_index.json", unet=["my_unet", "UNet2DConditionModel"]), "model_index.json: got unet"),
    "more parts": (_edit("model_index.json", extra=["os", "system"]), "model_index.json: got extra: .*no such part"),
    "odd part": (_edit("model_index.json", unet={"a": 1}), r"model_index.json: got unet: .*\[library, class\]"),
    "unhashable class": (_edit("model_index.json", unet=[["a"], ["b"]]), "model_index.json: got unet"),
    "left out": (_edit("model_index.json", vae=[None, None]), "model_index.json: got vae"),
    "no longer there": (_edit("model_index.json", vae=None), "model_index.json: vae is missing"),
    "auto_map": (_edit(UNET, auto_map={"AutoModel": "my.Model"}), f"{UNET}: asks for code .*'auto_map'"),
    "auto_map inside": (_edit(TEXT, text_config={"auto_map": {"a": "b"}}), f"{TEXT}: asks for code .*'auto_map'"),
    "auto_map of the tokenizer": (_edit("tokenizer/tokenizer_config.json", auto_map={"a": "b"}), "'auto_map'"),
    "custom pipeline": (_edit("model_index.json", custom_pipeline="my"), "asks for code .*'custom_pipeline'"),
    "quantized": (_edit(UNET, quantization_config={"bits": 4}), "'quantization_config'"),
    "adapter elsewhere": (
        _write("text_encoder/adapter_config.json", b'{"base_model_name_or_path": "/elsewhere"}'),
        "adapter_config.json: names other weights",
    ),
    "shards": (
        _write(f"{WEIGHTS}.index.json", b'{"weight_map": {"a": "../../x.safetensors"}}'),
        "index.json: names other weights",
    ),
    "link out": (_link(UNET, "../../outside.json"), f"{UNET}: a link out of the folder"),
    "link out, absolute": (_link("x.json", "/etc/hostname"), "x.json: a link out of the folder"),
    "link to nothing": (_link("x.json", "nothing.json"), "x.json: no plain file"),
    "pipe": (lambda folder: os.mkfifo(folder / "x.json"), "x.json: no plain file"),
    # Missing, cut, damaged.
    "no index": (lambda folder: (folder / "model_index.json").unlink(), "model_index.json: no such file"),
    "no config": (lambda folder: (folder / UNET).unlink(), f"{UNET}: no such file"),
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), f"{WEIGHTS}: no such file"),
    "no words": (lambda folder: (folder / "tokenizer/merges.txt").unlink(), "tokenizer: has no tokenizer.json"),
    "no text": (_write("tokenizer/merges.txt", b"\xff\xfe"), "merges.txt: not text"),
    "not JSON": (_write(UNET, b"{"), f"{UNET}: not JSON"),
    "deep JSON": (_write(UNET, b"[" * 100_000), f"{UNET}: not JSON"),
    "JSON of another kind": (_write("model_index.json", b"[]"), "model_index.json: got list; allowed: an object"),
    "half the weights": (_cut(WEIGHTS, 0.5), f"{WEIGHTS}: not a whole safetensors file"),
    "a few bytes": (_write(WEIGHTS, b"\0\0\0"), f"{WEIGHTS}: not a whole safetensors file"),
    "endless numbers": (
        _write(
            WEIGHTS,
            b"\x40\0\0\0\0\0\0\0" + b'{"a":{"dtype":"F16","shape":[1e999],"data_offsets":[0,2]}}'.ljust(64) + b"00",
        ),
        f"{WEIGHTS}: not a whole safetensors file",
    ),
    "a text encoder cut": (_cut("text_encoder/model.safetensors", 0.99), "text_encoder/model.safetensors: not a whole"),
    "numbers of eight bits": (
        _write(
            WEIGHTS,
            b"\x40\0\0\0\0\0\0\0" + b'{"a":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}}'.ljust(64) + b"0",
        ),
        "holds numbers of type 'F8_E4M3'",
    ),
    # Of another kind than what is handled.
    "architecture": (_edit(TEXT, architectures=["BertModel"]), f"{TEXT}: got class BertModel"),
    "architectures": (_edit(TEXT, architectures={"a": 1}), f"{TEXT}: got class"),
    "more architectures": (_edit(TEXT, architectures=["CLIPTextModel", "B"]), f"{TEXT}: got class"),
    "classes of the parts swapped": (_edit(UNET, _class_name="AutoencoderKL"), f"{UNET}: got class AutoencoderKL"),
    "inpainting": (_edit(UNET, in_channels=9), f"{UNET}: in_channels: got 9"),
    "class embedding": (_edit(UNET, class_embed_type="timestep"), f"{UNET}: got class_embed_type 'timestep'"),
    "endless": (_edit(UNET, layers_per_block=10**9), f"{UNET}: got layers_per_block"),
    "levels": (_edit(UNET, block_out_channels=[16, 32, 64]), f"{UNET}: down_block_types: got 2 values; allowed: 3"),
    "words of another width": (_edit(UNET, cross_attention_dim=32), f"{UNET}: got cross_attention_dim 32; allowed: 16"),
    "latents": (_edit(VAE, latent_channels=16), f"{UNET}: got in_channels 4; allowed: 16"),
    "shifted latents": (_edit(VAE, shift_factor=0.1), f"{VAE}: got shift_factor '0.1'"),
    "another net's weights": (_edit(UNET, use_linear_projection=True, block_out_channels=[16, 64]), "numbers; allowed"),
    "one tensor less": (_fewer_tensors, f"{WEIGHTS}: got .* numbers; allowed: .*, as config.json says"),
    "schedule": (
        _edit("scheduler/scheduler_config.json", beta_schedule="squaredcos_cap_v2"),
        "scheduler_config.json: got beta_schedule",
    ),
    "prediction": (
        _edit("scheduler/scheduler_config.json", prediction_type="sample"),
        "scheduler_config.json: got prediction_type 'sample'",
    ),
    "flow": (
        _edit("scheduler/scheduler_config.json", _class_name="FlowMatchEulerDiscreteScheduler"),
        "scheduler_config.json: got class FlowMatch",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_folder_is_one_line(folder, name):
    change, message = REFUSED[name]
    change(folder)
    with pytest.raises(ModelError, match=f"^base .*{message}") as error:
        check_model_folder(folder)
    assert "\n" not in str(error.value)


def test_a_missing_folder_is_one_line(tmp_path):
    with pytest.raises(ModelError, match="no such folder; give a Stable Diffusion folder"):
        check_model_folder(tmp_path / "none")


def test_an_xl_folder_whose_second_encoder_does_not_fit_is_refused(built, tmp_path):
    folder = Path(shutil.copytree(built["xl"], tmp_path / "xl"))
    _edit("text_encoder_2/config.json", projection_dim=16)(folder)
    with pytest.raises(ModelError, match="projection_class_embeddings_input_dim 60; allowed: 64"):
        check_model_folder(folder)
    _edit(UNET, addition_embed_type=None)(folder)
    with pytest.raises(ModelError, match="addition_embed_type None; allowed: text_time"):
        check_model_folder(folder)


def test_weights_in_half_precision_are_found(folder):
    path = folder / WEIGHTS
    half = {name: tensor.half() for name, tensor in load_file(path).items()}
    save_file(half, path.with_name("diffusion_pytorch_model.fp16.safetensors"))
    assert check_model_folder(folder).variants["unet"] is None
    path.unlink()
    assert check_model_folder(folder).variants == {"unet": "fp16", "vae": None, "text_encoder": None}
    assert torch.isfinite(half["conv_in.bias"]).all()


def test_the_files_that_a_base_is_made_of(built):
    folder = check_model_folder(built["xl"])
    names = [str(path.relative_to(folder.path)) for path in folder.files]
    assert len(names) == len(set(names)) == 18
    assert {"model_index.json", WEIGHTS, "tokenizer_2/merges.txt", "text_encoder_2/model.safetensors"} <= set(names)
    assert all(path.is_file() for path in folder.files)


def test_a_link_inside_the_folder_is_taken(folder):
    (folder / "unet" / "kept.safetensors").hardlink_to(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).symlink_to("kept.safetensors")
    check_model_folder(folder)
