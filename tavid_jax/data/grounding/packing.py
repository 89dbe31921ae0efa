"""Grounded clips as records, and back."""

from __future__ import annotations

import json
from typing import Literal

import cv2
import numpy as np
from jaxtyping import UInt8

from tavid_jax.data.clip import Clip, check_clip
from tavid_jax.data.records import Example, RecordError
from tavid_jax.untrusted import limits
from tavid_jax.untrusted.errors import DAMAGED
from tavid_jax.untrusted.pictures import check_picture
from tavid_jax.untrusted.texts import parse_json

Codec = Literal["jpeg", "png"]
QUALITY = 95  # of JPEG, 0..100
# Arrays as they are; ArrayRecord packs them.
_ARRAYS = ("tracks", "visibility", "depth", "segment", "query_xy", "masks", "segment_map")
_PLAIN = ("id", "caption", "actor", "target", "contact_frame", "source")
_LISTS = ("local_captions", "kinds")


def pack(clip: Clip, codec: Codec = "jpeg", motion: float | int = 0.0) -> Example:
    """A record of a grounded clip.

    Args:
      clip: with a video.
      codec: of its frames: "jpeg" (small, by `QUALITY`) or "png" (exact).
      motion: median way of its points, kept beside it.

    Raises:
      RecordError: frames that cannot be packed.
    """
    frames = [_packed(frame, codec) for frame in clip.video]
    record = {
        "frames": np.concatenate(frames),
        "frame_bytes": np.array([len(frame) for frame in frames], np.int64),
        "size_hw": np.array(clip.size_hw, np.int32),
        "fps": float(clip.fps),
        "motion": float(motion),
    }
    record |= {name: getattr(clip, name) for name in _PLAIN}
    record |= {name: json.dumps(list(getattr(clip, name))) for name in _LISTS}
    arrays = {name: getattr(clip, name) for name in _ARRAYS}
    return record | {name: array for name, array in arrays.items() if array is not None}


def unpack(record: Example) -> Clip:
    """The clip of a record.

    Raises:
      RecordError: a record that `pack` did not make.
    """
    try:
        ends = np.cumsum(record["frame_bytes"])
        if len(ends) == 0 or (record["frame_bytes"] < 1).any() or ends[-1] != len(record["frames"]):
            raise RecordError("its frames are cut off")
        frames = np.split(record["frames"], ends[:-1])
        limits.check_video(len(frames), check_picture(frames[0].tobytes()))
        clip = Clip(
            size_hw=tuple(int(side) for side in record["size_hw"]),
            fps=record["fps"],
            video=np.stack([_unpacked(frame) for frame in frames]),
            **{name: record[name] for name in _PLAIN},
            **{name: tuple(parse_json(record[name])) for name in _LISTS},
            **{name: record[name] for name in _ARRAYS if name in record},
        )
        return check_clip(clip)
    except (*DAMAGED, cv2.error) as error:
        raise RecordError(f"no record of a grounded clip: {error}") from error


def _packed(frame: UInt8[np.ndarray, "H W 3"], codec: Codec) -> UInt8[np.ndarray, " bytes"]:
    options = [cv2.IMWRITE_JPEG_QUALITY, QUALITY] if codec == "jpeg" else []
    good, data = cv2.imencode({"jpeg": ".jpg", "png": ".png"}[codec], frame[..., ::-1], options)
    if not good:
        raise RecordError(f"a frame {frame.shape} cannot be packed as {codec}")
    return data.reshape(-1)


def _unpacked(data: UInt8[np.ndarray, " bytes"]) -> UInt8[np.ndarray, "H W 3"]:
    check_picture(data.tobytes())
    frame = cv2.imdecode(data, cv2.IMREAD_COLOR)
    if frame is None:
        raise RecordError("a frame of it cannot be decoded")
    return np.ascontiguousarray(frame[..., ::-1])
