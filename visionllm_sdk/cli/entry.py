"""Start of the command line, and its one place where errors become messages and exit codes."""

from __future__ import annotations

import io
import os
import sys
import traceback
from collections.abc import Sequence
from functools import cache
from typing import Any

import typer
import typer.main

from visionllm_sdk.cli.app import app
from visionllm_sdk.errors import VisionLLMError
from visionllm_sdk.extensions import has_extension, load_extension

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

# The base of all usage errors. Newer versions of typer carry their own copy of click, so that it can only be
# reached through what typer itself exports.
_ClickException: type[Any] = typer.BadParameter.__mro__[2]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and leave the process with its exit code.

    0: done; 1: a fault of this program, or an evaluation that misses a bar; 2: a request that cannot be
    fulfilled as it is; 130: interrupted.
    """
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        # A letter that the output's encoding cannot hold must not end the work.
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    given = list(arguments)
    debug = "--debug" in given
    if debug:
        given.remove("--debug")
    try:
        code = _program().main(given, prog_name="visionllm", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else OK
    except (typer.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except _ClickException as error:
        return _show_usage(error)
    except BrokenPipeError:
        # The reader (`| head`) has gone; Python must not complain about it again while it shuts down.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except Exception as error:  # noqa: BLE001 - the outermost layer: every fault becomes a message
        return _explain(error, debug=debug)


@cache
def _program() -> Any:
    """The commands of the core, and those of packages that offer more."""
    if has_extension("commands"):
        load_extension("commands")(app)
    return typer.main.get_command(app)


def _show_usage(error: Any) -> int:
    error.show(sys.stderr)
    return int(error.exit_code)


def _explain(error: Exception, *, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
    if isinstance(error, VisionLLMError | OSError):
        print(f"Error: {error}", file=sys.stderr)  # noqa: T201
        return USAGE
    kind = type(error).__name__
    hint = "" if debug else " Run the same command with --debug to see where, and report it."
    print(f"Internal error ({kind}): {error}.{hint}", file=sys.stderr)  # noqa: T201
    return FAILED
