"""The data dictionary: Markdown written from the comments that the schema itself carries."""

from __future__ import annotations

from collections.abc import Sequence

from describe.catalogue.schema import Described


def data_dictionary(relations: Sequence[Described], *, level: int = 2) -> str:
    """One section per table or view: what a row is, then every column with its type and meaning.

    Args:
        relations: what `describe.catalogue.schema.described` found.
        level: depth of the headings, 1 to 6.
    """
    return "\n".join(_section(one, "#" * level) for one in relations)


def _section(one: Described, marks: str) -> str:
    kind = "view" if one.is_view else "table"
    lines = [
        f"{marks} `{one.name}` ({kind})",
        "",
        one.comment or "",
        "",
        "| column | type | meaning |",
        "|---|---|---|",
    ]
    for name, (data_type, comment) in one.columns.items():
        lines.append(f"| `{name}` | {data_type} | {_cell(comment or '')} |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
