"""base.json: what a folder of trained weights is, how it is sampled, and where it came from."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tavid_jax.pipelines.follow import Follow
from tavid_jax.pipelines.located import Locate
from tavid_jax.pipelines.move import Move
from tavid_jax.pipelines.settings import PUBLISHED, Published, Sampling
from tavid_jax.pipelines.targets import Targets
from tavid_jax.untrusted.errors import reading
from tavid_jax.untrusted.names import inside
from tavid_jax.weights.peft_export import DIFFUSERS_FILE
from tavid_jax.weights.problems import WeightsError
from tavid_jax.weights.source import read_json

CARD = "base.json"
# Adapters of the transformer, where they were trained instead of it.
ADAPTERS = DIFFUSERS_FILE
# Adapters of its condition stream, and the projection that fuses two condition videos.
STEERING = "control.safetensors"
# Location-aware cross-attention.
LOCATED = "laca.safetensors"
# Learned vectors of its trigger words.
VECTORS = "target_embedding.safetensors"
_AGAIN = "copy or train it again"


@dataclasses.dataclass(frozen=True)
class Card:
    """The card of a model that was trained here.

    Attributes:
      name: of the model, such as "tiny-wan".
      backbone: published model whose kind it is, a key of `PUBLISHED`.
      sampling: how it is sampled.
      autoencoder: preset of the autoencoder.
      predicts: what the transformer's output is, "velocity" or "data".
      dtype: in which the weights are meant to compute.
      stored: in which they are stored.
      checkpoint: where the parts lie that are not in the folder: a folder, `hf:owner/name` or the
        name of a packaged base; "" where all of them are in it.
      trained: config, seed, command, steps, seconds, devices, version, weights.
      quality: measured numbers.
      loss_curve: [step, loss] of the first steps, by which a training can be recognised.
      files: {path in the folder: sha256}.
      targets: fields of `Targets`, of a model that was trained with them.
      follow: fields of `Follow`, of a model that was trained to follow tracks with them.
      locate: fields of `Locate`, of a model that reads texts of trajectories.
      move: fields of `Move`, of a model that was trained to move its image along tracks; None of
        others.

    Raises:
      ValueError: a backbone or an autoencoder that was never published, sampling that the model
        cannot do, targets or ways to follow tracks or to read local texts that make no sense.
    """

    name: str
    backbone: str
    sampling: Sampling
    autoencoder: str
    predicts: str = "velocity"
    dtype: str = "float32"
    stored: str = "float32"
    checkpoint: str = ""
    trained: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    quality: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    loss_curve: tuple[tuple[int, float], ...] = ()
    files: Mapping[str, str] = dataclasses.field(default_factory=dict)
    targets: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    follow: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    locate: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    move: Mapping[str, Any] | None = None

    def __post_init__(self):
        if self.backbone not in PUBLISHED:
            known = ", ".join(PUBLISHED)
            raise ValueError(f"backbone {self.backbone!r} is none of {known}")
        self.published().check(self.sampling)
        self.read_targets()
        Follow.of(self.follow)
        Locate.of(self.locate)

    def published(self) -> Published:
        """What a pipeline needs to know about the model."""
        known = PUBLISHED[self.backbone]
        return dataclasses.replace(
            known,
            backbone=self.name,
            begins_with=known.preset,
            move=known.move if self.move is None else Move.of(self.move),
            autoencoder=self.autoencoder,
            sampling=self.sampling,
            predicts=self.predicts,
        )

    def read_targets(self) -> Targets | None:
        """What the model knows of targets; None for one that knows nothing.

        Raises:
          ValueError: see `Targets`.
        """
        return Targets.of(self.targets) if self.targets else None

    def to_json(self) -> dict[str, Any]:
        """Content of the file."""
        content = dataclasses.asdict(self)
        return {"name": self.name, "family": PUBLISHED[self.backbone].family} | content

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Card:
        """A card from the content of its file.

        Raises:
          ValueError: fields that are missing, unknown or of no use.
        """
        fields = {field.name: field for field in dataclasses.fields(cls)}
        given = {name: value for name, value in content.items() if name != "family"}
        unknown = sorted(set(given) - set(fields))
        if unknown:
            raise ValueError(f"{unknown[0]!r} is no field of a card; there are {', '.join(fields)}")
        needed = [n for n, f in fields.items() if _is_required(f) and n not in given]
        if needed:
            raise ValueError(f"it lacks {', '.join(needed)}")
        if given["backbone"] not in PUBLISHED:
            raise ValueError(f"backbone {given['backbone']!r} is none of {', '.join(PUBLISHED)}")
        for name in ("trained", "quality", "files", "targets", "follow", "locate"):
            if not isinstance(given.get(name, {}), Mapping):
                raise ValueError(f"{name!r} must be an object, got {given[name]!r:.60}")
        sampling = PUBLISHED[given["backbone"]].sampling.changed(given["sampling"])
        curve = tuple((int(step), float(loss)) for step, loss in given.get("loss_curve", ()))
        targets = {name: _tupled(value) for name, value in given.get("targets", {}).items()}
        follow = {name: _tupled(value) for name, value in given.get("follow", {}).items()}
        read = {"sampling": sampling, "loss_curve": curve, "targets": targets, "follow": follow}
        if given.get("locate"):
            read["locate"] = Locate.of(given["locate"]).to_json()
        return cls(**given | read)


def told_steps(steps: int) -> int:
    """How many steps of a training a card tells the losses of: the first hundredth."""
    return max(1, steps // 100)


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _is_required(field: dataclasses.Field) -> bool:
    return field.default is field.default_factory is dataclasses.MISSING


def has_card(folder: str | Path) -> bool:
    """Whether a folder is one of a model that was trained here."""
    return (Path(folder).expanduser() / CARD).is_file()


def read_card(folder: str | Path, check_files: bool = True) -> Card:
    """The card of a folder.

    Args:
      folder: with a base.json.
      check_files: whether all files that the card lists are read and compared with it.

    Raises:
      WeightsError: no card, one that makes no sense, or files that are missing or damaged.
    """
    folder = Path(folder).expanduser()
    path = folder / CARD
    if not path.is_file():
        raise WeightsError(f"{folder} holds no {CARD}: it is no folder of a model trained here")
    try:
        card = Card.of(read_json(path))
    except WeightsError:
        raise
    except (ValueError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path} is no card of a model: {error}") from error
    for name, digest in card.files.items() if check_files else ():
        with reading(path, WeightsError, "a card"):
            file = inside(folder, name)
        if not file.is_file():
            raise WeightsError(f"{folder} is not complete: {name} is missing; {_AGAIN}")
        if sha256(file) != digest:
            raise WeightsError(f"{file} is damaged: it is not the file that {CARD} tells; {_AGAIN}")
    return card


def write_card(folder: Path, card: Card) -> Card:
    """Writes the card of all files that lie in a folder, and returns it."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / CARD)
    digests = {file.relative_to(folder).as_posix(): sha256(file) for file in files}
    card = dataclasses.replace(card, files=digests)
    part = folder / f".{CARD}.partial"
    part.write_text(json.dumps(card.to_json(), indent=1) + "\n", encoding="utf-8")
    part.replace(folder / CARD)
    return card


def sha256(file: Path) -> str:
    """Of a file's content, in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
