"""Scenes for the smallest models: flat shapes on grey, 24 x 24 pixels, nine frames, short captions.

What a model learns first is what changes most pixels. So colours are far apart, silhouettes are
coarse, and all of it was chosen by the tables of `silhouettes` before anything was trained.
"""

from tavid_jax.data.synthetic import looks, motions
from tavid_jax.data.synthetic.config import SceneConfig

SIZE = 24  # px
NUM_FRAMES = 9

# Of the palette the six that are farthest apart (0.43 in RGB of 0..1 for the closest two), and one
# that stays for demonstrations of learning a new colour (0.37 from the closest).
COLOURS = ("red", "yellow", "teal", "purple", "pink", "white")
NEW_COLOUR = "green"
SILHOUETTES = ("disc", "beam", "pillar", "hoop")

_PLAIN = dict(
    size_hw=(SIZE, SIZE),
    num_frames=NUM_FRAMES,
    stride=8,  # tracks are not asked for: a grid of 3 x 3
    fps=8.0,
    textures=(looks.FLAT,),
    backgrounds=(looks.GREY,),
    camera=0.0,
    caption_style="short",
)


def _px(*lengths: float) -> tuple[float, ...]:
    """Pixels of these frames as pixels of a 64-pixel frame."""
    return tuple(length * 64.0 / SIZE for length in lengths)


def moving_objects(combinations: str = "seen", **fields) -> SceneConfig:
    """One or two objects that go left, right, up or down or stand still, as the caption says.

    Args:
      combinations: "seen" for training, "unseen" for captions that never occur in training, or
        "all" for both.
      **fields: of `SceneConfig`, to change.

    Returns:
      60 % of the scenes have one object, 40 % two of different colours. A fifth of the scenes go on
      free paths that the caption does not name (none of the unseen ones).
    """
    defaults = dict(
        max_objects=2,
        counts=(0.6, 0.4),
        radius=_px(4.3, 5.2),
        company=_px(3.4, 4.0),
        stretch=(1.0, 1.0),
        placings=12,
        kinds=motions.SAID_KINDS,
        shapes=SILHOUETTES,
        colours=COLOURS,
        unsaid=0.0 if combinations == "unseen" else 0.2,
    )
    return SceneConfig(**{**_PLAIN, **defaults, "combinations": combinations, **fields})


def reaching(**fields) -> SceneConfig:
    """A disc glides to one of two equal boxes, touches it and rests there.

    Which box it will be cannot be seen in the first frame nor read in the caption; half of the
    captions hold the word "target".

    Args:
      **fields: of `SceneConfig`, to change.
    """
    defaults = dict(
        interaction=True,
        actors=("disc",),
        targets=("box",),
        lookalikes=(1, 1),
        deeds=("touches",),
        contact=(0.6, 0.75),
        radius=_px(3.1, 3.1),
        gap=_px(3.2)[0],
        gait=0.0,
        colours=COLOURS,
        says_target=0.5,
    )
    return SceneConfig(**{**_PLAIN, **defaults, **fields})


def steered(**fields) -> SceneConfig:
    """One or two objects, a disc or a box each, that roam on paths which only their tracks tell.

    The looks are those of `reaching`, the captions say no more than "a red disc and a pink box",
    and tracks lie on a grid of every second pixel. One object of about seven stands still.

    Args:
      **fields: of `SceneConfig`, to change.
    """
    defaults = dict(
        stride=2,
        max_objects=2,
        counts=(0.4, 0.6),
        radius=_px(2.4, 3.4),
        stretch=(1.0, 1.0),
        placings=12,
        kinds=("roam",),
        shapes=("disc", "box"),
        colours=COLOURS,
    )
    return SceneConfig(**{**_PLAIN, **defaults, **fields})


def grounded(**fields) -> SceneConfig:
    """Two objects that look as those of `moving_objects`, on bent paths that no words tell.

    The captions say no more than "a red disc and a pink hoop", the local ones "a red disc"; tracks
    lie on a grid of every pixel.

    Args:
      **fields: of `SceneConfig`, to change: `counts=(0.5, 0.5)` for one or two objects.
    """
    defaults = dict(kinds=("drift",), counts=(0.0, 1.0), unsaid=0.0, stride=1, placings=24)
    return moving_objects("all", **{**defaults, **fields})


def crowd(**fields) -> SceneConfig:
    """Three to five small objects that cross, hide each other and leave the frame for a while.

    All lie apart in the first and in the last frame. Captions are silent as in `grounded`; tracks
    lie on a grid of every pixel. The frames are 32 x 32 pixels: tokens of 4 pixels are 8 x 8.

    Args:
      **fields: of `SceneConfig`, to change: `counts` is the probability of one, two, ... objects,
        and `size_hw=(24, 24)` gives the same scenes in smaller frames.
    """
    defaults = dict(
        size_hw=(32, 32),
        stride=1,
        max_objects=5,
        counts=(0.0, 0.0, 0.4, 0.3, 0.3),
        radius=_px(2.25, 2.55),
        stretch=(1.0, 1.0),
        kinds=("travel",),
        shapes=SILHOUETTES,
        colours=COLOURS,
    )
    return SceneConfig(**{**_PLAIN, **defaults, **fields})
