"""Entry point of ``python -m avalanche_mas.benchmarks.download``."""

from avalanche_mas.benchmarks.download.cli import app

if __name__ == "__main__":
    app(prog_name="python -m avalanche_mas.benchmarks.download")
