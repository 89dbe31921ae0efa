"""Whole files of every kind, made by our own writers: (folder) -> the bytes of some.

What a reader wants beside its file is put into the folder.
"""

from __future__ import annotations

import csv
import io
import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tavid_jax.data.clip import Clip
from tavid_jax.data.forecast_files import ForecastFiles, write_forecast
from tavid_jax.data.grounding.packing import pack
from tavid_jax.data.latent_statistics import LatentSums, write_statistics
from tavid_jax.data.official import TrackFile, write_tracks
from tavid_jax.data.records import RecordWriter, encode
from tavid_jax.data.rle_masks import write_rle_masks
from tavid_jax.data.trajectory_files import write_trajectories
from tavid_jax.data.video import write_video
from tavid_jax.tracks.grid import query_points
from tavid_jax.tracks.trajectories import Trajectories

SIZE = (24, 32)  # the frames of all of them
N, T = 6, 5


def rng() -> np.random.Generator:
    """The same random numbers for every file."""
    return np.random.default_rng(0)


def _tracks() -> tuple[np.ndarray, np.ndarray]:
    random = rng()
    tracks = random.uniform(0, 23, (N, T, 2)).astype(np.float32)
    return tracks, random.random((N, T)) > 0.2


def _some() -> Trajectories:
    tracks, seen = _tracks()
    seen[:, 0] = True
    return Trajectories(
        tracks,
        seen,
        SIZE,
        depth=np.ones((N, T), np.float32),
        segment=np.array([0, 1, 1, 2, 2, 0], np.int32),
        segments=2,
        colour=np.full((N, 3), 7, np.uint8),
        fps=8.0,
        texts=("", "a cat", "a cat", "a dog", "a dog", ""),
    )


def written(folder: Path, name: str, write: Callable[[Path], Any]) -> bytes:
    """What a writer writes, which is then taken away."""
    place = folder / name
    write(place)
    data = place.read_bytes()
    place.unlink()
    return data


def as_json(*values: Any) -> list[bytes]:
    """Files of JSON."""
    return [json.dumps(value).encode() for value in values]


def _npz(**arrays: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def _npy(value: Any) -> bytes:
    out = io.BytesIO()
    np.save(out, value)
    return out.getvalue()


def _csv(*rows: list[str]) -> bytes:
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    return out.getvalue().encode()


# --- tracks


def points(folder: Path) -> list[bytes]:
    """Files of points, as our writer and as people write them."""
    own = written(folder, "a.json", lambda path: write_trajectories(path, _some()))
    path = {"path": [[0, 1, 2], [2.5, 3, 4], [4, 9, 9]], "text": "a cat", "ease": "smooth"}
    still = {"path": [[0, 4, 3]], "visible": [[0, 1], [3, 4]], "segment": 1, "depth": 0.5}
    xy = {"xy": [[1, 2], None, [3, 4], [5, 6], [7, 8]], "visible": [1, 0, 1, 1, 1]}
    head = {"size_hw": list(SIZE), "frames": T, "fps": 8, "segments": 3, "ease": "linear"}
    coloured = {"path": [[0, 1, 1]], "colour": [1, 2, 3], "visible": False, "depth": [1] * T}
    people = [head | {"points": [path, xy]}, head | {"points": [coloured]}]
    return [own, *as_json(*people, head | {"points": [still, still]})]


def coordinates(folder: Path) -> list[bytes]:
    """As ComfyUI's nodes write them."""
    one = [{"x": 1, "y": 2}, {"x": 3.5, "y": 4}]
    path = [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]
    dicts = {"track_path": path, "track_visibility": [[1], [0]]}
    return [*as_json(one, [one, one], dicts, {"track_path": path}), str([one]).encode()]


def arrays(folder: Path) -> list[bytes]:
    """Our own npz."""
    own = written(folder, "a.npz", lambda path: write_trajectories(path, _some()))
    tracks, seen = _tracks()
    plain = _npz(tracks=tracks, visibility=seen, size_hw=np.array(SIZE))
    return [own, plain]


def official(folder: Path) -> list[bytes]:
    """TrajLoom's npz."""
    tracks, seen = _tracks()
    whole = TrackFile(tracks, seen, SIZE, tracks[:, 0], 8.0)
    found = [written(folder, "a.npz", lambda path: write_tracks(path, whole))]
    return [*found, _npz(trajectories=tracks, vis=seen.astype(np.float32))]


def flextraj(folder: Path) -> list[bytes]:
    """The pickled dict, and bare arrays."""
    tracks, seen = _tracks()
    held = {
        "tracks": np.zeros((1, T, N, 3), np.float32),
        "visibility": np.ones((1, T, N), bool),
    }
    return [_npy(held), _npy(tracks.swapaxes(0, 1))]


def wan_move(folder: Path) -> list[bytes]:
    """Tracks beside their visibility."""
    tracks, seen = _tracks()
    (folder / "t_visibility.npy").write_bytes(_npy(seen.T[None]))
    return [_npy(tracks.swapaxes(0, 1)[None]), _npy(tracks.swapaxes(0, 1))]


def trackers(folder: Path) -> list[bytes]:
    """Pickles of trackers, by several protocols."""
    tracks, seen = _tracks()
    by_frame = tracks.swapaxes(0, 1)[None]
    cotracker = {"pred_tracks": by_frame, "pred_visibility": seen.T[None]}
    tapir = {"tracks": tracks, "occlusion": np.zeros((N, T), np.float32),
             "expected_dist": np.zeros((N, T), np.float32)}  # fmt: skip
    spatial = {"tracks": np.zeros((1, T, N, 3)), "visibility": np.ones((1, T, N), bool)}
    lists = {"points": [{"xy": [[1, 2]] * T}], "size_hw": list(SIZE)}
    held = (cotracker, tapir, spatial, lists)
    return [pickle.dumps(one, protocol=number) for number, one in zip((4, 2, 0, 5), held,
                                                                      strict=True)]  # fmt: skip


def foreign(folder: Path) -> list[bytes]:
    """Tracks of the grid, in two conventions."""
    grid = query_points(SIZE, 8)
    tracks = (grid[:, None] + np.arange(T)[None, :, None] * [0.5, 0.25]).astype(np.float32)
    seen = np.ones(tracks.shape[:2], bool)
    turned = tracks.swapaxes(0, 1)[..., ::-1]
    return [
        _npz(tracks=tracks, visibility=seen, query_xy=grid),
        _npz(pred=turned, occluded=~seen.T, queries=np.pad(grid, ((0, 0), (1, 0)))),
    ]


def drags(folder: Path) -> list[bytes]:
    """Words of the command line."""
    return [b"1,2:3,4", b"5.5,6", b"0,0:1e3,-4:7,7"]


def edits(folder: Path) -> list[bytes]:
    """Edits that people write."""
    two = [{"what": "delete", "region": [0, 0, 9, 9]}, {"what": "move", "by": [6, -2]}]
    more = [{"what": "scale", "by": 1.5}, {"what": "still"}, {"what": "keep"}]
    return as_json({"size_hw": [48, 64], "edits": two}, {"edits": more})


def _forecast(folder: Path) -> None:
    query = query_points(SIZE, 8).astype(np.int64)
    tracks = np.repeat(query[:, None].astype(np.float32), T, axis=1)
    seen = np.ones(tracks.shape[:2], bool)
    probability = np.full(seen.shape, 0.9, np.float32)
    meta = {"H": SIZE[0], "W": SIZE[1], "solver": "euler"}
    forecast = ForecastFiles(query, tracks, seen, tracks, seen, probability, meta)
    write_forecast(folder, forecast)


def _forecast_file(name: str) -> Callable[[Path], list[bytes]]:
    def seeds(folder: Path) -> list[bytes]:
        _forecast(folder)
        return [(folder / name).read_bytes()]

    return seeds


forecast_meta = _forecast_file("meta.json")
forecast_tracks = _forecast_file("gt_tracks.npy")
forecast_points = _forecast_file("query_xy.npy")


def statistics(folder: Path) -> list[bytes]:
    """Tables of latents."""
    sums = LatentSums()
    sums.add(rng().normal(size=(3, 4, 5)), rng().normal(size=(3, 4, 5)))
    return [written(folder, "a.json", lambda p: write_statistics(p, sums.statistics()))]


# --- masks, pictures, videos


def rle_masks(folder: Path) -> list[bytes]:
    """Run lengths, as characters and as numbers."""
    masks = np.zeros((3, 2, 8, 9), bool)
    masks[:, 0, 2:5, 3:6] = masks[1:, 1, :2, :2] = True
    own = written(folder, "a.pkl", lambda path: write_rle_masks(path, masks))
    plain = {0: [{"size": [2, 3], "counts": [1, 2, 3]}], 1: [{"size": [2, 3], "counts": [6]}]}
    return [own, pickle.dumps(plain, protocol=2), pickle.dumps(list(plain.values()))]


def squeezed(folder: Path) -> list[bytes]:
    """Of lz-string."""
    return [b"BYUwNmD2Q", b"Q"]


def _picture(kind: str, image: np.ndarray | None = None) -> bytes:
    if image is None:
        image = rng().integers(0, 255, (*SIZE, 3), np.uint8)
    return cv2.imencode(kind, image)[1].tobytes()


def masks(folder: Path) -> list[bytes]:
    """Pictures of masks."""
    mask = np.zeros(SIZE, np.uint8)
    mask[4:9, 4:9] = 255
    return [_picture(".png", mask), _picture(".png"), _picture(".png", mask.astype(np.uint16))]


def ids(folder: Path) -> list[bytes]:
    """Palette pictures of ids."""
    from PIL import Image

    out = io.BytesIO()
    picture = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4)).convert("P")
    picture.save(out, "PNG")
    return [out.getvalue(), _picture(".png", np.eye(5, dtype=np.uint8))]


def pictures(folder: Path) -> list[bytes]:
    """Of every format that is read."""
    return [_picture(kind) for kind in (".png", ".jpg", ".webp", ".bmp")]


def videos(folder: Path) -> list[bytes]:
    """Of several containers."""
    frames = rng().integers(0, 255, (4, *SIZE, 3), np.uint8)
    found = [written(folder, "a.mp4", lambda path: write_video(path, frames, 8))]
    avi = folder / "a.avi"
    writer = cv2.VideoWriter(str(avi), cv2.VideoWriter.fourcc(*"MJPG"), 8, SIZE[::-1])
    for frame in frames:
        writer.write(frame)
    writer.release()
    found += [avi.read_bytes()] if avi.exists() else []
    avi.unlink(missing_ok=True)
    return found


# --- words and lists


def captions(folder: Path) -> list[bytes]:
    """Both kinds of columns."""
    first = _csv(["videoid", "text"], ["a", "a cat, that sits"], ["b", 'it says "no"'])
    return [first, _csv(["video_path", "text", "more"], ["v/a.mp4", "a\ncat", "1"])]


def texts_csv(folder: Path) -> list[bytes]:
    """Texts of objects."""
    return [_csv(["videoid", "object", "text"], ["a", "1", "a cup"], ["a", "2", "a ball"])]


def texts_json(folder: Path) -> list[bytes]:
    """Texts of objects."""
    return as_json({"a": ["a cup", "a ball"], "b": {"1": "a cup"}})


def verdicts(folder: Path) -> list[bytes]:
    """A selection."""
    head = ["video", "kept", "reason", "contact_frame"]
    return [_csv(head, ["a", "1", "", "3"], ["b", "0", "dark", "-1"])]


def words_json(folder: Path) -> list[bytes]:
    """Words about DAVIS."""
    return as_json({"bear": {"prompt": "a bear walks", "objects": {"1": "a bear", "2": "a rock"}}})


def words_csv(folder: Path) -> list[bytes]:
    """Words about DAVIS."""
    rows = ["bear", "", "a bear walks"], ["bear", "1", "a bear"], ["bear", "2", "a rock"]
    return [_csv(["sequence", "object", "text"], *rows)]


def flexbench(folder: Path) -> list[bytes]:
    """A list, whose files are there."""
    for name in ("a.npy", "b.npy", "a.pkl", "a.png", "a.mp4"):
        (folder / name).touch()
    entry = {
        "is_real_video": True, "tracking_map_path": "a.npy,b.npy", "seg_map_path": "a.pkl",
        "validation_prompt": "a dog", "validation_videos": "a.mp4", "input_image": "a.png",
        "use_color": True, "spatial_config": {"spatial_scale": 0.5, "spatial_mode": "region"},
        "temporal_config": {"temporal_scale": 1}, "unalign_config": {"shift_scale": 0.7},
        "name": "dog", "valid_frame_idxs": [0, 4],
    }  # fmt: skip
    return as_json([{"prefix": "", "validations": [entry]}])


def movebench(folder: Path) -> list[bytes]:
    """A list in en/, whose files are there."""
    root = folder.parent
    for name in ("first_frame/a.jpg", "track/single/a_tracks.npy", "video/a.mp4"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return [b"video/a.mp4,a cat walks, slowly\n", b"\n video/a.mp4 ,a dog\n\n"]


def egoexo(folder: Path) -> list[bytes]:
    """Relations of a take whose videos are not there."""
    root = folder.parent
    take = [{"take_uid": "u", "take_name": "take"}]
    (root / "takes.json").write_text(json.dumps(take))
    masks = {"0": {"size": [2, 3], "counts": [1, 2, 3]}, "9": {"width": 2, "height": 1,
                                                               "encodedMask": "IYZA"}}  # fmt: skip
    objects = {"cup_0": {"cam01": {"annotation": masks}, "aria01": {"annotation": masks}}}
    (root / "takes" / "take" / "frame_aligned_videos").mkdir(parents=True, exist_ok=True)
    return as_json({"annotations": {"u": {"object_masks": objects}}})


def prompts(folder: Path) -> list[bytes]:
    """A file of jobs."""
    return [b'{"name": "a", "prompt": "a cat"}\n{"name": "b", "prompt": "a dog"}']


def jobs(folder: Path) -> list[bytes]:
    """A file of jobs."""
    first = {"prompt": "a cat", "seed": 3, "size_hw": [48, 64], "steps": 3, "name": "a"}
    second = {"prompt": "a dog", "image": "p.png", "tracks": "t.json", "texts": ["a", "b"]}
    return ["\n".join(map(json.dumps, (first, second))).encode()]


# --- records


def _example() -> dict[str, Any]:
    return {"id": "a", "z": np.ones((2, 3), np.float32), "n": 3, "seen": np.array([True, False])}


def records(folder: Path) -> list[bytes]:
    """Payloads."""
    return [encode(_example()), encode({"text": "é", "x": np.float32(1), "e": np.zeros((0, 2))})]


def grounded(folder: Path) -> list[bytes]:
    """A payload of a clip."""
    tracks, seen = _tracks()
    clip = Clip(
        id="a", size_hw=SIZE, fps=8.0, video=np.zeros((T, *SIZE, 3), np.uint8), tracks=tracks,
        visibility=seen, segment=np.ones(N, np.int32), masks=np.ones((1, *SIZE), bool),
        local_captions=("a cat",), kinds=("cat",), caption="a cat",
    )  # fmt: skip
    return [encode(pack(clip)), encode(pack(clip, "png"))]


def plan(folder: Path) -> list[bytes]:
    """A plan of shards."""
    clips = [{"id": "a", "caption": "a cat"}, {"id": "b", "caption": "b", "start": 3}]
    return as_json({"facts": {"vae": {"hash": "1"}}, "clips": clips, "shard_size": 64})


def records_meta(folder: Path) -> list[bytes]:
    """What stands beside a file of records."""
    with RecordWriter(folder, {"config": "1a"}) as writer:
        writer.write(_example())
    return [(folder / "meta.json").read_bytes()]


def tapvid(folder: Path) -> list[bytes]:
    """Arrays of frames, and rows of pictures."""
    frames = np.zeros((3, 4, 5, 3), np.uint8)
    rows = {"a": {"video": [_picture(".jpg")] * 3, "points": np.zeros((2, 3, 2))}}
    listed = [{"video": frames, "occluded": np.zeros((2, 3), bool)}]
    return [pickle.dumps({"a": {"video": frames}}), pickle.dumps(rows), pickle.dumps(listed)]


def tfrecords(folder: Path) -> list[bytes]:
    """Examples with a row of pictures."""

    def field(number: int, data: bytes) -> bytes:
        return bytes([number << 3 | 2]) + _varint(len(data)) + data

    def entry(key: bytes, values: list[bytes]) -> bytes:
        listed = field(1, b"".join(field(1, value) for value in values))
        return field(1, field(1, key) + field(2, listed))

    example = field(1, entry(b"video", [b"abc", b"de"]) + entry(b"metadata/video_name", [b"n"]))
    return [struct.pack("<Q", len(example)) + bytes(4) + example + bytes(4)]


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])
