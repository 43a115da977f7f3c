"""The composition root: one thin module per command, each parses, builds adapters and calls the rooms."""

from __future__ import annotations

import sys

import typer

from describe import __version__
from describe.cli import export, mappings, run, show, sql
from describe.errors import DescribeError

_HELP = "Know what every attention head of a language model does: mappings, clusters, graded descriptions, in SQL."
_EPILOG = (
    "Examples: describe run smollm2 · describe show smollm2 L23H4 · "
    'describe sql "SELECT head_id, description FROM head_catalogue" · describe mappings smollm2 L23H4'
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"describe {__version__}")
        raise typer.Exit


def _app() -> typer.Typer:
    app = typer.Typer(
        help=_HELP,
        epilog=_EPILOG,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def root(
        version: bool = typer.Option(  # noqa: ARG001 (its callback does the work)
            False, "--version", help="Print the version and exit.", callback=_version, is_eager=True
        ),
    ) -> None: ...

    for command in (run, show, mappings, sql, export):
        command.register(app)
    return app


def main() -> None:
    """Run the command line; a DescribeError becomes one sentence on stderr and its exit code."""
    try:
        _app()()
    except DescribeError as error:
        typer.echo(f"describe: {error}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        typer.echo("describe: stopped; run the same command again to go on from here.", err=True)
        sys.exit(130)
