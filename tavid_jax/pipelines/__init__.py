"""Whole models at work: from words and pixels to pixels, in phases that hold one model each."""
