"""The files of the eight datasets: what is there, getting them, checking them, drawing small ones.

``python -m avalanche_mas.benchmarks.download --help`` shows the commands.
"""
