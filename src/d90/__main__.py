"""`d90` and `python -m d90`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; an interrupt while its modules load is one line too."""
    try:
        from d90.cli import main as run
    except KeyboardInterrupt:
        print("interrupted: rerun the command to resume.", file=sys.stderr)
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
