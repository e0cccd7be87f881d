"""Runs cells on an executor and stores each result once."""
