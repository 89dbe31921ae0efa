"""What a synthetic scene may contain: one frozen dataclass, checked once."""

import dataclasses
import functools
import hashlib
import json

from tavid_jax.data.synthetic import combinations, looks, motions, shapes

# Version of the generator: part of every hash, so that data written by older code is
# never taken for data of today's code.
GENERATOR_VERSION = 1

# What an actor may do to its target.
DEEDS = ("pushes", "tips", "lifts", "touches")

# Fields that came after the first data sets: at their defaults they are left out of the hash.
_LATER = (
    "counts",
    "company",
    "stretch",
    "placings",
    "combinations",
    "unsaid",
    "caption_style",
    "deeds",
    "contact",
    "gap",
    "gait",
    "says_target",
    "twins",
)


@dataclasses.dataclass(frozen=True)
class SceneConfig:
    """Distribution of scenes. The defaults are the scenes of the demo.

    Lengths are pixels of a 64-pixel frame and scale with min(H, W) / 64; times are frames
    and scale with 1 / `tempo`.  Together with a seed a config fixes a scene completely.

    Attributes:
      size_hw: frame size (H, W) in pixels.
      num_frames: frames per scene, T.
      stride: side of a grid cell in pixels; queries lie one per cell, row-major.
      origin: "center" puts the query at (stride*j + stride//2, stride*i + stride//2),
        "topleft" at (stride*j, stride*i).
      fps: frames per second written into clips.
      max_objects: most sprites of a scene, S.
      presence: probability of each of the S sprites.
      radius: least and greatest radius; every shape has the area of the disc of that radius.
      kinds: kinds of motion, drawn uniformly; see `motions.KINDS`.
      shapes: silhouettes, drawn uniformly; see `shapes.SHAPES`.
      colours: names of the palette, distinct within a scene while they last.
      textures: textures of sprites; see `looks.TEXTURES`.
      backgrounds: textures of the background plane; see `looks.BACKGROUNDS`.
      camera: probability of a moving camera.
      pan, zoom, roll: greatest amplitude of the camera's sinusoids (px, log scale, radian).
      shake: amplitude of a random hand shake in px (nobody can forecast it: 0 in the demo).
      tempo: speed of all motion; 34 / num_frames keeps the motion of the demo in a clip of
        another length.
      interaction: scenes in which an actor walks to one of several look-alikes and touches it.
      actors: shapes of actors.
      targets: shapes of targets.
      lookalikes: least and greatest number of look-alikes beside the target.
      counts: probability of one, two, ... sprites; () leaves the number to `presence`.
      company: least and greatest radius beside other sprites; () is `radius`.
      stretch: least and greatest ratio of width to height that shapes are stretched to.
      placings: draws of the paths of which the one with least overlap is taken.
      combinations: "all" (colour, shape, motion) triples, only "seen" or only "unseen" ones; see
        `combinations.is_held_out`.
      unsaid: share of scenes on free paths (`drift`), whose short captions name no motion.
      caption_style: "full" sentences, or "short": "a red disc moves left and a pink hoop ...".
      deeds: what actors do to targets, drawn uniformly; see `DEEDS`.
      contact: least and greatest time of the contact, as a share of the clip.
      gap: least free distance between actor and targets at frame 0.
      gait: height of the actor's steps; 0 lets it glide.
      says_target: share of short captions of interactions with the word "target".
      twins: whether clips have a partner, in which other sprites move alike; see `twins`.
      render: False leaves the video and the segment map out of clips (tracks only: faster).
    """

    size_hw: tuple[int, int] = (64, 64)
    num_frames: int = 34
    stride: int = 8
    origin: str = "center"
    fps: float = 12.0
    max_objects: int = 4
    presence: float = 0.85
    radius: tuple[float, float] = (9.0, 15.0)
    kinds: tuple[str, ...] = motions.FORECAST_KINDS
    shapes: tuple[str, ...] = ("disc", "box", "triangle", "star", "ring", "heart")
    colours: tuple[str, ...] = tuple(looks.PALETTE)
    textures: tuple[str, ...] = looks.TEXTURES
    backgrounds: tuple[str, ...] = looks.BACKGROUNDS
    camera: float = 0.7
    pan: float = 7.0
    zoom: float = 0.08
    roll: float = 0.10
    shake: float = 0.0
    tempo: float = 1.0
    interaction: bool = False
    actors: tuple[str, ...] = ("person", "dog", "bird", "fish", "disc")
    targets: tuple[str, ...] = ("box", "star", "ring", "triangle", "heart")
    lookalikes: tuple[int, int] = (1, 2)
    counts: tuple[float, ...] = ()
    company: tuple[float, ...] = ()
    stretch: tuple[float, float] = (0.7, 1.4)
    placings: int = 1
    combinations: str = "all"
    unsaid: float = 0.0
    caption_style: str = "full"
    deeds: tuple[str, ...] = DEEDS
    contact: tuple[float, float] = (0.45, 0.7)
    gap: float = 2.0
    gait: float = 1.0
    says_target: float = 0.0
    twins: bool = False
    render: bool = True

    def __post_init__(self):
        _check(self)

    @classmethod
    def from_dict(cls, fields) -> "SceneConfig":
        """A config from a mapping of some fields, as JSON or a command line gives it.

        Lists become tuples, and whole numbers become floats where a float is meant.

        Raises:
          ValueError: an unknown field, or a value that no scene can be made from.
        """
        known = {field.name: field.default for field in dataclasses.fields(cls)}
        unknown = sorted(set(fields) - set(known))
        if unknown:
            raise ValueError(f"SceneConfig has no field {unknown}; its fields are {sorted(known)}")
        return cls(**{name: _like(known[name], value) for name, value in fields.items()})

    @property
    def unit(self) -> float:
        """Pixels of this frame per pixel of a 64-pixel frame."""
        return min(self.size_hw) / 64.0

    @property
    def grid_hw(self) -> tuple[int, int]:
        """Cells (gh, gw) of the query grid."""
        return self.size_hw[0] // self.stride, self.size_hw[1] // self.stride

    def digest(self) -> str:
        """Hash of everything that decides what a scene looks like (12 hex digits)."""
        return _digest(self)


def _like(default, value):
    """`value` with the types of `default`, as far as they only differ in how they were written."""
    if isinstance(default, tuple) and isinstance(value, list | tuple):
        return tuple(_like(default[0] if default else 0.0, item) for item in value)
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value


@functools.lru_cache(maxsize=64)
def _digest(config: SceneConfig) -> str:
    fields = dataclasses.asdict(config)
    for field in dataclasses.fields(config):
        if field.name in _LATER and fields[field.name] == field.default:
            del fields[field.name]
    text = json.dumps([GENERATOR_VERSION, fields], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _check(config: SceneConfig) -> None:
    """Raises ValueError naming the field that no scene can be made from."""

    def fail(field, why):
        raise ValueError(f"SceneConfig.{field}={getattr(config, field)!r}: {why}")

    for field, known in (
        ("kinds", motions.KINDS),
        ("shapes", shapes.SHAPES),
        ("actors", shapes.SHAPES),
        ("targets", shapes.SHAPES),
        ("colours", looks.PALETTE),
        ("textures", (*looks.TEXTURES, looks.FLAT)),
        ("backgrounds", (*looks.BACKGROUNDS, looks.GREY)),
        ("deeds", DEEDS),
    ):
        unknown = [name for name in getattr(config, field) if name not in known]
        if unknown or not getattr(config, field):
            fail(field, f"give at least one of {sorted(known)}")
    if len(config.size_hw) != 2 or min(config.size_hw) < 16:
        fail("size_hw", "two sides of at least 16 pixels are needed")
    if config.num_frames < 1:
        fail("num_frames", "at least one frame is needed")
    if config.stride < 1 or any(side % config.stride for side in config.size_hw):
        fail("stride", f"must divide both sides of size_hw={config.size_hw}")
    if config.origin not in ("center", "topleft"):
        fail("origin", "must be 'center' or 'topleft'")
    if config.max_objects < 0 or config.max_objects > 200:
        fail("max_objects", "must lie in 0..200")
    for field in ("presence", "camera", "unsaid", "says_target"):
        if not 0.0 <= getattr(config, field) <= 1.0:
            fail(field, "a probability must lie in [0, 1]")
    if not 0.0 < config.radius[0] <= config.radius[1]:
        fail("radius", "must be (least, greatest) with 0 < least <= greatest")
    for field in ("pan", "zoom", "roll", "shake", "gap", "gait"):
        if getattr(config, field) < 0.0:
            fail(field, "an amplitude must not be negative")
    if config.tempo <= 0.0 or config.fps <= 0.0:
        fail("tempo" if config.tempo <= 0.0 else "fps", "must be positive")
    if min(config.counts, default=0.0) < 0.0 or len(config.counts) > config.max_objects:
        fail("counts", f"give at most max_objects={config.max_objects} probabilities")
    if config.counts and abs(sum(config.counts) - 1.0) > 1e-6:
        fail("counts", "the probabilities must sum to 1")
    if config.company and not (len(config.company) == 2 and 0.0 < config.company[0]):
        fail("company", "must be () or two positive radii (least, greatest)")
    if config.company and config.company[0] > config.company[1]:
        fail("company", "must be () or two positive radii (least, greatest)")
    if not 0.0 < config.stretch[0] <= config.stretch[1]:
        fail("stretch", "must be (least, greatest) with 0 < least <= greatest")
    if config.placings < 1:
        fail("placings", "at least one draw is needed")
    if config.caption_style not in ("full", "short"):
        fail("caption_style", "must be 'full' or 'short'")
    if not 0.0 < config.contact[0] <= config.contact[1] <= 1.0:
        fail("contact", "must be (least, greatest) within 0..1")
    _check_combinations(config, fail)
    if config.twins and (config.interaction or config.combinations != "all"):
        fail("twins", "need free scenes (interaction=False) of combinations='all'")
    if not 0 <= config.lookalikes[0] <= config.lookalikes[1] <= 6:
        fail("lookalikes", "must be (least, greatest) within 0..6")


def _check_combinations(config: SceneConfig, fail) -> None:
    if config.combinations not in combinations.CHOICES:
        fail("combinations", f"must be one of {combinations.CHOICES}")
    if config.combinations == "unseen" and config.unsaid > 0.0:
        fail("unsaid", "must be 0 with combinations='unseen': a free path is no unseen motion")
    names = (config.colours, config.shapes, config.kinds)
    if (
        not config.interaction
        and not combinations.pairs(config.combinations, *map(len, names))[1].all()
    ):
        fail("combinations", "some colour has no such (shape, motion); give more shapes or kinds")
