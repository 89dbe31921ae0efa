"""Files as trees of values and back, so that what is inside of them can be changed."""

from __future__ import annotations

import ast
import csv
import io
import json
import pickle
import zipfile
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Codec(NamedTuple):
    """How a kind of file becomes a tree of dicts, lists and leaves, and bytes again.

    Attributes:
      decode: bytes that are whole -> the tree.
      encode: any tree of that form -> bytes; an error where it cannot be written.
    """

    decode: Callable[[bytes], Any]
    encode: Callable[[Any], bytes]


def _json(tree: Any) -> bytes:
    return json.dumps(tree, default=_plain).encode()


def _from_either(data: bytes) -> Any:
    """JSON, or what Python prints."""
    return ast.literal_eval(data.decode()) if b"'" in data else json.loads(data)


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else repr(value)


def _from_lines(data: bytes) -> list[Any]:
    return [json.loads(line) for line in data.decode().split("\n") if line]


def _to_lines(tree: Any) -> bytes:
    return b"\n".join(_json(line) for line in tree)


def _from_csv(data: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(data.decode(), newline="")))


def _to_csv(tree: Any) -> bytes:
    text = io.StringIO(newline="")
    rows = ([str(cell) for cell in row] if isinstance(row, list) else [str(row)] for row in tree)
    csv.writer(text).writerows(rows)
    return text.getvalue().encode("utf-8", "surrogatepass")


def _from_npz(data: bytes) -> dict[str, Any]:
    with np.load(io.BytesIO(data)) as file:
        return dict(file.items())


def _to_npz(tree: Any) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in tree.items():
            archive.writestr(f"{name}.npy", _to_npy(value))
    return out.getvalue()


def _from_npy(data: bytes) -> Any:
    value = np.load(io.BytesIO(data), allow_pickle=True)  # our own writers' bytes
    return value.item() if value.dtype == object and value.shape == () else value


def _to_npy(tree: Any) -> bytes:
    out, held = io.BytesIO(), tree
    if not isinstance(tree, np.ndarray):
        held = np.empty((), object)
        held[()] = tree
    np.save(out, held)
    return out.getvalue()


def _headed(width: int) -> Codec:
    """A length of so many bytes, JSON, then the bytes that it tells of: safetensors, records."""

    def decode(data: bytes) -> dict[str, Any]:
        end = width + int.from_bytes(data[:width], "little")
        return {"header": json.loads(data[width:end]), "data": data[end:]}

    def encode(tree: Any) -> bytes:
        header = _json(tree["header"])
        return len(header).to_bytes(width, "little") + header + bytes(tree["data"])

    return Codec(decode, encode)


def _from_zip(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _to_zip(tree: Any) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, value in tree.items():
            archive.writestr(name, value if isinstance(value, bytes) else str(value))
    return out.getvalue()


CODECS = {
    "json": Codec(json.loads, _json),
    "lines": Codec(_from_lines, _to_lines),
    "either": Codec(_from_either, _json),
    "csv": Codec(_from_csv, _to_csv),
    "npz": Codec(_from_npz, _to_npz),
    "npy": Codec(_from_npy, _to_npy),
    "pickle": Codec(pickle.loads, lambda tree: pickle.dumps(tree, protocol=4)),
    "safetensors": _headed(8),
    "record": _headed(4),
    "zip": Codec(_from_zip, _to_zip),
    "raw": Codec(lambda data: data, bytes),
    "text": Codec(lambda data: data.decode(), lambda tree: str(tree).encode("utf-8", "replace")),
}


def places(tree: Any) -> list[tuple[Any, Any]]:
    """(container, key) of everything inside of dicts and lists, down to 200 of them."""
    found: list[tuple[Any, Any]] = []
    level = [tree] if isinstance(tree, dict | list) else []
    while level and len(found) < 200:
        here = [
            (one, key)
            for one in level
            for key in (list(one) if isinstance(one, dict) else range(len(one)))
        ]
        found += here
        level = [one[key] for one, key in here if isinstance(one[key], dict | list)]
    return found
