"""Sizes and options of encoders (CLIP, DINO, OWL-ViT, I3D), and the published ones by name."""

import dataclasses
from typing import Literal

Activation = Literal["gelu", "quick_gelu"]


def _check_heads(name: str, width: int, num_heads: int) -> None:
    if width % num_heads:
        raise ValueError(f"{name}: width={width} is not a multiple of num_heads={num_heads}")


def _check_patches(name: str, image_size: int, patch_size: int) -> None:
    if image_size % patch_size:
        raise ValueError(
            f"{name}: patches of {patch_size} do not fill an image of {image_size} pixels"
        )


@dataclasses.dataclass(frozen=True)
class CLIPVisionConfig:
    """The image tower; the defaults are those of ViT-H/14, which Wan's image-to-video reads.

    Attributes:
      width: of every token.
      num_heads, num_layers, mlp_dim: of the blocks.
      image_size: rows and columns of the picture, in pixels.
      patch_size: rows and columns of one token.
      activation: of the MLP: "gelu" by the error function, or OpenAI's "quick_gelu".
      feature_dim: width of the features that are compared with a text's; None for a tower that
        comes without that projection.
      epsilon: of all norms.
    """

    width: int = 1280
    num_heads: int = 16
    num_layers: int = 32
    mlp_dim: int = 5120
    image_size: int = 224
    patch_size: int = 14
    activation: Activation = "gelu"
    feature_dim: int | None = 1024
    epsilon: float = 1e-5

    def __post_init__(self):
        _check_heads("CLIPVisionConfig", self.width, self.num_heads)
        _check_patches("CLIPVisionConfig", self.image_size, self.patch_size)

    @property
    def num_tokens(self) -> int:
        """The class token and the patches: 257 for ViT-H/14."""
        return 1 + (self.image_size // self.patch_size) ** 2


@dataclasses.dataclass(frozen=True)
class CLIPTextConfig:
    """The text tower; the defaults are those of ViT-H/14.

    Attributes:
      width: of every token.
      num_heads, num_layers, mlp_dim: of the blocks.
      vocab_size: rows of the token table.
      text_length: most tokens of a text, its start and end included.
      activation: of the MLP, see `CLIPVisionConfig`.
      feature_dim: width of the features that are compared with an image's.
      end_id: the token whose place holds the summary of a text (its first occurrence); None for
        the largest id of each text, which is the same for the published vocabularies.
      epsilon: of all norms.
    """

    width: int = 1024
    num_heads: int = 16
    num_layers: int = 24
    mlp_dim: int = 4096
    vocab_size: int = 49408
    text_length: int = 77
    activation: Activation = "gelu"
    feature_dim: int = 1024
    end_id: int | None = None
    epsilon: float = 1e-5

    def __post_init__(self):
        _check_heads("CLIPTextConfig", self.width, self.num_heads)


@dataclasses.dataclass(frozen=True)
class CLIPConfig:
    """Both towers of one model."""

    vision: CLIPVisionConfig = CLIPVisionConfig()
    text: CLIPTextConfig = CLIPTextConfig()

    def __post_init__(self):
        if self.vision.feature_dim != self.text.feature_dim:
            raise ValueError(
                f"CLIPConfig: image features of {self.vision.feature_dim} and text features of "
                f"{self.text.feature_dim} cannot be compared; give both one feature_dim"
            )


@dataclasses.dataclass(frozen=True)
class ViTConfig:
    """A plain Vision Transformer; the defaults are those of DINO's ViT-B/16.

    Attributes:
      width: of every token.
      num_heads, num_layers, mlp_dim: of the blocks.
      image_size: rows and columns that the positions were learned for, in pixels.
      patch_size: rows and columns of one token.
      epsilon: of all norms.
      layer_scale: what the blocks add is multiplied channel by channel, as in DINOv2.
    """

    width: int = 768
    num_heads: int = 12
    num_layers: int = 12
    mlp_dim: int = 3072
    image_size: int = 224
    patch_size: int = 16
    epsilon: float = 1e-12
    layer_scale: bool = False

    def __post_init__(self):
        _check_heads("ViTConfig", self.width, self.num_heads)
        _check_patches("ViTConfig", self.image_size, self.patch_size)

    @property
    def num_tokens(self) -> int:
        """The class token and the patches of an image of `image_size`: 197 for ViT-B/16."""
        return 1 + (self.image_size // self.patch_size) ** 2


_OPENAI_B = dict(num_heads=12, num_layers=12, activation="quick_gelu", feature_dim=512)
_OPENAI_L = dict(activation="quick_gelu", feature_dim=768)

CLIP_PRESETS: dict[str, CLIPConfig] = {
    "clip-vit-h-14": CLIPConfig(),
    "clip-vit-b-32": CLIPConfig(
        CLIPVisionConfig(width=768, mlp_dim=3072, patch_size=32, **_OPENAI_B),
        CLIPTextConfig(width=512, mlp_dim=2048, **{**_OPENAI_B, "num_heads": 8}),
    ),
    "clip-vit-l-14": CLIPConfig(
        CLIPVisionConfig(width=1024, mlp_dim=4096, num_layers=24, **_OPENAI_L),
        CLIPTextConfig(width=768, mlp_dim=3072, num_heads=12, num_layers=12, **_OPENAI_L),
    ),
}
# The image towers alone. Wan's is that of ViT-H/14, trained together with another text tower.
VISION_PRESETS = {f"{name}-vision": preset.vision for name, preset in CLIP_PRESETS.items()}


@dataclasses.dataclass(frozen=True)
class OwlViTConfig:
    """An open-vocabulary detector on CLIP's two towers; the defaults are those of B/32.

    Attributes:
      vision: the image tower; every patch of it proposes one box.
      text: the tower of the queries.
    """

    vision: CLIPVisionConfig = CLIPVisionConfig(
        width=768, mlp_dim=3072, patch_size=32, image_size=768, **_OPENAI_B
    )
    text: CLIPTextConfig = CLIPTextConfig(
        width=512, mlp_dim=2048, text_length=16, **{**_OPENAI_B, "num_heads": 8}
    )

    def __post_init__(self):
        # A patch's class embedding has the text tower's width, a query the features' width.
        widths = (self.vision.feature_dim, self.text.feature_dim, self.text.width)
        if len(set(widths)) > 1:
            raise ValueError(
                "OwlViTConfig: features of the image and of the text and the width of the text "
                f"tower must be one number, not {widths}"
            )


def _dinov2(width: int, num_heads: int, num_layers: int) -> ViTConfig:
    """A DINOv2 without registers (Oquab et al. 2023), learned at 37 x 37 patches."""
    return ViTConfig(
        width=width,
        num_heads=num_heads,
        num_layers=num_layers,
        mlp_dim=4 * width,
        image_size=518,
        patch_size=14,
        epsilon=1e-6,
        layer_scale=True,
    )


VIT_PRESETS: dict[str, ViTConfig] = {
    "dino-vit-b-16": ViTConfig(),
    "dinov2-small": _dinov2(384, 6, 12),
    "dinov2-base": _dinov2(768, 12, 12),
    "dinov2-large": _dinov2(1024, 16, 24),
}
OWLVIT_PRESETS: dict[str, OwlViTConfig] = {
    "owlvit-base-patch32": OwlViTConfig(),
    "owlvit-base-patch16": OwlViTConfig(
        CLIPVisionConfig(width=768, mlp_dim=3072, patch_size=16, image_size=768, **_OPENAI_B)
    ),
}


@dataclasses.dataclass(frozen=True)
class I3DConfig:
    """The inflated Inception network; the defaults are those trained on Kinetics-400.

    Attributes:
      num_classes: of the logits.
      image_size: rows and columns of a frame, in pixels.
      shrink: divides all published widths: 1, 2, 4 or 8.
      epsilon: of the batch norms.
    """

    num_classes: int = 400
    image_size: int = 224
    shrink: int = 1
    epsilon: float = 1e-3

    def __post_init__(self):
        if self.shrink not in (1, 2, 4, 8):
            raise ValueError(
                f"I3DConfig: shrink={self.shrink} does not divide all widths; give 1, 2, 4 or 8"
            )


I3D_PRESETS: dict[str, I3DConfig] = {"i3d-kinetics-400": I3DConfig()}
