"""The composition root: one thin module per command, each parses, builds adapters and calls the rooms."""

from __future__ import annotations

import io
import os
import sys
import traceback
from typing import NoReturn

import typer

from describe import __version__
from describe.cli import batch, bench, check, export, judge, mappings, relations, run, show, sql, whole_head
from describe.errors import DescribeError

_HELP = "Know what every attention head of a language model does: mappings, clusters, graded descriptions, in SQL."
_EPILOG = (
    "Examples: describe run smollm2 · describe show smollm2 L23H4 · "
    'describe sql "SELECT head_id, description FROM head_catalogue" · describe mappings smollm2 L23H4'
)
_DEBUG = "--debug"
_INTERRUPTED = 130  # what typer makes of Ctrl-C


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"describe {__version__}")
        raise typer.Exit


def app() -> typer.Typer:
    """The command line, with every command."""
    root_app = typer.Typer(
        help=_HELP,
        epilog=_EPILOG,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @root_app.callback()
    def root(
        version: bool = typer.Option(  # noqa: ARG001 (its callback does the work)
            False, "--version", help="Print the version and exit.", callback=_version, is_eager=True
        ),
        debug: bool = typer.Option(  # noqa: ARG001  # taken out of the line by `main`
            False, _DEBUG, help="Show the whole trace of an error, as DESCRIBE_DEBUG=1 does."
        ),
    ) -> None: ...

    for command in (run, show, mappings, whole_head, relations, check, judge, batch, sql, export, bench):
        command.register(root_app)
    return root_app


def main() -> None:
    """Run the command line; whatever goes wrong becomes one sentence on stderr and an exit code."""
    arguments = [part for part in sys.argv[1:] if part != _DEBUG]  # wherever in the line it was put
    debug = len(arguments) < len(sys.argv[1:]) or os.environ.get("DESCRIBE_DEBUG", "0") not in ("", "0")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(
                errors="backslashreplace"
            )  # a token that the terminal cannot show is no failure
    try:
        app()(args=arguments)
    except DescribeError as error:
        _stop(str(error), error.exit_code, debug)
    except SystemExit as stopped:
        if stopped.code == _INTERRUPTED:
            _stop("stopped; run the same command again to go on from here.", _INTERRUPTED, debug=False)
        raise
    except Exception as error:  # noqa: BLE001  # a mistake of ours: the user gets a sentence all the same
        what = " ".join(f"{type(error).__name__}: {error}".split())[:300].rstrip(": .")
        _stop(f"unexpected {what}; run it again with {_DEBUG} for the whole trace and report it.", 1, debug)


def _stop(sentence: str, code: int, debug: bool) -> NoReturn:
    if debug:
        traceback.print_exc()
    typer.echo(f"describe: {sentence}", err=True)
    sys.exit(code)
