"""One folder per paper: what composes models, diffusion and tracks into something trainable.

To add one of your own, read docs/add_a_method.md: a whole method in 100 lines, outside of this
folder, that is trained, judged and drawn by the same commands.
"""
