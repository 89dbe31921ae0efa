"""TrajLoom with the authors' checkpoints: nothing is trained.

    python -m tavid_jax.main --config=configs/trajloom.py:released --mode=sample \\
        --config.released=FOLDER --config.clips=VIDEOS --config.checkpoint=Wan2.1-T2V-1.3B

FOLDER holds trajloom_vae.pt, trajloom_generator.pt and visibility_predictor.pt; the checkpoints
decide the models' sizes. Without --config.checkpoint the flow is given neither video nor captions.
"""

from __future__ import annotations

from ml_collections import ConfigDict


def released(config: ConfigDict) -> None:
    """81 + 81 frames of 480x832 videos; 10 Euler steps, as in the paper's tables."""
    config.title = "TrajLoom, released checkpoints"
    # Folder, hf:owner/name, or the files of VAE, generator and visibility with commas between.
    config.released = ""
    config.data.update(size_hw=(480, 832), stride=32, origin="topleft", frames=81)
    config.data.clips.update(fps=0.0, holdout=0.0)  # released: a clip's own frame rate
    config.data.scenes = dict(train=0, test=0)
    config.model.dtype = "float32"  # bfloat16 halves the memory; coordinates stay float32
    config.evaluate.update(batch_size=1, samples=1, seed=42)  # released: seed 42
    config.cpu_devices = 1  # one clip at a time: two devices would hold the weights twice
    config.stages = dict()
    config.order = ()
    config.variants = dict(trajloom=())
    config.main_variant = "trajloom"
