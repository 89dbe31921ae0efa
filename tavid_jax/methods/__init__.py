"""One folder per paper: what composes models, diffusion and tracks into something trainable."""
