"""TrajLoom's cached latents, read and written: a `.pt` file for each clip, and manifests.

folder/manifest_train.jsonl, manifest_eval.jsonl   a line for each clip: {"vid", "path", ...}
folder/train/<vid>.pt, ...                         what a manifest's "path" names
folder/vae_latent_stats.json                       statistics of the training part, ours
folder/meta.json                                   what the latents depend on, ours

python -m tavid_jax.pipelines.latent_cache --help
"""

from tavid_jax.pipelines.latent_cache.given import given_latents
from tavid_jax.pipelines.latent_cache.reader import LatentCache, LatentCacheError, read_clip
from tavid_jax.pipelines.latent_cache.writer import LatentCacheWriter

__all__ = ["LatentCache", "LatentCacheError", "LatentCacheWriter", "given_latents", "read_clip"]
