"""Entry point of ``python -m benchmarks``; an installed package has the command avalanche-mas."""

from .cli import app

if __name__ == "__main__":  # worker processes import this module too
    app(prog_name=f"python -m {__package__}")
