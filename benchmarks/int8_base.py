"""What adapters lose on a frozen base in 8 bits: held-out losses after the same training.

    python benchmarks/int8_base.py --seeds 5 --steps 120

The packaged tiny Wan learns the demo's new colour by adapters of rank 16, from its weights as they
are (float32) and from the same weights in 8 bits (`stages.finetune.frozen_dtype=int8`), by pairs of
the same seed, data and noise. The loss is that of unseen clips, by fixed noise. Prints the mean of
the pairs' differences with a 95 % interval of Student's t, and what rounding does to the weights.
"""

import argparse
import logging
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
from scipy import stats
from timing import environment, table

from configs.finetune import get_config
from tavid_jax.data.inputs import ConfiguredInputs
from tavid_jax.engine.inputs import StageFolder
from tavid_jax.engine.stages import run_stages
from tavid_jax.engine.telemetry import Progress, read_json_lines
from tavid_jax.engine.workdir import Workdir
from tavid_jax.methods.registry import make_system
from tavid_jax.parallel.mesh import make_mesh, use_cpu_cores
from tavid_jax.weights import quantised

KINDS = {"float32": "", "8 bits": "int8"}
STAGE = "finetune"
# Held-out batches of 16 clips.
BATCHES = 6


def config_of(frozen_dtype: str, seed: int, steps: int) -> Any:
    """The demo's training, shorter, with a held-out loss at its end."""
    config = get_config("demo")
    config.seed = seed
    config.evaluate.beside = {}
    stage = config.stages[STAGE]
    stage.update(steps=steps, checkpoint_every=steps, log_every=steps, frozen_dtype=frozen_dtype)
    stage.optimizer.warmup = min(stage.optimizer.warmup, steps)
    stage.validate.update(every=steps, data="test", batches=BATCHES)
    config.data.scenes = dict(train=16 * steps, test=16 * BATCHES)
    return config


def losses(folder: Path, config: Any) -> tuple[float, float]:
    """(training, held-out) loss at the end."""
    workdir = Workdir(folder, config, tuple(config.volatile))
    mesh = make_mesh(config.mesh.to_dict())
    inputs = ConfiguredInputs(config, folder, lambda done, total: None, {})
    try:
        run_stages(config, make_system(config), inputs, workdir, mesh)
    finally:
        workdir.close()
    last = read_json_lines(StageFolder(workdir.stage(STAGE)).metrics)[-1]
    return last["loss"], last["validation/loss"]


def interval(differences: np.ndarray) -> tuple[float, float]:
    """Mean of paired differences and half of its 95 % interval."""
    half = stats.t.ppf(0.975, len(differences) - 1) * stats.sem(differences)
    return float(differences.mean()), float(half)


def rounding() -> str:
    """What 8 bits do to the base's kernels, and their bytes."""
    method = make_system(get_config("demo")).method(STAGE)
    leaves = {path: leaf.read() for path, leaf in method.published().items()}
    large = {p: x for p, x in leaves.items() if quantised.is_large_kernel(p, x.shape)}
    narrow = {path: quantised.quantise_leaf(x) for path, x in large.items()}
    errors = quantised.measured_error(quantised.nest(large), quantised.nest(narrow))
    wide = sum(2 * x.size for x in large.values())
    few = sum(leaf.nbytes for leaf in jax.tree.leaves(narrow))
    worst = max(errors.values())
    return (
        f"{len(large)} kernels differ by {np.mean(list(errors.values())):.4f} of their size "
        f"(at most {worst:.4f}) and take {few / wide:.2f} of their bytes in bfloat16"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="pairs of trainings (default: 5)")
    parser.add_argument("--steps", type=int, default=120, help="of each (default: 120)")
    options = parser.parse_args()
    if options.seeds < 2 or options.steps < 2:
        parser.error("--seeds and --steps must be at least 2")
    logging.getLogger("absl").setLevel(logging.WARNING)
    use_cpu_cores()
    print(f"{environment()}; {vars(options)}, {16 * BATCHES} held-out clips")
    found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
    progress = Progress("trainings", options.seeds * len(KINDS))
    with tempfile.TemporaryDirectory() as root:
        for seed in range(options.seeds):
            for kind, dtype in KINDS.items():
                folder = Path(root) / f"{kind}{seed}"
                found[kind].append(losses(folder, config_of(dtype, seed, options.steps)))
                progress.show(sum(map(len, found.values())), f"{kind}, seed {seed}")
    values = {kind: np.array(pairs) for kind, pairs in found.items()}
    rows = [
        [kind, f"{x[:, 0].mean():.5f}", f"{x[:, 1].mean():.5f}", f"{x[:, 1].std(ddof=1):.5f}"]
        for kind, x in values.items()
    ]
    print(table(["frozen base", "training loss", "held-out loss", "std over seeds"], rows))
    wide, narrow = (values[kind][:, 1] for kind in KINDS)
    mean, half = interval(narrow - wide)
    share = 100 / wide.mean()
    print(
        f"8 bits cost {mean:+.5f} +- {half:.5f} of the held-out loss "
        f"({share * mean:+.2f} +- {share * half:.2f} %), 95 % of {len(wide)} pairs"
    )
    print(rounding())


if __name__ == "__main__":
    main()
