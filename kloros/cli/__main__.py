"""The `kloros` command.

Ctrl-C ends any verb quietly with exit code 130; `kloros run` takes it as the order to stop and exits 0. A reader that
goes away (`| head`) ends a verb quietly with 0. Every error is one line on stderr, with the exit code of its class.
What the encoding of stdout does not have is written as `?`.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from types import FrameType

EXIT_INTERRUPTED = 130


def main() -> int:
    """Run the command of this process's arguments; returns its exit code."""
    # Before anything slow is imported, so that Ctrl-C during start-up shows no traceback either. A verb holds nothing
    # that must be put in order: sockets and locks go with the process. `kloros run` installs its own handler.
    signal.signal(signal.SIGINT, _end_at_once)
    _prepare_outputs()

    from kloros.cli.app import call

    code = call(sys.argv[1:])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the verb has ended: nothing is left to interrupt
    return code


def _prepare_outputs() -> None:
    """Have no character, and no stderr that is closed, stop a verb."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    if sys.stderr is None:  # print() would take stdout instead
        sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115 - for as long as the process lives


def _end_at_once(_number: int, _frame: FrameType | None) -> None:
    os._exit(EXIT_INTERRUPTED)


if __name__ == "__main__":
    sys.exit(main())
