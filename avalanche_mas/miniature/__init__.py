"""Drawn copies of the data sets, in their official formats: to try every loader and experiment.

What the pictures are drawn with is here; the pictures of the eight datasets are in
:mod:`.miniature.objects`, those of 6DS in :mod:`.miniature.facts`.
"""
