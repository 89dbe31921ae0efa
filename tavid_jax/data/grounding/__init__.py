"""Raw clips to grounded ones: points on objects, each with the words about its object.

    masks -> points by mask size -> tracks -> is there motion? -> a text each -> ArrayRecord

What finds masks, words and tracks are providers (`providers`); how many points an object has is a
rule (`points`), and so is which clips are kept (`motion`). `python -m tavid_jax.data ground` runs
all of it; a folder that it wrote is read as clips wherever clips are read.
"""
