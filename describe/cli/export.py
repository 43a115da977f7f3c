"""`describe export`: the catalogue as Parquet files with a data dictionary and a dataset card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_EPILOG = "Examples: describe export dataset · describe export dataset --catalogue night.duckdb --force"


def register(app: typer.Typer) -> None:
    """Add `describe export` to the app."""
    app.command("export", epilog=_EPILOG)(export)


def export(
    folder: Annotated[Path, typer.Argument(help="Where to; must be missing or empty.", metavar="DIR")],
    catalogue: Annotated[Path, typer.Option(help="The catalogue file.")] = Path("heads.duckdb"),
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export.")] = False,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait while another process writes.")] = 0.0,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing but errors.")] = False,
) -> None:
    """Write every table and view as Parquet, with a data dictionary and a dataset card for Hugging Face.

    The folder appears only when it is whole. Names of human raters are replaced by numbers. Nothing is
    uploaded.
    """
    from describe.catalogue import export_catalogue

    counts = export_catalogue(catalogue, folder, force=force, wait=wait)
    if not quiet:
        rows = sum(counts.values())
        typer.echo(f"Exported {len(counts)} tables and views with {rows} rows to {folder}.", err=True)
