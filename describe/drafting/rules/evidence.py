"""The statistics of the rules drafter: claims found on drafting rows, graded on held-out rows.

A claim never sees the row that grades it, and never stands without what chance gives:
row-specific operations are tested against the same targets shuffled among the held-out rows, classes of
outputs and inputs against the rows of the model's other heads (method, sections 4 and 6).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from describe.core.nulls import binomial_tail, permutation_test, wilson

Bools = NDArray[np.bool_]
ClaimKind = Literal["row", "output", "input"]


@dataclass(frozen=True)
class GradingSettings:
    """What a claim needs; part of a run's digest."""

    alpha: float = 0.05  # false-discovery rate over all claims of a model
    min_lift: float = 0.15  # over the null, for row-specific claims (MAPS calls 15 % an implementation)
    min_class_lift: float = 0.3  # for classes of outputs or inputs, which chance reaches more easily
    min_class_precision: float = 0.5
    min_hits: int = 3  # rows, in the drafting half and again in the held-out half
    min_target_share: float = 0.6  # of a row's targets that must be in a class for the row to count
    max_claims: int = 2  # of each kind (copying, other operations), head and direction
    same_coverage: float = 0.8  # a more specific operation wins if it explains this share of a general one
    permutations: int = 9999
    seed: int = 0


@dataclass(frozen=True)
class Claim:
    """One statement about a head with its held-out evidence; `q_value` comes once all claims are known."""

    kind: ClaimKind
    name: str
    draft_hits: int
    n_draft: int
    hits: int  # held-out rows where it holds
    n_heldout: int
    null: float  # share of held-out rows where it would hold by chance
    p_value: float
    rows: tuple[int, ...]  # all rows (indices) where it holds, for display

    @property
    def precision(self) -> float:
        """Share of held-out rows where the claim holds."""
        return self.hits / self.n_heldout if self.n_heldout else 0.0

    @property
    def lift(self) -> float:
        """Precision over chance."""
        return self.precision - self.null

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson 95 % interval of the precision."""
        return wilson(self.hits, self.n_heldout)

    def strong(self, settings: GradingSettings) -> bool:
        """Whether the size of the effect, apart from its q-value, allows a description."""
        if self.hits < settings.min_hits:
            return False
        if self.kind == "row":
            return self.lift >= settings.min_lift
        return self.lift >= settings.min_class_lift and self.precision >= settings.min_class_precision


@dataclass(frozen=True)
class Candidate:
    """An operation's hits on one head: `matrix[i, r]` = source i is hit by some target of row r."""

    name: str
    specificity: float
    copies: bool  # writing the source itself counts
    matrix: Bools  # [K, K]


def choose_operations(
    candidates: list[Candidate], draft: Bools, settings: GradingSettings
) -> list[Candidate]:
    """Pick the operations that explain the drafting rows, greedily, most rows first.

    Copying and other operations are picked apart: a head that writes " Poland", " Polish" and " Warsaw" for
    " Poland" does both. Within each, an operation must hold on `min_hits` drafting rows that no earlier one
    explains, with `min_lift` over the shuffled drafting rows, and a more specific operation is taken in place
    of a general one that it (nearly) covers.
    """
    kinds = ([c for c in candidates if c.copies], [c for c in candidates if not c.copies])
    return [candidate for own in kinds for candidate in _greedy(own, draft, settings)]


def _greedy(candidates: list[Candidate], draft: Bools, settings: GradingSettings) -> list[Candidate]:
    n = int(draft.sum())
    if n < settings.min_hits:
        return []
    scored: list[tuple[Candidate, Bools, float]] = []
    for candidate in candidates:
        block = candidate.matrix[np.ix_(draft, draft)]
        own = np.diagonal(block)
        null = float(block.mean())
        if own.sum() >= settings.min_hits and own.mean() - null >= settings.min_lift:
            scored.append((candidate, own, null))
    chosen: list[Candidate] = []
    open_rows = np.ones(n, dtype=bool)
    while scored and len(chosen) < settings.max_claims:
        gains = [float((own & open_rows).sum()) - null * n for _, own, null in scored]
        best = int(np.argmax(gains))
        if (scored[best][1] & open_rows).sum() < settings.min_hits or gains[best] <= 0:
            break
        bar = settings.same_coverage * gains[best]
        rivals = [i for i, gain in enumerate(gains) if gain >= bar]
        pick = max(rivals, key=lambda i: (scored[i][0].specificity, gains[i]))
        candidate, own, _ = scored.pop(pick)
        chosen.append(candidate)
        open_rows &= ~own
    return chosen


def grade_operation(candidate: Candidate, heldout: Bools, settings: GradingSettings) -> Claim:
    """Test a chosen operation on the held-out rows against the same rows shuffled."""
    block = candidate.matrix[np.ix_(heldout, heldout)]
    own = np.diagonal(candidate.matrix)
    null, p = permutation_test(block, settings.seed, settings.permutations)
    return Claim(
        kind="row",
        name=candidate.name,
        draft_hits=int(own[~heldout].sum()),
        n_draft=int((~heldout).sum()),
        hits=int(own[heldout].sum()),
        n_heldout=int(heldout.sum()),
        null=null,
        p_value=p,
        rows=tuple(np.flatnonzero(own).tolist()),
    )


def class_claim(
    kind: Literal["output", "input"],
    names: list[str],
    members: Bools,
    rates: NDArray[np.float64],
    heldout: Bools,
    settings: GradingSettings,
    specificity: Callable[[int], float],
) -> Claim | None:
    """The class that describes a head's drafting rows best, graded on its held-out rows.

    Args:
        kind: whether rows count by their targets or by their source.
        names: of the classes, C.
        members: [C, K] whether each row counts as a member of each class.
        rates: [C] share of the rows of the model's other heads that count: the null.
        heldout: [K].
        settings: thresholds.
        specificity: of a class by its index; lower base rates make more telling classes.

    Returns:
        The graded claim, or None when no class stands out among the drafting rows.
    """
    draft = ~heldout
    n = int(draft.sum())
    if n < settings.min_hits:
        return None
    hits = members[:, draft].sum(1)
    shares = hits / n
    good = (
        (hits >= settings.min_hits)
        & (shares - rates >= settings.min_class_lift)
        & (shares >= settings.min_class_precision)
    )
    if not good.any():
        return None
    best_lift = float((shares - rates)[good].max())
    near = [
        int(i) for i in np.flatnonzero(good) if shares[i] - rates[i] >= settings.same_coverage * best_lift
    ]
    pick = max(near, key=lambda i: (specificity(i), shares[i] - rates[i]))
    held = members[pick, heldout]
    return Claim(
        kind=kind,
        name=names[pick],
        draft_hits=int(hits[pick]),
        n_draft=n,
        hits=int(held.sum()),
        n_heldout=len(held),
        null=float(rates[pick]),
        p_value=binomial_tail(int(held.sum()), len(held), float(rates[pick])),
        rows=tuple(np.flatnonzero(members[pick]).tolist()),
    )
