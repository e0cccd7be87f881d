"""Importance on real architectures, compared with a naive loop over single samples."""
