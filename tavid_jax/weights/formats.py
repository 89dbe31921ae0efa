"""What a config.json says: one `Format` per published class, written beside the class's table."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Keys of config.json under which diffusers and transformers name a model's class.
CLASS = "_class_name"
CLASSES = "architectures"

# (content, fields copied so far, path of the file, keys of the checkpoint if known) -> more fields
Decode = Callable[[Mapping[str, Any], dict[str, Any], Path | str, Iterable[str] | None], dict]


@dataclass(frozen=True)
class Format:
    """The config.json of one published class.

    Attributes:
      config: our class.
      fields: name in the file -> (ours, value where the file does not say).
      fixed: what our model always computes; any other value is refused.
      decode: fields that need more than a copy; may raise WeightsError.
      encode: our config -> entries of the file that need more than a copy.
      naming: which checkpoints have it, "diffusers" (and transformers) or "original".
      describes: which configs it is written for, where several classes share one of ours.
      class_key: where the file names its class.
    """

    config: type
    fields: Mapping[str, tuple[str, Any]]
    fixed: Mapping[str, Any]
    decode: Decode = lambda content, stated, path, keys: {}
    encode: Callable[[Any], dict[str, Any]] = lambda config: {}
    naming: str = "diffusers"
    describes: Callable[[Any], bool] = lambda config: True
    class_key: str = CLASS
