"""The layers of Wan's VAE, read from its configuration: in which order they come. No torch.

It follows `AutoencoderKLWan` of diffusers 0.42, for the VAE of Wan2.1 and for the one of Wan2.2-TI2V-5B, whose groups
of layers have a shortcut around them (`is_residual`) and whose pixels are folded into channels first (`patch_size`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Layer:
    """A layer, with its channels `before` and `after`.

    `kind` is conv, res, attention, norm, silu, up, up_time, down or down_time.
    """

    kind: str
    before: int
    after: int


@dataclass(frozen=True)
class Shortcut:
    """The way around a group: its channels, and how many times the frames and the pixels of a side change."""

    after: int
    time: int
    space: int
    up: bool


@dataclass(frozen=True)
class Group:
    """Layers that are one function: who calls it holds the input until all of them are done."""

    layers: tuple[Layer, ...]
    shortcut: Shortcut | None = None
    copies: bool = False  # a copy of the input is made at the beginning


@dataclass(frozen=True)
class Vae:
    """Both halves of a VAE.

    `z` are a latent's channels, `channels` those of a pixel; a latent is `scale` pixels wide, and `patch` are folded into one.
    """

    decoder: tuple[Group, ...]
    encoder: tuple[Group, ...]
    z: int
    channels: int
    scale: int
    patch: int


def vae_of(config: Mapping[str, Any]) -> Vae:
    """The VAE with this configuration, as the config.json of diffusers has it."""
    filled = {**_DEFAULTS, **config}
    return Vae(
        decoder=_decoder(filled),
        encoder=_encoder(filled),
        z=filled["z_dim"],
        channels=filled["in_channels"],
        scale=filled["scale_factor_spatial"],
        patch=filled["patch_size"] or 1,
    )


_DEFAULTS = {
    "base_dim": 96,
    "decoder_base_dim": None,
    "z_dim": 16,
    "dim_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "temperal_downsample": [False, True, True],
    "is_residual": False,
    "in_channels": 3,
    "out_channels": 3,
    "patch_size": None,
    "scale_factor_spatial": 8,
}


def _alone(*layers: Layer) -> list[Group]:
    return [Group((layer,)) for layer in layers]


def _middle(dim: int) -> Group:
    return Group((Layer("res", dim, dim), Layer("attention", dim, dim), Layer("res", dim, dim)))


def _decoder(config: Mapping[str, Any]) -> tuple[Group, ...]:
    base, mult, residual = config["decoder_base_dim"] or config["base_dim"], config["dim_mult"], config["is_residual"]
    dims = [base * factor for factor in (mult[-1], *reversed(mult))]
    doubled = [*reversed(config["temperal_downsample"]), None]  # whether a group doubles frames; the last one doubles nothing
    groups = [*_alone(Layer("conv", config["z_dim"], dims[0])), _middle(dims[0])]
    for i, (into, out, time) in enumerate(zip(dims[:-1], dims[1:], doubled, strict=True)):
        into = into // 2 if i > 0 and not residual else into
        layers = [Layer("res", out if n else into, out) for n in range(config["num_res_blocks"] + 1)]
        if time is not None:
            layers.append(Layer("up_time" if time else "up", out, out if residual else out // 2))
        around = Shortcut(out, 2 if time else 1, 2, up=True) if residual and time is not None else None
        groups.append(Group(tuple(layers), around, copies=residual))
    last = dims[-1]
    return (*groups, *_alone(Layer("norm", last, last), Layer("silu", last, last), Layer("conv", last, config["out_channels"])))


def _encoder(config: Mapping[str, Any]) -> tuple[Group, ...]:
    residual = config["is_residual"]
    dims = [config["base_dim"] * factor for factor in (1, *config["dim_mult"])]
    halved = [*config["temperal_downsample"], None]
    groups = _alone(Layer("conv", config["in_channels"], dims[0]))
    for into, out, time in zip(dims[:-1], dims[1:], halved, strict=True):
        layers = [Layer("res", out if n else into, out) for n in range(config["num_res_blocks"])]
        if time is not None:
            layers.append(Layer("down_time" if time else "down", out, out))
        if residual:
            around = Shortcut(out, 2 if time else 1, 1 if time is None else 2, up=False)
            groups.append(Group(tuple(layers), around, copies=True))
        else:
            groups += _alone(*layers)
    last = dims[-1]
    ends = Layer("norm", last, last), Layer("silu", last, last), Layer("conv", last, 2 * config["z_dim"])
    return (*groups, _middle(last), *_alone(*ends))
