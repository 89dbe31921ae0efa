"""Two runs that want one folder."""

from __future__ import annotations

from tests.faults.lab import REFUSED, Lab, fault
from tests.faults.program import Failed


@fault
def two_runs(lab: Lab) -> tuple[str, str, str]:
    """A second run on the folder of a running one refuses, and the first goes on undisturbed."""
    straight = lab.straight()
    program = lab.program()
    first = program.start()
    first.until(lambda: (program.workdir / "config.json").exists())
    said = program.start().refuses("in use by another process")
    if first.over:
        raise Failed("the first run was over before the second one asked")
    first.ends(0)
    lab.goes_on(program, straight)
    return "the same command twice at once", said, REFUSED


@fault
def other_config(lab: Lab) -> tuple[str, str, str]:
    """Another config on the folder of a run refuses, and the run goes on with its own."""
    program = lab.stopped("stages/vae/checkpoints/4")
    other = lab.program("stopped", "seed=1", "stages.flow.steps=8")
    said = other.start().refuses("seed: 0 there, 1 now", "stages.flow.steps", "--workdir")
    lab.goes_on(program)
    return "another seed and another number of steps", said, REFUSED
