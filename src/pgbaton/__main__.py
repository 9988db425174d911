"""Run the command line as ``python -m pgbaton``."""

from pgbaton.cli import main

if __name__ == "__main__":
    main()
