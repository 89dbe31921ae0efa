"""Samplers of the published video models: float64 tables made on the host, and pure step functions.

One file per method (`ddim`, `dpm`, `unipc`, `euler`), one per kind of grid (`trailing`, `sigmas`);
`registry.make_sampler` finds them by name. `tavid_jax.diffusion.denoise` runs them.
"""
