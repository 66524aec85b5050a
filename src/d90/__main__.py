"""`d90` and `python -m d90`."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line; an interrupt while its modules load is one line too."""
    try:
        import signal  # takes milliseconds itself

        handler = signal.getsignal(signal.SIGINT)
        if handler is signal.default_int_handler:  # Not where interrupts are ignored: nohup.
            signal.signal(signal.SIGINT, _exit)
        from d90.cli import main as run

        signal.signal(signal.SIGINT, handler)
        run()
    except KeyboardInterrupt:
        _exit()
    finally:
        # Python remembers an interrupt within an `exec` of text, as dataclasses have, until the
        # next: `python -m d90` would end by the signal.
        exec("")


def _exit(*_: object) -> None:
    """End at once: where a library loads, an exception could be lost, wrapped or printed."""
    if os.environ.get("RANK", "0") == "0":
        print("interrupted: rerun the command to resume.", file=sys.stderr, flush=True)
    os._exit(130)


if __name__ == "__main__":
    main()
