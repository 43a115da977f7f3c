"""From graded claims of a whole model to what the catalogue says of each head, abstentions included."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from describe.core.nulls import benjamini_hochberg
from describe.drafting.rules.evidence import Claim, GradingSettings
from describe.records import Direction, HeadId, Status

UNCLEAR = "Unclear"

Key = tuple[HeadId, Direction]


@dataclass(frozen=True)
class Verdict:
    """What one head, or one cluster of it, is said to do; `pattern` is None unless described."""

    head: HeadId
    direction: Direction
    cluster: int | None  # None: the whole head
    status: Status
    inputs: str | None
    pattern: str | None
    claim: str | None  # the same without its figures
    lead: Claim | None  # the claim whose numbers stand in the row
    q_value: float | None
    claims: tuple[tuple[Direction, Claim, float], ...]  # all accepted ones behind the text, with their q
    explained: float | None  # share of held-out rows on which an accepted operation holds


@dataclass(frozen=True)
class HeadRows:
    """What the verdict needs of a head in one direction besides its claims."""

    heldout: np.ndarray  # [K] bool
    clusters: Mapping[int, tuple[int, ...]]  # rows by cluster, noise (−1) included


def accept(
    claims: Mapping[Key, Sequence[Claim]], grading: GradingSettings
) -> tuple[dict[Key, list[tuple[Claim, float]]], float]:
    """Claims that pass, with their q-values, and the largest p-value that passed.

    Benjamini–Hochberg runs over every operation and output claim of the model together, and over the input
    claims apart, since those only qualify a description and never make one.
    """
    accepted: dict[Key, list[tuple[Claim, float]]] = {key: [] for key in claims}
    cut = 0.0
    for inputs in (False, True):
        family = [
            (key, claim) for key, own in claims.items() for claim in own if (claim.kind == "input") == inputs
        ]
        q_values = benjamini_hochberg([claim.p_value for _, claim in family])
        for (key, claim), q in zip(family, q_values, strict=True):
            if q <= grading.alpha:
                if not inputs:
                    cut = max(cut, claim.p_value)
                if claim.strong(grading):
                    accepted[key].append((claim, float(q)))
    return accepted, cut


def head_verdicts(
    head: HeadId,
    rows: Mapping[Direction, HeadRows],
    accepted: Mapping[Direction, Sequence[tuple[Claim, float]]],
    clause: Callable[[Claim, Direction], str],
) -> list[Verdict]:
    """The head's own verdict first, then one for each cluster of each direction.

    The head is described if an operation or output claim passed in either direction; a pattern among the
    inputs alone is not an operation (MAPS, annotation guidelines) and leaves it unclear.
    """
    verdicts = []
    parts: list[str] = []
    clauses: list[str] = []
    kept: list[tuple[Direction, Claim, float]] = []
    inputs: str | None = None
    for direction, own in rows.items():
        mine = sorted(accepted[direction], key=lambda pair: -pair[0].hits)
        patterns = [(claim, q) for claim, q in mine if claim.kind != "input"]
        if patterns:
            parts += [sentence_of(claim, clause(claim, direction)) for claim, _ in patterns]
            clauses += [clause(claim, direction) for claim, _ in patterns]
        for claim, _ in mine:
            if claim.kind == "input" and (inputs is None or direction == "promote"):
                inputs = sentence_of(claim, clause(claim, direction))
        kept += [(direction, claim, q) for claim, q in patterns]
        verdicts += _cluster_verdicts(head, direction, own, patterns, clause)
    lead = max(kept, key=lambda item: (item[0] == "promote", item[1].hits), default=None)
    share = None
    text = None
    if lead is not None:
        # Both directions of a head have the same sources, so a row number means the same row in both.
        share = _explained([claim for _, claim, _ in kept], rows[lead[0]].heldout)
        text = f"{'; '.join(parts)}. Explains {share:.0%} of its held-out rows."
        text = text[:1].upper() + text[1:]
    words = "; ".join(clauses)
    whole = Verdict(
        head=head,
        direction="promote" if lead is None else lead[0],
        cluster=None,
        status="unclear" if lead is None else "described",
        inputs=inputs,
        pattern=text,
        claim=words[:1].upper() + words[1:] if lead is not None else None,
        lead=None if lead is None else lead[1],
        q_value=None if lead is None else lead[2],
        claims=tuple(kept),
        explained=share,
    )
    return [whole, *verdicts]


def sentence_of(claim: Claim, clause: str) -> str:
    """A claim with its evidence: what, on how many held-out rows, and how often by chance."""
    return f"{clause} ({claim.hits} of {claim.n_heldout} held-out rows, {claim.null:.0%} by chance)"


def _explained(claims: Sequence[Claim], heldout: np.ndarray) -> float:
    held = set(np.flatnonzero(heldout).tolist())
    covered = {row for claim in claims for row in claim.rows if row in held}
    return len(covered) / len(held) if held else 0.0


def _cluster_verdicts(
    head: HeadId,
    direction: Direction,
    own: HeadRows,
    patterns: Sequence[tuple[Claim, float]],
    clause: Callable[[Claim, Direction], str],
) -> list[Verdict]:
    """Each cluster gets the accepted claim that holds on most of its rows, if it holds on at least half."""
    verdicts = []
    for cluster, members in sorted(own.clusters.items()):
        if cluster < 0:
            continue
        best = max(patterns, key=lambda pair: len(set(pair[0].rows) & set(members)), default=None)
        covered = 0 if best is None else len(set(best[0].rows) & set(members))
        fits = best is not None and 2 * covered >= len(members)
        verdicts.append(
            Verdict(
                head=head,
                direction=direction,
                cluster=cluster,
                status="described" if fits else "unclear",
                inputs=None,
                pattern=sentence_of(best[0], clause(best[0], direction)) if fits and best else None,
                claim=clause(best[0], direction) if fits and best else None,
                lead=best[0] if fits and best else None,
                q_value=best[1] if fits and best else None,
                claims=((direction, *best),) if fits and best else (),
                explained=covered / len(members),
            )
        )
    return verdicts
