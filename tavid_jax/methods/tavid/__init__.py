"""TAViD (arXiv:2503.18950): a video of an actor interacting with the object that a mask marks."""
