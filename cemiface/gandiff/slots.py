"""Slots: the condition of the embedded base, measured attributes divided into named bins. It imports no torch.

The paper conditions Stable Diffusion on text. The embedded base is conditioned on one value per slot instead, and every
slot may be "not stated".
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import numpy as np
from pydantic import ConfigDict, Field, PositiveInt, ValidationError, field_validator, model_validator
from safetensors import SafetensorError, safe_open

from cemiface.diffusion.config import UNET_PRESETS, DiffusionConfig, UNetConfig
from cemiface.diffusion.cost import UNetCost, unet_cost
from cemiface.errors import ModelError
from cemiface.values import FrozenModel, require

NOT_STATED = "not stated"
MIRRORED = {"yaw"}  # attributes that change their sign in a mirror image

Bound = float | None  # None: open
Name = Annotated[str, Field(min_length=1, max_length=60, pattern=r"^[^\x00-\x1f\x7f]+$")]


class Slot(FrozenModel):
    """A slot and its bins; a measurement in no bin, or none at all, is "not stated"."""

    model_config = ConfigDict(allow_inf_nan=False)

    name: Name = Field(description="Name of the slot in prompts and in `asked`.")
    attribute: Name = Field(description="Name of the measured attribute that is divided.")
    bins: dict[Name, tuple[Bound, Bound]] = Field(
        min_length=2,
        description=(
            "Value: lower bound (included) and upper bound (excluded), in the unit of the attribute; null is open. "
            "Bins rise, and may have gaps between them."
        ),
    )

    @field_validator("bins", mode="before")
    @classmethod
    def _tuples(cls, bins: Any) -> Any:
        """YAML and JSON have no tuples, and below a "before" validator strict validation accepts nothing else."""
        if not isinstance(bins, dict):
            return bins
        return {value: tuple(bounds) if isinstance(bounds, list) else bounds for value, bounds in bins.items()}

    @model_validator(mode="after")
    def _check(self) -> Self:
        require(NOT_STATED not in self.bins, "bins", NOT_STATED, "any other name; every slot has this value already")
        last = -math.inf
        for value, (low, high) in self.bins.items():
            bounds = (-math.inf if low is None else low, math.inf if high is None else high)
            require(last <= bounds[0] < bounds[1], f"bins.{value}", [low, high], f"rising bounds, at least {last}")
            last = bounds[1]
        return self

    @property
    def values(self) -> tuple[str, ...]:
        """The names of the bins, which the denoiser has vectors for, in order."""
        return tuple(self.bins)

    @property
    def not_stated(self) -> int:
        """The position of "not stated", behind the bins."""
        return len(self.bins)

    def position(self, value: str | None) -> int:
        """The position of a value; of None, that of "not stated". Raises ModelError for a value the slot lacks."""
        if value is None or value == NOT_STATED:
            return self.not_stated
        if value not in self.bins:
            raise ModelError(
                f"slot {self.name}: got {value!r}; allowed: {', '.join(self.bins)} or {NOT_STATED!r}; change the prompt"
            )
        return self.values.index(value)

    def value_of(self, measured: float) -> str | None:
        """The value that a measurement falls into; None if it is in no bin or not a number."""
        for value, (low, high) in self.bins.items():
            if (low is None or measured >= low) and (high is None or measured < high) and not math.isnan(measured):
                return value
        return None


# The bounds follow the distributions on LFW at 64 px: 5 % of the faces are in each profile bin, 20 % look down,
# 17 % up, a quarter each have an open mouth and smile. Between closed and open, neutral and smile, nothing is stated.
DEFAULT_SLOTS = (
    Slot(name="gender", attribute="male", bins={"female": (None, 0.3), "male": (0.7, None)}),
    Slot(
        name="age", attribute="age", bins={"18-29": (18, 30), "30-44": (30, 45), "45-59": (45, 60), "60+": (60, None)}
    ),
    Slot(
        name="yaw",
        attribute="yaw",
        bins={
            "left profile": (None, -18),
            "left": (-18, -7),
            "frontal": (-7, 7),
            "right": (7, 18),
            "right profile": (18, None),
        },
    ),
    Slot(name="pitch", attribute="pitch", bins={"down": (None, -10), "level": (-10, 7), "up": (7, None)}),
    Slot(name="mouth", attribute="mouth", bins={"closed": (None, 0.05), "open": (0.09, None)}),
    Slot(name="smile", attribute="smile", bins={"neutral": (None, 0.56), "smile": (0.64, None)}),
    Slot(name="light", attribute="light", bins={"dark": (None, 0.43), "medium": (0.43, 0.59), "bright": (0.59, None)}),
)


def check_slots(slots: Sequence[Slot]) -> None:
    """Refuse two slots of one name."""
    names = [slot.name for slot in slots]
    twice = next((name for name in names if names.count(name) > 1), None)
    require(twice is None, "slots", f"two slots {twice!r}", "different names")


def positions_of(slots: Sequence[Slot], values: Mapping[str, str]) -> list[int]:
    """The position of each slot's value, in the order of the slots; slots that are not named are "not stated".

    Raises ModelError for a slot or a value that the base does not have.
    """
    names = [slot.name for slot in slots]
    other = next((name for name in values if name not in names), None)
    if other is not None:
        raise ModelError(f"slot {other}: the base does not have it; allowed: {', '.join(names)}; change the prompt")
    return [slot.position(values.get(slot.name)) for slot in slots]


def measured_positions(slots: Sequence[Slot], attributes: Mapping[str, np.ndarray]) -> np.ndarray:
    """Positions (N, L) int64 of the measured attributes (N,) of N faces, one column per slot.

    Raises ModelError for a slot whose attribute was not measured.
    """
    missing = next((slot for slot in slots if slot.attribute not in attributes), None)
    if missing is not None:
        raise ModelError(
            f"slot {missing.name}: attribute {missing.attribute!r} was not measured; allowed: "
            f"{', '.join(sorted(attributes))}; remove the slot or measure the attribute"
        )
    return np.stack([_binned(slot, attributes[slot.attribute]) for slot in slots], axis=1)


def mirrored(attributes: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The attributes of the mirror images."""
    return {name: -values if name in MIRRORED else values for name, values in attributes.items()}


def _binned(slot: Slot, values: np.ndarray) -> np.ndarray:
    found = np.full(len(values), slot.not_stated, np.int64)
    for position, (low, high) in enumerate(slot.bins.values()):
        lowest, highest = -np.inf if low is None else low, np.inf if high is None else high
        found[(values >= lowest) & (values < highest)] = position  # never true for NaN
    return found


SLOT_WIDTHS = {"paper112": 512, "small64": 128, "tiny64": 64, "small32": 128, "tiny32": 64}


class SlotDenoiserConfig(UNetConfig):
    """The suite's U-Net conditioned on a sequence of slots."""

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        name: {**unet, "slot_width": SLOT_WIDTHS[name]} for name, unet in UNET_PRESETS.items()
    }

    slot_width: PositiveInt = Field(
        512, description="Width of the learned vector of each value of a slot, and of an identity's vector."
    )
    slots: Annotated[tuple[Slot, ...], Field(min_length=1, max_length=100)] = Field(
        DEFAULT_SLOTS,
        description=(
            "What the base is conditioned on: slots with bins of measured attributes. The defaults follow what "
            "the embedded attribute nets measure; drop `age` below 48 px, where it cannot be measured."
        ),
    )

    @model_validator(mode="after")
    def _check_slots(self) -> Self:
        check_slots(self.slots)
        return self


def slot_denoiser_cost(config: SlotDenoiserConfig) -> UNetCost:
    """Cost of the denoiser that `SlotDenoiser` builds; the sequence has a vector per slot and one of the identity."""
    sequence = len(config.slots) + 1
    unet = unet_cost(config, condition_width=config.slot_width, condition_tokens=1, condition_vectors=sequence)
    vectors = sum(len(slot.bins) + 1 for slot in config.slots) + 1
    return UNetCost(
        parameters=unet.parameters,
        adapter_parameters=unet.adapter_parameters + vectors * config.slot_width,
        macs=unet.macs,
        layers=unet.layers,
    )


def base_config_of(path: str | Path) -> SlotDenoiserConfig:
    """The config in the head of a base's file, read without torch; the weights are not looked at.

    Raises ModelError for a file that is missing, damaged or no base.
    """
    return _head_of(path)[0]


def check_initial_base(path: str | Path, config: SlotDenoiserConfig, *, diffusion: DiffusionConfig) -> None:
    """Refuse a base as the start of one of `config`. The image size may differ, as no weight depends on it.

    Raises ModelError for files that `base_config_of` refuses, and for a base of another shape, schedule or other slots.
    """
    found, found_diffusion = _head_of(path)
    theirs, ours = {**dict(found), **dict(found_diffusion)}, {**dict(config), **dict(diffusion)}
    other = next((field for field in ours if field != "image_size" and theirs[field] != ours[field]), None)
    if other:
        shown = "other slots" if other == "slots" else f"{other} {theirs[other]}, here it is {ours[other]}"
        raise ModelError(f"weights {path}: trained with {shown}; give both the same")


def _head_of(path: str | Path) -> tuple[SlotDenoiserConfig, DiffusionConfig]:
    if not Path(path).is_file():
        raise ModelError(f"weights {path}: no such file")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
        config = SlotDenoiserConfig.model_validate_json(metadata["base"])
        return config, DiffusionConfig.model_validate_json(metadata["diffusion"])
    except (SafetensorError, OSError, KeyError, ValidationError) as error:
        raise ModelError(f"weights {path}: not a whole base; give the file that train-base wrote") from error
