"""A Stable Diffusion folder in diffusers' format, checked before anything of it is loaded. It imports no torch.

Nothing in the folder may be code, or need code to be read: weights are safetensors, the rest is JSON and text, and the
classes that model_index.json names are on a list.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from cemiface.errors import ModelError
from cemiface.gandiff.text.part_costs import unet_cost
from cemiface.gandiff.text.parts import Part, SchedulerPart, TextPart, UNetPart, VaePart
from cemiface.gandiff.text.safetensors_header import Header, read_header

SUFFIXES = (".safetensors", ".json", ".txt", ".md", ".yaml", ".png", ".jpg", ".jpeg")
NAMES = ("LICENSE", ".gitattributes", ".gitignore")

# Files by which the libraries would read other weights than those that are checked.
ELSEWHERE = ("adapter_config.json", ".index.json")

# Keys by which a JSON file asks for code, or for another reader of the weights.
FORBIDDEN = ("auto_map", "custom_pipeline", "custom_pipelines", "trust_remote_code", "quantization_config")

PIPELINES = {
    "StableDiffusionPipeline": ("unet", "vae", "text_encoder", "tokenizer", "scheduler"),
    "StableDiffusionXLPipeline": (
        "unet", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler",
    ),
}  # fmt: skip

# Schedulers that add noise by the same formula; the folder's own way of sampling is not used.
SCHEDULERS = (
    "DDIMScheduler", "DDPMScheduler", "DEISMultistepScheduler", "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler", "EulerAncestralDiscreteScheduler", "EulerDiscreteScheduler",
    "HeunDiscreteScheduler", "LMSDiscreteScheduler", "PNDMScheduler", "UniPCMultistepScheduler",
)  # fmt: skip
CLASSES = {
    "unet": ("UNet2DConditionModel",),
    "vae": ("AutoencoderKL",),
    "text_encoder": ("CLIPTextModel",),
    "text_encoder_2": ("CLIPTextModelWithProjection",),
    "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
    "tokenizer_2": ("CLIPTokenizer", "CLIPTokenizerFast"),
    "scheduler": SCHEDULERS,
    # Not loaded, but usual in such folders.
    "safety_checker": ("StableDiffusionSafetyChecker",),
    "feature_extractor": ("CLIPImageProcessor", "CLIPFeatureExtractor"),
}
LIBRARIES = ("diffusers", "transformers", "stable_diffusion", None)

LARGEST_JSON = 64 * 2**20  # bytes; the largest of Stable Diffusion, tokenizer.json, has 4 million
MOST_FILES = 1000
SHOWN = 80  # characters of what a file holds

PartT = TypeVar("PartT", bound=Part)


@dataclass(frozen=True, kw_only=True)
class ModelFolder:
    """A folder that passed all checks.

    Attributes:
        variants: by part with weights, None for `NAME.safetensors` and "fp16" for `NAME.fp16.safetensors`.
        text: the text encoders' configs; Stable Diffusion XL has two.
        zeros_if_empty: whether an empty prompt is a condition of zeros instead of the encoded empty text.
    """

    path: Path
    unet: UNetPart
    vae: VaePart
    text: tuple[TextPart, ...]
    scheduler: SchedulerPart
    variants: Mapping[str, str | None]
    zeros_if_empty: bool

    @property
    def is_xl(self) -> bool:
        """Whether it is Stable Diffusion XL."""
        return len(self.text) == 2

    @property
    def image_size(self) -> int:
        """Side in pixels of the images that the U-Net was trained for."""
        return self.unet.sample_size * self.vae.reduction

    def check_image_size(self, size: int | None) -> None:
        """Refuse another image size that the nets cannot make; None is their own. Raises ModelError."""
        multiple = self.vae.reduction * 2 ** (len(self.unet.block_out_channels) - 1)
        if size is not None and size % multiple:
            raise ModelError(f"image_size: got {size}; allowed: a multiple of {multiple} with this base")

    @property
    def token_width(self) -> int:
        """Numbers of an identity's vector: the widths of the text encoders."""
        return sum(text.hidden_size for text in self.text)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that are loaded, sorted: what the base is made of."""
        found = [self.path / "model_index.json", self.path / "scheduler" / "scheduler_config.json"]
        for name in self.variants:
            found += [self.path / name / "config.json", weights_file(self, name)]
        for number in range(len(self.text)):
            tokenizer = self.path / ("tokenizer_2" if number else "tokenizer")
            found += [file for file in tokenizer.iterdir() if file.suffix in {".json", ".txt"}]
        return tuple(sorted(found))


def check_model_folder(path: str | Path) -> ModelFolder:
    """The description of a Stable Diffusion folder, without loading it.

    Raises ModelError in one line that names the file: for links out of the folder, files of other kinds than
    safetensors, JSON and text, code or requests for code, classes that are not on the list, parts that are missing, cut
    or do not fit together.
    """
    root = Path(path)
    if not root.is_dir():
        raise ModelError(f"base {root}: no such folder; give a Stable Diffusion folder in diffusers' format")
    for file in _files(root):
        _check_file(file, root)
    index_file = root / "model_index.json"
    index = _read(index_file)
    pipeline = index.get("_class_name")
    if not isinstance(pipeline, str) or pipeline not in PIPELINES:
        raise _refused(index_file, f"_class_name {pipeline!r}", ", ".join(PIPELINES))
    parts = PIPELINES[pipeline]
    _check_classes(index, index_file, parts)
    for name in parts:
        if name.startswith("tokenizer"):
            _check_tokenizer(root / name)
    folder = ModelFolder(
        path=root,
        unet=_part(root / "unet", UNetPart),
        vae=_part(root / "vae", VaePart),
        text=tuple(_part(root / name, TextPart) for name in parts if name.startswith("text_encoder")),
        scheduler=_part(root / "scheduler", SchedulerPart, file="scheduler_config.json"),
        variants={name: _variant(root / name, part) for name, part in _with_weights(parts)},
        zeros_if_empty=index.get("force_zeros_for_empty_prompt") is True,
    )
    _check_together(folder)
    return folder


def weights_file(folder: ModelFolder, name: str) -> Path:
    """The weights file of a part."""
    part = dict(_with_weights(tuple(folder.variants)))[name]
    return folder.path / name / _weights_name(part, folder.variants[name])


def _with_weights(parts: tuple[str, ...]) -> list[tuple[str, type[Part]]]:
    kinds: dict[str, type[Part]] = {"unet": UNetPart, "vae": VaePart, "text_encoder": TextPart}
    return [(name, kinds[name.removesuffix("_2")]) for name in parts if name.removesuffix("_2") in kinds]


def _files(root: Path) -> Iterator[Path]:
    """All files and links, sorted, without what git and the Hub's client keep for themselves."""
    count, left = 0, [root]
    while left:
        for entry in sorted(left.pop().iterdir()):
            count += 1
            if count > MOST_FILES:
                raise ModelError(f"base {root}: more than {MOST_FILES} files; give the folder of one model")
            if not entry.name.isprintable():
                raise ModelError(f"base {root}: holds {entry.name!r}; allowed: printable names; rename it")
            if entry.is_dir() and not entry.is_symlink():
                left += [] if entry.name in {".git", ".cache"} else [entry]
            else:
                yield entry


def _check_file(file: Path, root: Path) -> None:
    if file.is_symlink():
        target = file.resolve()
        if not target.is_relative_to(root.resolve()):
            raise ModelError(f"base {file}: a link out of the folder; copy the folder with its targets (cp -rL)")
        if target.is_dir():
            return
    if not file.is_file():
        raise ModelError(f"base {file}: no plain file; delete it")
    if file.suffix.lower() not in SUFFIXES and not file.name.startswith(NAMES):
        raise ModelError(
            f"base {file}: only safetensors, JSON and text may lie in the folder, as other files may hold code; "
            "convert it to safetensors or delete it"
        )
    if file.name.endswith(ELSEWHERE):
        raise ModelError(
            f"base {file}: names other weights; allowed: one safetensors file per part; merge or delete it"
        )
    if file.suffix == ".json":
        found = next(_forbidden(_read(file, any_value=True), file), None)
        if found is not None:
            raise ModelError(f"base {file}: asks for code or another reader by {found!r}; allowed: none of it")


def _forbidden(value: Any, file: Path) -> Iterator[str]:
    """The forbidden keys at any depth; vocab.json holds words, not keys."""
    left = [] if file.name == "vocab.json" else [value]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            yield from (key for key in FORBIDDEN if one.get(key))
            left += one.values()
        elif isinstance(one, list):
            left += one


def _read(file: Path, *, any_value: bool = False) -> Any:
    """The JSON in a file: an object, or any value."""
    if not file.is_file():
        raise ModelError(f"base {file}: no such file; give a whole Stable Diffusion folder in diffusers' format")
    if file.stat().st_size > LARGEST_JSON:
        raise _refused(file, f"{file.stat().st_size} bytes", f"at most {LARGEST_JSON}")
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"base {file}: not JSON; fetch it again") from error
    if not isinstance(found, dict) and not any_value:
        raise _refused(file, type(found).__name__, "an object")
    return found


def _check_classes(index: Mapping[str, Any], file: Path, parts: tuple[str, ...]) -> None:
    for name, value in index.items():
        if name.startswith("_") or isinstance(value, bool | int | float | None):
            continue
        if not isinstance(value, list) or len(value) != 2:
            raise _refused(file, f"{name}: {str(value)[:SHOWN]}", "[library, class]")
        library, kind = value
        if library is None and kind is None and name not in parts:
            continue  # a part that is left out
        allowed = CLASSES.get(name, ())
        if kind not in allowed or library not in LIBRARIES:
            raise _refused(file, f"{name}: {str(value)[:SHOWN]}", " or ".join(allowed) or "no such part")
    missing = next((name for name in parts if not isinstance(index.get(name), list)), None)
    if missing:
        raise ModelError(f"base {file}: {missing} is missing; give a whole Stable Diffusion folder")


def _part(folder: Path, kind: type[PartT], *, file: str = "config.json") -> PartT:
    """What a part's JSON file says; refused if it is of another class or has a value that is not handled."""
    path = folder / file
    found = _read(path)
    classes = found.get("architectures")
    named = found.get("_class_name") or (classes[0] if isinstance(classes, list) and len(classes) == 1 else classes)
    allowed = CLASSES[folder.name]
    if named not in allowed and (named is not None or kind is not SchedulerPart):
        raise _refused(path, f"class {str(named)[:SHOWN]}", " or ".join(allowed))
    try:
        return kind.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(step) for step in first["loc"])
        if not field:  # by a check of several fields, which names its own
            raise ModelError(f"base {path}: {first['msg'].removeprefix('Value error, ')}") from error
        raise _refused(path, f"{field} {str(first['input'])[:SHOWN]!r}", first["msg"].lower()) from error


def _check_tokenizer(folder: Path) -> None:
    names = ("tokenizer.json", "vocab.json", "merges.txt")
    there = [name for name in names if (folder / name).is_file()]
    if names[0] not in there and there != list(names[1:]):
        raise ModelError(f"base {folder}: has no tokenizer.json, nor vocab.json and merges.txt; fetch the folder again")
    if "merges.txt" in there:
        try:
            (folder / "merges.txt").read_text(encoding="utf-8")
        except ValueError as error:
            raise ModelError(f"base {folder / 'merges.txt'}: not text; fetch it again") from error


def _weights_name(part: type[Part], variant: str | None) -> str:
    return f"{part.WEIGHTS}.{variant}.safetensors" if variant else f"{part.WEIGHTS}.safetensors"


def _variant(folder: Path, part: type[Part]) -> str | None:
    for variant in (None, "fp16"):
        if (folder / _weights_name(part, variant)).is_file():
            return variant
    wanted = _weights_name(part, None)
    raise ModelError(f"base {folder / wanted}: no such file; weights must be one safetensors file per part")


def _check_together(folder: ModelFolder) -> None:
    """Refuse parts that do not fit each other, and weights that are cut or of another net than the config says."""
    unet, index = folder.unet, folder.path / "unet" / "config.json"
    wanted = {
        "in_channels": (unet.in_channels, folder.vae.latent_channels),
        "cross_attention_dim": (unet.cross_attention_dim, folder.token_width),
        "addition_embed_type": (unet.addition_embed_type, "text_time" if folder.is_xl else None),
    }
    if folder.is_xl:
        width = 6 * (unet.addition_time_embed_dim or 0) + folder.text[1].projection_dim
        wanted["projection_class_embeddings_input_dim"] = (unet.projection_class_embeddings_input_dim, width)
    for field, (got, allowed) in wanted.items():
        if got != allowed:
            raise _refused(index, f"{field} {got}", f"{allowed}, which the other parts have")
    headers: dict[str, Header] = {name: read_header(weights_file(folder, name)) for name in folder.variants}
    described = unet_cost(unet, size=unet.sample_size).parameters
    if headers["unet"].numbers != described:
        raise _refused(
            weights_file(folder, "unet"), f"{headers['unet'].numbers} numbers", f"{described}, as config.json says"
        )


def _refused(file: Path, got: str, allowed: str) -> ModelError:
    return ModelError(f"base {file}: got {got}; allowed: {allowed}")
