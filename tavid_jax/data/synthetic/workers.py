"""Draws scenes in several processes, in order.

The processes are plain children `python -m tavid_jax.data.synthetic.workers` that read one JSON
request and write pickled records, read as `arrays` reads files: nothing is forked (JAX may be
running here), the caller's main module is not imported again, and it works from a notebook or from
standard input.
"""

import dataclasses
import json
import os
import pickle
import struct
import subprocess
import sys
from collections.abc import Iterator

from tavid_jax.data.arrays import ArrayFileError, unpickled
from tavid_jax.data.synthetic.config import SceneConfig
from tavid_jax.data.synthetic.records import encode_scenes

CHUNK = 16  # scenes per message
_WORTH_A_PROCESS = 64  # fewer scenes than this are drawn here


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def draw_records(config: SceneConfig, seeds: range, workers: int | None = None) -> Iterator[dict]:
    """Records of scenes in the order of their seeds.

    Args:
      config: distribution of scenes.
      seeds: which scenes.
      workers: processes; one per core if None; 0 draws in this process.

    Yields:
      One record per seed (see `records.encode_scenes`), whatever the number of workers.

    Raises:
      RuntimeError: a worker died.
    """
    chunks = [seeds[i : i + CHUNK] for i in range(0, len(seeds), CHUNK)]
    workers = min(_cores() if workers is None else workers, len(chunks))
    if workers == 0 or len(seeds) < _WORTH_A_PROCESS or not sys.executable:
        for chunk in chunks:
            yield from encode_scenes(config, chunk)
        return
    children = []
    try:
        children = [_start(config, chunks[k::workers]) for k in range(workers)]
        for index in range(len(chunks)):
            yield from _receive(children[index % workers])
    finally:
        for child in children:
            child.kill()
            child.stdout.close()
            child.wait()


def _start(config: SceneConfig, chunks: list[range]) -> subprocess.Popen:
    """A child that will write the records of these chunks, one message per chunk."""
    # One thread per child: the children are the parallelism.
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, sys.path)))
    environment.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    child = subprocess.Popen(
        [sys.executable, "-m", "tavid_jax.data.synthetic.workers"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    )
    request = {
        "config": dataclasses.asdict(config),
        "chunks": [(chunk.start, chunk.stop, chunk.step) for chunk in chunks],
    }
    try:
        child.stdin.write(json.dumps(request).encode())
        child.stdin.close()
    except BrokenPipeError:
        pass  # it died at once: `_receive` says so
    return child


def _receive(child: subprocess.Popen) -> list[dict]:
    """The next message of a child."""
    try:
        (length,) = struct.unpack("<Q", child.stdout.read(8))
        return unpickled("a message of a process that draws", child.stdout.read(length))
    except (struct.error, ArrayFileError) as error:
        code = child.wait()
        raise RuntimeError(
            f"a process that draws synthetic scenes stopped with exit code {code}; "
            "its own message is on standard error above (killed by the system: too little memory?)"
        ) from error


def main() -> None:
    """The child: reads the request, writes the records."""
    import cv2  # only the child changes cv2's threads

    cv2.setNumThreads(1)
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    sys.stdout = sys.stderr  # a stray print must not end up between records
    request = json.load(sys.stdin)
    config = SceneConfig.from_dict(request["config"])
    try:
        for bounds in request["chunks"]:
            records = encode_scenes(config, range(*bounds))
            message = pickle.dumps(records, protocol=4)
            out.write(struct.pack("<Q", len(message)) + message)
            out.flush()
    except BrokenPipeError:
        os._exit(0)  # nobody listens any more


if __name__ == "__main__":
    main()
