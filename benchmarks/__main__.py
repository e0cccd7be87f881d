"""Entry point of ``python -m benchmarks``; an installed package has the command avalanche-mas."""

import sys

if __name__ == "__main__":  # worker processes import this module too
    if sys.argv[1:2] == ["speed"] and "--gpu" in sys.argv:
        from .speed.gpu import main  # on a bare machine, where the command line's libraries lack

        sys.exit(main(sys.argv[2:]))
    from .cli import app

    app(prog_name=f"python -m {__package__}")
