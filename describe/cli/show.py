"""`describe show`: one head's card in the terminal."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from describe.cli import common
from describe.cli.sql import visible
from describe.errors import InputError
from describe.records import HeadId

_EPILOG = "Examples: describe show smollm2 L23H4 · describe show smollm2 L23H4 --rows 30 · describe show smollm2 L23H4 --json"


def register(app: typer.Typer) -> None:
    """Add `describe show` to the app."""
    app.command("show", epilog=_EPILOG)(show)


def show(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="The model as `describe run` was given it, or as the catalogue names it."
        ),
    ],
    head: Annotated[str, typer.Argument(metavar="HEAD", help="Such as L5H9.")],
    catalogue: common.CatalogueFile = Path("heads.duckdb"),
    rows: Annotated[int, typer.Option(min=0, help="Mapping rows to print for each direction.")] = 12,
    as_json: Annotated[bool, typer.Option("--json", help="Everything about the head as JSON.")] = False,
) -> None:
    """Show what the catalogue holds on one head: descriptions with their evidence, clusters and mappings."""
    if Path(model).exists():
        model = Path(model).resolve().name  # what the catalogue calls a local folder or file
    card = _card(catalogue, model, HeadId.parse(head))
    if as_json:
        typer.echo(json.dumps(card, indent=2, default=str))
    else:
        _print(card, rows)


def _card(catalogue: Path, model: str, head: HeadId) -> dict[str, object]:
    """All rows of the newest complete run about a head."""
    from describe.catalogue import read_only_query

    def ask(query: str, *parameters: object) -> list[dict[str, object]]:
        found = read_only_query(catalogue, query, parameters)
        return [dict(zip(found.columns, row, strict=True)) for row in found.rows]

    front = ask(
        "SELECT c.*, r.run_id FROM head_catalogue c JOIN run_latest r USING (model)"
        " WHERE (c.model = ? OR split_part(c.model, '@', 1) = ?) AND layer = ? AND head = ?",
        model, model, head.layer, head.head,
    )  # fmt: skip
    if not front:
        known = [str(row["model"]) for row in ask("SELECT DISTINCT model FROM runs ORDER BY model")]
        if model in known or any(name.startswith(f"{model}@") for name in known):
            raise InputError(f"The catalogue {catalogue} has no head {head} of '{model}': check the numbers.")
        raise InputError(
            f"The catalogue {catalogue} holds {', '.join(known) or 'no model'} and not '{model}': describe it"
            f" with `describe run {model}`."
        )
    run_id = front[0]["run_id"]
    where = "WHERE run_id = ? AND layer = ? AND head = ?"
    key = (run_id, head.layer, head.head)
    return {
        "head": front[0],
        "constant": ask(
            f"SELECT constant_promoted, constant_suppressed, explained_share FROM heads {where}", *key
        ),
        "descriptions": ask(f"FROM descriptions {where} ORDER BY cluster NULLS FIRST, direction", *key),
        "clusters": ask(f"FROM clusters {where} ORDER BY direction, cluster", *key),
        "detections": ask(
            "SELECT grader, method, n_rows, n_foils, auc, ci_low, ci_high, null_auc, status FROM detection_current"
            " WHERE description_id = ? ORDER BY method, grader",
            front[0]["description_id"],
        ),
        "ratings": ask(
            "SELECT rater_kind, rater, plausibility, verdict, n_rows, n_fitting, status FROM rating_current"
            " WHERE description_id = ? AND NOT is_control ORDER BY rater_kind, rater",
            front[0]["description_id"],
        ),
        **_in_the_model(ask, front[0], head),
        "mappings": ask(
            "SELECT direction, source_rank, source_token, split, list(target_token ORDER BY target_rank) AS targets,"
            f" first(saliency) AS saliency FROM mappings {where} GROUP BY ALL ORDER BY direction, source_rank",
            *key,
        ),
    }


def _in_the_model(
    ask: Callable[..., list[dict[str, object]]], front: dict[str, object], head: HeadId
) -> dict[str, object]:
    """What predefined operations and the running model say of a head."""
    place = (front["model"], head.layer, head.head)
    return {
        "relations": ask(
            "SELECT s.relation, s.category, s.preset, s.direction, s.sources, s.k, s.score, s.null_mean, s.lift, s.q_value,"
            " s.n_pairs, s.within_class, t.score_without_context, t.score_with_context, t.n_templates"
            " FROM relation_current s LEFT JOIN relation_truth t USING"
            " (model, layer, head, relation, preset, direction, sources, targets)"
            " WHERE s.implements AND s.model = ? AND s.layer = ? AND s.head = ?"
            " ORDER BY s.preset, s.direction, s.lift DESC, s.relation",
            *place,
        ),
        "agreement": ask(
            "SELECT a.* FROM inference_agreements a JOIN runs r ON a.run_id = r.run_id AND r.status = 'complete'"
            " WHERE a.description_id = ? ORDER BY a.n_templates DESC, r.started_at DESC, r.run_id DESC LIMIT 1",
            front["description_id"],
        ),
        "ablations": ask(
            # In the order in which heads are removed; the head must be among those that were.
            "SELECT a.*, s.place FROM ablation_current a JOIN (SELECT *, row_number() OVER (PARTITION BY model, relation,"
            " preset ORDER BY score DESC, layer DESC, head DESC) AS place FROM relation_current"
            " WHERE direction = 'promote' AND sources = 'one token' AND targets = 'whole word') s"
            " USING (model, relation, preset) WHERE a.causal AND a.method = 'zero' AND s.place <= a.n_read"
            " AND s.model = ? AND s.layer = ? AND s.head = ? ORDER BY a.area DESC",
            *place,
        ),
        "classes": ask(
            "SELECT class, pattern_score, pattern_null, effect_score, effect_null, q_value, detail FROM class_current"
            " WHERE passes AND model = ? AND layer = ? AND head = ? ORDER BY class",
            *place,
        ),
    }


def _print(card: dict[str, object], rows: int) -> None:
    head = _dict(card["head"])
    typer.echo(f"{head['head_id']} of {head['model']}: {head['status']}")
    if head["description"]:
        typer.echo(f"  {visible(str(head['description']))}")
    _print_judging(_list(card["detections"]), _list(card["ratings"]))
    _print_agreement(_list(card["agreement"]))
    for one in _list(card["descriptions"]):
        if (
            one["cluster"] is None
            and one["inputs_text"]
            and str(one["inputs_text"]) not in str(one["pattern_text"])
        ):
            typer.echo(f"  Reads {visible(str(one['inputs_text']))}.")
        if one["cluster"] is not None and one["pattern_text"]:
            typer.echo(f"  {one['direction']} cluster {one['cluster']}: {visible(str(one['pattern_text']))}")
    for constant in _list(card["constant"]):
        for name in ("promoted", "suppressed"):
            tokens = " ".join(_quoted(token) for token in _strings(constant[f"constant_{name}"]))
            typer.echo(f"  Whatever it reads, {name} most: {tokens}")
    _print_relations(_list(card["relations"]))
    _print_ablations(_list(card["ablations"]))
    _print_classes(_list(card["classes"]))
    for direction in ("promote", "suppress"):
        own = [row for row in _list(card["mappings"]) if row["direction"] == direction]
        typer.echo(
            f"{common.VERBS[direction].capitalize()} ({min(rows, len(own))} of {len(own)} salient tokens)"
        )
        for row in own[:rows]:
            mark = "*" if row["split"] == "heldout" else " "
            targets = " ".join(_quoted(token) for token in _strings(row["targets"]))
            typer.echo(f" {mark}{_quoted(str(row['source_token'])):<24} → {targets}")
    if rows:
        typer.echo("* held-out row: graded on, never drafted from")


def _print_judging(detections: list[dict[str, object]], ratings: list[dict[str, object]]) -> None:
    for one in detections:
        grader = visible(str(one["grader"]))
        if one["auc"] is None:
            typer.echo(f"  {grader}, asked to tell its rows from foils, gave no figure ({one['status']}).")
            continue
        null = (
            ""
            if one["null_auc"] is None
            else f", {_number(one['null_auc']):.2f} by other heads' descriptions"
        )
        how = "The claim, executed," if one["method"] == "operation" else f"{grader}, by the description,"
        typer.echo(
            f"  {how} tells {one['n_rows']} held-out rows from {one['n_foils']} foils with an area of {_number(one['auc']):.2f} "
            f"[{_number(one['ci_low']):.2f}, {_number(one['ci_high']):.2f}]{null}."
        )
    for one in ratings:
        rater = f"{one['rater_kind']} {visible(str(one['rater']))}"
        if one["plausibility"] is None:
            typer.echo(f"  Not rated by {rater} ({one['status']}).")
        else:
            rows = "" if one["n_fitting"] is None else f", {one['n_fitting']} of {one['n_rows']} rows fit"
            typer.echo(f"  Rated {one['plausibility']} of 5 by {rater}{rows}.")


def _print_agreement(checks: list[dict[str, object]]) -> None:
    for one in checks:
        typer.echo(
            f"  In the running model {_number(one['agreement']):.0%} of {one['n_sources']} sources bring out their own mapped "
            f"targets with attention on them alone ({_number(one['null_mean']):.0%} when shuffled, "
            f"q = {_number(one['q_value']):.2g}), {_number(one['agreement_with_context']):.0%} as the head attends."
        )
        if one["attribution"] is not None:
            typer.echo(
                f"  As it attends, a source adds {_number(one['attribution']):+.2f} logits to its own targets, "
                f"{_number(one['attribution_null']):+.2f} to those of the others."
            )


def _print_relations(relations: list[dict[str, object]]) -> None:
    for one in relations:
        verb = common.VERBS[str(one["direction"])]
        typer.echo(
            f"  {verb.capitalize()} {one['relation']} ({one['preset']} preset): {_number(one['score']):.0%} of "
            f"{one['n_pairs']} pairs at k = {one['k']}, {_number(one['null_mean']):.0%} when shuffled, "
            f"q = {_number(one['q_value']):.2g}{_in_the_running_model(one)}"
        )


def _print_ablations(ablations: list[dict[str, object]]) -> None:
    for one in ablations:
        typer.echo(
            f"  Number {one['place']} of the heads of {one['relation']} ({one['preset']} preset): without the first "
            f"{one['n_read']} the model is right on "
            f"{_number(one['accuracy_relation']):.0%} of its task, {_number(one['base_accuracy']):.0%} with all heads, "
            f"{_number(one['accuracy_random']):.0%} without as many random ones"
        )


def _print_classes(classes: list[dict[str, object]]) -> None:
    for one in classes:
        detail = f" ({one['detail']})" if one["detail"] else ""
        null = one["pattern_null"]
        chance = "" if null is None else f" (chance {_number(null):.2f})"
        typer.echo(
            f"  Class {one['class']}{detail}: attention {_number(one['pattern_score']):.2f}{chance}, "
            f"effect {_number(one['effect_score']):.2f} (null {_number(one['effect_null']):.2f}), "
            f"q = {_number(one['q_value']):.2g}"
        )


def _in_the_running_model(one: dict[str, object]) -> str:
    if one["score_without_context"] is None:
        return ""
    return (
        f"; in the running model {_number(one['score_without_context']):.0%} with attention on the source alone, "
        f"{_number(one['score_with_context']):.0%} as it attends"
    )


def _quoted(token: str) -> str:
    from describe.core.tokens import escape

    return escape(token)


def _dict(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[dict[str, object]]:
    return value if isinstance(value, list) else []


def _number(value: object) -> float:
    return float(str(value))


def _strings(value: object) -> list[str]:
    return [str(part) for part in value] if isinstance(value, (list, tuple)) else []
