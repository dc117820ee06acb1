"""All verbs of the `kloros` command, and what happens when one of them fails."""

from __future__ import annotations

import errno
import os
import sys
from typing import Annotated

import typer

import kloros
from kloros.cli import (
    ab,
    actions,
    affect,
    bus,
    candidates,
    config,
    consume,
    doctor,
    finding_story,
    investigations,
    journal,
    ledger,
    maintenance,
    memory,
    module,
    optimiser,
    prove,
    questions,
    review,
    run,
    schedule,
    status,
    top,
    why,
)
from kloros.errors import KlorosError

EXIT_UNWRITABLE = 1
EXIT_WRONG_CALL = 2
EXIT_INTERRUPTED = 130
_UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENXIO, errno.EBADF}

app = typer.Typer(
    name="kloros",
    help="Watch and steer KLoROS: small daemons over one bus, paced by one scheduler.",
    rich_markup_mode=None,  # plain help starts in a third of the time, and pipes well
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command(name="run")(run.run)
app.command(name="status")(status.status)
app.command(name="top")(top.top)
app.add_typer(schedule.app, name="schedule")
app.command(name="prove")(prove.prove)
app.command(name="why")(why.why)
app.add_typer(affect.app, name="affect")
app.add_typer(ab.app, name="ab")
app.add_typer(bus.app, name="bus")
app.add_typer(journal.app, name="journal")
app.add_typer(ledger.app, name="ledger")
app.add_typer(memory.app, name="memory")
app.add_typer(questions.app, name="questions")
app.add_typer(investigations.app, name="investigations")
app.add_typer(actions.app, name="actions")
app.command(name="approve")(actions.approve)
app.command(name="reject")(actions.reject)
app.add_typer(candidates.app, name="candidates")
app.add_typer(optimiser.app, name="optimiser")
app.add_typer(review.app, name="review")
app.add_typer(module.app, name="module")
app.command(name="story")(finding_story.story)
app.add_typer(maintenance.app, name="maintenance")
app.add_typer(config.app, name="config")
app.command(name="doctor")(doctor.doctor)
app.command(name="consume")(consume.consume)


def _say_version(is_asked: bool) -> None:
    if is_asked:
        print(f"kloros {kloros.__version__}")
        raise typer.Exit


@app.callback()
def root(
    _version: Annotated[
        bool, typer.Option("--version", help="Say the version and exit.", callback=_say_version, is_eager=True)
    ] = False,
) -> None:
    """Watch and steer KLoROS: small daemons over one bus, paced by one scheduler."""


def call(arguments: list[str]) -> int:
    """Run the verb that `arguments` name; returns the exit code. Never raises, never shows a traceback for an
    error that has a name."""
    if sys.stdout is None:
        return _say_unwritable("it is closed")
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        _forget_stdout()
        return 0
    except SystemExit as ending:
        # typer itself turns a broken pipe into exit code 1; to us it is a reader who has had enough.
        if not isinstance(ending.__context__, OSError):
            raise
        _forget_stdout()
        return 0
    except OSError as error:
        # Whoever writes a file says which one; what is printed goes to none that has a name here.
        if error.filename is not None or error.errno not in _UNWRITABLE:
            raise
        _forget_stdout()
        return _say_unwritable(error.strerror)
    return code


def _run(arguments: list[str]) -> int:
    """The verb, without its output: that may still be on its way."""
    try:
        code = app(arguments, prog_name="kloros", standalone_mode=False)
    except KlorosError as error:
        print(f"kloros: {error}", file=sys.stderr)
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return EXIT_INTERRUPTED
    except UnicodeEncodeError:
        if (wrong := _no_text(arguments)) is None:
            raise
        print(f"kloros: the argument '{wrong}' is not UTF-8; write it in UTF-8", file=sys.stderr)
        return EXIT_WRONG_CALL
    except Exception as error:
        # typer's usage errors know how to show themselves; anything else is a fault of ours and keeps its traceback.
        if not hasattr(error, "show"):
            raise
        error.show()
        return int(getattr(error, "exit_code", 2))
    return code if isinstance(code, int) else 0


def _no_text(arguments: list[str]) -> str | None:
    """The first argument that is not UTF-8, to be read; None when all are."""
    from kloros.machine.names import readable

    return next((told for each in arguments if (told := readable(each)) != each), None)


def _say_unwritable(reason: str | None) -> int:
    print(
        f"kloros: standard output cannot be written: {reason}; send it elsewhere, or to /dev/null if nobody reads it",
        file=sys.stderr,
    )
    return EXIT_UNWRITABLE


def _forget_stdout() -> None:
    """Nobody reads it any more: what is still buffered must not raise again when the interpreter ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
