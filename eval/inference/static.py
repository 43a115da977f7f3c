"""What the catalogue holds of a model from its weights: the relation scores that a check is held against."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from describe.catalogue import read_only_query
from describe.errors import InputError
from describe.jobs.describing import BRIEFLY
from describe.relations import Relation, relation_digest
from eval.inference.correlating import Static, StaticScores
from eval.inference.dynamic import READOUTS


def static_scores(catalogue: Path, model: str, model_digest: str) -> tuple[Static, list[str]]:
    """Static scores at each relation's main k, and the runs that they are of.

    Of single-token sources: as in MAPS, also beside dynamic scores of longer ones.

    Raises:
        InputError: there are none of these weights.
    """
    found = read_only_query(
        catalogue,
        "SELECT relation, preset, direction, layer, head, score, lift, run_id FROM relation_current "
        "JOIN (SELECT run_id FROM runs WHERE model_digest = ?) USING (run_id) "
        "WHERE model = ? AND sources = 'one token' AND targets = 'whole word' ORDER BY layer, head",
        [model_digest, model],
        wait=BRIEFLY,
    ).rows
    if not found:
        raise InputError(
            f"The catalogue '{catalogue}' holds no relation scores of {model} with these weights: "
            "run `describe relations` on it first."
        )
    by_relation: dict[tuple[str, str, str], list[tuple[object, object]]] = defaultdict(list)
    for relation, preset, direction, _, _, score, lift, _ in found:
        if preset in READOUTS:
            by_relation[str(relation), str(preset), str(direction)].append((score, lift))
    static = {key: StaticScores(*np.array(rows, dtype=np.float64).T) for key, rows in by_relation.items()}
    return static, sorted({str(row[-1]) for row in found})


def check_same_pairs(catalogue: Path, relations: Iterable[Relation]) -> None:
    """Raise InputError for a relation whose pairs are not those that the catalogue's scores are of."""
    rows = read_only_query(catalogue, "SELECT relation, digest FROM relations", wait=BRIEFLY).rows
    known = {str(name): value for name, value in rows}
    changed = [
        one.name
        for one in relations
        if not one.exact and known.get(one.name, relation_digest(one)) != relation_digest(one)
    ]
    if changed:
        raise InputError(
            f"The catalogue's scores of {', '.join(changed)} are of other pairs: check the same files, or score "
            "these under another name with `describe relations`."
        )


def worth_checking(
    catalogue: Path, model: str, known: Iterable[str], always: Iterable[str], limit: int | None = None
) -> list[str]:
    """Known relations that some head implements, in either preset, the strongest first, and those of `always`.

    Where no head has a relation there is nothing that a correlation over heads could speak of.
    """
    found = read_only_query(
        catalogue,
        "SELECT relation FROM relation_current WHERE model = ? AND sources = 'one token' AND implements "
        "AND preset IN ('default', 'paper') GROUP BY relation ORDER BY max(lift) DESC, relation",
        [model],
        wait=BRIEFLY,
    ).rows
    known = set(known)
    names = [str(row[0]) for row in found if row[0] in known]
    names += sorted(set(always) & known - set(names))
    return names[:limit]


def holds_scores(catalogue: Path, model: str) -> bool:
    """Whether the catalogue has scores of a model that can be checked."""
    return bool(
        read_only_query(
            catalogue,
            "SELECT 1 FROM relation_current WHERE model = ? AND sources = 'one token' AND targets = 'whole word' "
            "AND preset IN ('default', 'paper') LIMIT 1",
            [model],
            wait=BRIEFLY,
        ).rows
    )
