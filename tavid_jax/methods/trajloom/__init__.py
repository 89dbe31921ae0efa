"""TrajLoom: from a video's past tracks to the dense tracks of its next frames (arXiv 2603.22606).

The stages: `vae` learns latents of track fields, `latents` measures them and caches a data set,
`flow` learns to forecast them, on-policy steps fine-tune it, `visibility` reads out what is seen.
"""
