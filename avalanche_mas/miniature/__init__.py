"""Drawn copies of the data sets, in their official formats: to try every loader and experiment."""
