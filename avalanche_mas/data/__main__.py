"""Entry point of ``python -m avalanche_mas.data``."""

from avalanche_mas.data.cli import app

if __name__ == "__main__":
    app(prog_name="python -m avalanche_mas.data")
