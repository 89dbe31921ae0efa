"""The frozen encoders of a published model at work on many clips, one kind in memory at a time."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import itertools
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from tavid_jax.data.clip import Clip, ClipError
from tavid_jax.data.shards import NULL_TEXT
from tavid_jax.engine.method import Arrays, Params
from tavid_jax.models.text.tokenizer import Tokenizer
from tavid_jax.parallel.mesh import BATCH_AXES
from tavid_jax.parallel.sharding import batch_sharding
from tavid_jax.pipelines.backbones import MASK
from tavid_jax.pipelines.encoding import clip_tokens, text_features
from tavid_jax.pipelines.folder import IMAGE, TEXT, TOKENIZER, VAE
from tavid_jax.pipelines.keeping import Keep, kept
from tavid_jax.pipelines.locating import text_length
from tavid_jax.pipelines.memory import Memory
from tavid_jax.pipelines.part import Part
from tavid_jax.pipelines.recipe import Recipe
from tavid_jax.pipelines.settings import Published
from tavid_jax.pipelines.targets import TargetReader

# Of the layout of examples; older ones are not read.
FORMAT = 1
# Types that latents may be stored in. float32 is what was computed; float16 halves the space and
# rounds by 1 / 2048, far below the noise of training; bfloat16 rounds by 1 / 256.
STORED = ("float32", "float16", "bfloat16")
_TEXT_DTYPE = jnp.bfloat16


@functools.partial(jax.jit, static_argnums=(0,))
def _latents(recipe: Recipe, params: Params, video: jax.Array, keys: jax.Array) -> Arrays:
    return recipe(params, video, keys)


@dataclasses.dataclass(eq=False)
class Encoders:
    """What turns clips into the examples that a backbone is trained on. See `open_encoders`.

    Attributes:
      published: the model that they belong to.
      parts: autoencoder, text encoder and, if the backbone reads one, image tower.
      tokenizer: of the text encoder.
      tokenizer_mark: its fingerprint.
      recipe: how pixels become latents.
      stored: type of the latents on disk, of `STORED`.
      seed: of what is drawn; an example's draws depend on it and on the clip's name alone.
      memory: what is traded for memory.
      mesh: devices of this host; clips are divided over its batch axes.
      per_device: clips encoded by a device at once.
      reader: of clips with targets: adds their masks, and their places in the text, to examples.
      keep: what examples keep of the clips' trajectories and their texts, see `keeping`; the text
        encoder is held beside the others then.

    Raises:
      ValueError: an unknown type; encoders whose output is not what the backbone reads.
    """

    published: Published
    parts: dict[str, Part]
    tokenizer: Tokenizer
    tokenizer_mark: str
    recipe: Recipe
    stored: str = "float32"
    seed: int = 0
    memory: Memory = Memory()
    mesh: Mesh | None = None
    per_device: int = 1
    reader: TargetReader | None = None
    keep: Keep | None = None
    _null: np.ndarray | None = dataclasses.field(default=None, init=False, repr=False)

    def __post_init__(self):
        if self.stored not in STORED:
            raise ValueError(f"latents stored as {self.stored!r}: there are {', '.join(STORED)}")
        spec = self.recipe.backbone.spec()
        for name, one in self._arrays.items():
            # Without a table of their positions, any number of the tower's tokens is read.
            axes = slice(1, None) if name == "clip" else slice(None)
            if name in spec and one.shape[axes] != spec[name].shape[axes]:
                raise ValueError(
                    f"{name}: the encoders make {one.shape}, {self.published.backbone} reads "
                    f"{spec[name].shape}: these are not its encoders"
                )

    # ---- facts -------------------------------------------------------------------------------

    def facts(self) -> dict[str, Any]:
        """All that the examples depend on besides the clips."""
        r = self.recipe
        return self.requirements() | {
            "model": self.published.backbone,
            "seed": self.seed,
            "stored": self.stored,
            "dtype": jnp.dtype(self.parts[TEXT].dtype).name,
            "int8": list(self.memory.int8),
            "chunk": r.chunk,
            "tiles": str(r.tiles),
        }

    def requirements(self) -> dict[str, Any]:
        """The facts without which examples made elsewhere are of no use to this model."""
        marks = {name: part.opened.fingerprint() for name, part in self.parts.items()}
        return requirements(self.recipe, self._arrays, self.reader, self.keep) | {
            "encoders": marks | {TOKENIZER: self.tokenizer_mark},
        }

    @functools.cached_property
    def _arrays(self) -> dict[str, jax.ShapeDtypeStruct]:
        """What an example holds."""
        r, text = self.recipe, self.parts[TEXT].config
        geometry = r.backbone.geometry
        video = jax.ShapeDtypeStruct((1, geometry.frames, *geometry.size_hw, 3), jnp.uint8)
        shapes = jax.eval_shape(self._of_shapes, video)
        latents = {name: jax.ShapeDtypeStruct(x.shape[1:], x.dtype) for name, x in shapes.items()}
        length = r.backbone.model.config.text_length
        latents["text"] = jax.ShapeDtypeStruct((length, text.dim), _TEXT_DTYPE)
        if IMAGE in self.parts:
            tower = self.parts[IMAGE].config
            tokens = tower.num_tokens * (2 if r.last_frame else 1)
            latents["clip"] = jax.ShapeDtypeStruct((tokens, tower.width), _TEXT_DTYPE)
        if self.reader is not None:
            marked = {MASK: r.backbone.spec()[MASK], **self.reader.spec()}
            latents |= {k: jax.ShapeDtypeStruct(s.shape, s.dtype) for k, s in marked.items()}
        return latents

    def _of_shapes(self, video: jax.Array) -> Arrays:
        coder, keys = self.recipe.coder, jax.random.split(jax.random.key(0), 1)
        side = coder.config.stride_hw
        method = type(coder).encode
        made = coder.init(keys[0], jnp.zeros((1, 1, side, side, 3)), method=method)
        return self.recipe(made.get("params", {}), video, keys)

    # ---- work --------------------------------------------------------------------------------

    def shared(self) -> dict[str, np.ndarray]:
        """Features of the empty caption, for training without one and for guidance."""
        if self._null is None:
            with contextlib.ExitStack() as held:
                self._texts([], self._hold(TEXT, held))
        return {NULL_TEXT: self._null}

    def examples(self, captions: Sequence[str], clips: Iterator[Clip]) -> Iterator[dict[str, Any]]:
        """Latents and features of clips, in order.

        Args:
          captions: of all clips; the text encoder is gone before the first clip is asked for,
            unless trajectories are kept.
          clips: of the geometry's frames and size.

        Raises:
          ClipError: a clip of another size or length; see also `TargetReader.read` and `kept`.
        """
        if self.reader is not None:
            captions = [self.reader.prompt(caption) for caption in captions]
        with contextlib.ExitStack() as held:
            with contextlib.ExitStack() as shortly:
                # The texts of trajectories are known when clips are.
                encoder = self._hold(TEXT, shortly if self.keep is None else held)
                texts = self._texts(captions, encoder)
                read = None if self.keep is None else _Phrases(self, encoder)
                del encoder
            tower = self._hold(IMAGE, held) if IMAGE in self.parts else None
            params = self._hold(VAE, held)
            words = iter(captions)
            for group in _batched(clips, self._at_once):
                latents = self._encode(params, group)
                for row, clip in enumerate(group):
                    example = {name: x[row] for name, x in latents.items()}
                    if tower is not None:
                        example["clip"] = self._tokens(tower, clip)
                    if self.reader is not None:
                        example |= self.reader.read(clip)
                    if read is not None:
                        example |= kept(self.keep, clip, read)
                    yield example | {"text": texts[next(words)]}

    def _hold(self, part: str, held: contextlib.ExitStack) -> Params:
        """The weights of a part, until the stack is closed."""
        with self._on_mesh():
            params = held.enter_context(self.parts[part].hold(self.mesh))
        if self.parts[part].on_cpu:  # where other parts do not live
            held.enter_context(jax.default_device(None))
        return params

    def _texts(self, captions: Sequence[str], encoder: Params) -> dict[str, np.ndarray]:
        length = self.recipe.backbone.model.config.text_length
        texts = self.read(encoder, [*captions, ""], length)
        self._null = texts[""]
        return texts

    def read(self, encoder: Params, texts: Sequence[str], length: int) -> dict[str, np.ndarray]:
        """{text: features (length, E)} by the weights of the text encoder."""
        part, wan = self.parts[TEXT], self.published.family == "wan"
        wanted = [(text, length) for text in texts]
        with self._on_mesh(), part.device():
            found = text_features(part, encoder, self.tokenizer, wanted, wan=wan, dtype=_TEXT_DTYPE)
        return {text: features for (text, _), features in found.items()}

    @property
    def _at_once(self) -> int:
        ways = 1 if self.mesh is None else int(np.prod([self.mesh.shape[a] for a in BATCH_AXES]))
        return ways * self.per_device

    def _encode(self, params: Params, clips: Sequence[Clip]) -> dict[str, np.ndarray]:
        for clip in clips:
            self._check(clip)
        # One program for all: what is missing in the last batch repeats its first clip.
        filled = [*clips, *[clips[0]] * (self._at_once - len(clips))]
        video = np.stack([clip.video for clip in filled])
        keys = self._keys([clip.id for clip in filled])
        if self.mesh is not None:
            video, keys = jax.device_put((video, keys), batch_sharding(self.mesh))
        with self._on_mesh():
            latents = jax.device_get(_latents(self.recipe, params, video, keys))
        stored = jnp.dtype(self.stored)
        return {name: x if name == "given" else x.astype(stored) for name, x in latents.items()}

    def _check(self, clip: Clip) -> None:
        geometry = self.recipe.backbone.geometry
        wanted = (geometry.frames, *geometry.size_hw, 3)
        if clip.video is None or clip.video.shape != wanted:
            found = "no frames" if clip.video is None else f"frames of shape {clip.video.shape}"
            raise ClipError(f"clip {clip.id!r}: has {found}, {wanted} are encoded")

    def _keys(self, names: Sequence[str]) -> jax.Array:
        base = jax.random.key(self.seed)
        # A name's own number: neither order nor host matters.
        numbers = jnp.asarray([zlib.crc32(name.encode()) for name in names], jnp.uint32)
        return jax.vmap(lambda number: jax.random.fold_in(base, number))(numbers)

    def _tokens(self, params: Params, clip: Clip) -> np.ndarray:
        part = self.parts[IMAGE]
        pictures = [clip.video[0]] + ([clip.video[-1]] if self.recipe.last_frame else [])
        with part.device():
            return clip_tokens(part, params, pictures).astype(_TEXT_DTYPE)

    def _on_mesh(self) -> Any:
        return contextlib.nullcontext() if self.mesh is None else jax.set_mesh(self.mesh)


class _Phrases:
    """The text encoder, as `kept` calls it; each text is encoded once."""

    def __init__(self, encoders: Encoders, encoder: Params):
        self.encoders, self.encoder = encoders, encoder
        self.known: dict[str, np.ndarray] = {}

    def __call__(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        room, width = self.encoders.keep.room, self.encoders.parts[TEXT].config.dim
        new = [text for text in texts if text not in self.known]
        self.known |= self.encoders.read(self.encoder, new, room)
        features = np.zeros((len(texts), room, width), _TEXT_DTYPE)
        for row, text in enumerate(texts):
            features[row] = self.known[text]
        lengths = [text_length(self.encoders.tokenizer, text, room) for text in texts]
        return features, np.array(lengths, np.int32)


def requirements(
    recipe: Recipe,
    arrays: Mapping[str, Any],
    reader: TargetReader | None = None,
    keep: Keep | None = None,
) -> dict[str, Any]:
    """What examples must agree on with a recipe, whoever made them.

    Args:
      recipe: how pixels become latents.
      arrays: what an example holds, anything with a shape and a dtype.
      reader: of their targets, if they have any.
      keep: what they keep of trajectories, if anything.
    """
    geometry = recipe.backbone.geometry
    more = {} if reader is None else {"targets": dataclasses.asdict(reader.targets)}
    more |= {} if keep is None else {"trajectories": dataclasses.asdict(keep)}
    return more | {
        "format": FORMAT,
        "size_hw": list(geometry.size_hw),
        "frames": geometry.frames,
        "posterior": recipe.posterior,
        "image_noise": recipe.image_noise,
        "arrays": {
            name: {"shape": list(one.shape), "dtype": jnp.dtype(one.dtype).name}
            for name, one in arrays.items()
        },
    }


def tokenizer_mark(path: str | Path) -> str:
    """Tells a tokenizer from others: a hash of its vocabulary's files."""
    path, digest = Path(path).expanduser(), hashlib.sha256()
    names = ("tokenizer.json", "*.model", "added_tokens.json")
    files = [path] if path.is_file() else sorted(f for name in names for f in path.glob(name))
    for file in files:
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()[:12]


def _batched(clips: Iterator[Clip], size: int) -> Iterator[list[Clip]]:
    while group := list(itertools.islice(clips, size)):
        yield group
