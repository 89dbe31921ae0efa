"""What brings the data dies, hangs, or brings what cannot be read."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
from pathlib import Path

from tests.faults.lab import BIT_EQUAL, REFUSED, Lab, fault
from tests.faults.program import Failed, Program, Running
from tests.faults.signals import line_with
from tests.faults.videos import never_opens, put, rot


@fault
def worker_killed(lab: Lab) -> tuple[str, str, str]:
    """A process that prepares data is killed (as by the out-of-memory killer)."""
    program = lab.program("run", "data.workers=1")
    running = program.start()
    for worker in _workers(running):
        os.kill(worker, signal.SIGKILL)
    said = running.refuses("the data pipeline failed at step", "Run the same command again")
    lab.goes_on(program)
    return "kill -9 to the data worker", said, REFUSED


@fault
def worker_hangs(lab: Lab) -> tuple[str, str, str]:
    """A process that prepares data stands still: the run waits for data.timeout_s, and stops."""
    program = lab.program("run", "data.workers=1", "data.timeout_s=4.0")
    running = program.start()
    workers = _workers(running)
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)
    said = running.refuses("no batch for 4 s at step", "a thread or worker hangs")
    for worker in workers:
        _end(worker)
    lab.goes_on(lab.program("run"))
    return "SIGSTOP to the data worker", said, REFUSED


@fault
def file_hangs(lab: Lab) -> tuple[str, str, str]:
    """Opening one video never ends, as on a dead network disk (fanotify lets it wait)."""
    program, videos = _clips(lab, "data.timeout_s=4.0")
    straight = lab.straight_clips()
    running = program.start()
    running.until_said("stage vae (1 of")
    with never_opens(videos[2]):
        said = running.refuses("no batch for 4 s at step 0", "a thread or worker hangs")
    program = dataclasses.replace(program, settings=program.settings[:1])
    lab.goes_on(program, straight)
    return "open() of a video does not return", said, REFUSED


@fault
def file_vanishes(lab: Lab) -> tuple[str, str, str]:
    """A video is deleted while the run reads it: a reading thread fails."""
    program, videos = _clips(lab)
    straight = lab.straight_clips()
    running = program.start()
    running.until_said("stage vae (1 of")
    aside = videos[2].with_suffix(".aside")
    videos[2].rename(aside)
    said = running.refuses(videos[2].stem, "No such file")
    aside.replace(videos[2])
    lab.goes_on(program, straight)
    return "a video deleted under the run", said, REFUSED


@fault
def videos_gone_between_starts(lab: Lab) -> tuple[str, str, str]:
    """A video cannot be read any more at the second start: another order of data is refused."""
    program, videos = _clips(lab)
    straight = lab.straight_clips()
    running = program.start()
    running.until(lambda: (program.workdir / "stages/vae/checkpoints/2").exists())
    running.kill()
    whole = videos[1].read_bytes()
    videos[1].write_bytes(whole[:100])
    said = program.start().refuses("other clips", "--workdir")
    videos[1].write_bytes(whole)
    lab.goes_on(program, straight)
    return "a video cut off between two starts", said, REFUSED


@fault
def corrupt_videos(lab: Lab) -> tuple[str, str, str]:
    """Broken videos among good ones: named, left out, and the rest is trained on."""
    program, videos = _clips(lab)
    straight = lab.straight_clips()
    (videos[0].parent / "broken_cut.mp4").write_bytes(videos[0].read_bytes()[:2000])
    (videos[0].parent / "broken_empty.mp4").write_bytes(b"")
    (videos[0].parent / "broken_noise.mp4").write_bytes(lab.rng.randbytes(5000))
    said = lab.goes_on(program, straight)
    for name in ("broken_cut", "broken_empty", "broken_noise"):
        line_with(said, f"{name}.mp4: ")
    return "three broken files in the folder", line_with(said, "Skipping "), BIT_EQUAL


@fault
def video_rots(lab: Lab) -> tuple[str, str, str]:
    """A video whose bytes went bad after it was looked at: the run stops, and names it."""
    program, videos = _clips(lab, shared=_own_caches(lab))
    straight = lab.straight_clips()
    whole = rot(videos, 3, program.shared)
    said = program.start().refuses(videos[3].stem)
    put(videos[3], whole)
    lab.goes_on(program, straight)
    return "the pictures of one video are zeros", said, REFUSED


@fault
def video_rots_and_is_skipped(lab: Lab) -> tuple[str, str, str]:
    """The same with data.on_bad=skip: others take its place, the same ones after a kill."""
    program, videos = _clips(lab, "data.on_bad=skip", shared=_own_caches(lab))
    rot(videos, 3, program.shared)
    killed = Program(lab.place / "killed", program.settings, "clips", program.shared, lab.place)
    said = program.finish()
    running = killed.start()
    running.until(lambda: (killed.workdir / "stages/flow/checkpoints/2").exists())
    running.kill()
    lab.goes_on(killed, program.workdir)
    few = Program(
        lab.place / "few", (*program.settings, "data.max_bad=1"), "clips", program.shared, lab.place
    )
    few.start().refuses("more than data.max_bad=1", videos[3].stem)
    told = line_with(said, "another one is shown in its place")
    return "the pictures of one video are zeros, data.on_bad=skip", told, BIT_EQUAL


def _clips(lab: Lab, *settings: str, **options) -> tuple[Program, list[Path]]:
    """A program that trains on a copy of the videos."""
    folder = lab.place / "videos"
    shutil.copytree(lab.videos(), folder)
    program = lab.program("run", f"train_clips={folder}", *settings, preset="clips", **options)
    return program, sorted(folder.glob("*.mp4"))


def _own_caches(lab: Lab) -> Path:
    """Compiled programs that are shared, and nothing that is known of videos."""
    own = lab.place / "shared"
    own.mkdir()
    (own / "programs").symlink_to(lab.folder / "shared" / "programs")
    return own


def _workers(running: Running) -> list[int]:
    """The processes that prepare data, as soon as there are any.

    Raises Failed if there never are.
    """
    found: list[int] = []
    if not running.until(lambda: found.extend(running.children()) or found):
        raise Failed(f"it had no workers: see {running.log}")
    return found


def _end(process: int) -> None:
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        pass
