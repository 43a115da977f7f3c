"""What a setting reads from a model's heads, measured on held-out rows and against the live model.

A head counts only by what is predicted on its held-out rows, and settings are compared where shuffled heads, of
which nothing is true, pass equally rarely. The settings themselves are listed in `eval.bench.settings`; the
module is long because one class holds what the settings share (states, table, vectors, the live model).
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from describe.core.circuits import LayerCircuits, Norm
from describe.core.nulls import benjamini_hochberg
from describe.core.tokens import excluded_tokens
from describe.drafting.controls import shuffled_rows
from describe.drafting.rules.drafter import RulesDrafter
from describe.drafting.rules.evidence import Candidate, Claim, GradingSettings
from describe.drafting.rules.keys import OperationTable
from describe.drafting.rules.verdict import accept
from describe.drafting.semantics import SHARED_PREFIX, SemanticField, is_word
from describe.jobs.projecting import Projector
from describe.records import Direction, HeadId, HeadMappings, ModelShape
from describe.relations import load_relations
from describe.settings import ProjectionSettings, digest
from describe.subject.block0 import ALL_STATES, Block0States, State
from describe.subject.model import SubjectModel
from eval.bench.copying import Agreement, MeasuredCopying, agreement, measured_copying, static_copying

Sources = Literal["ranked", "words", "distinct", "peaked"]
Encode = Callable[[Sequence[str]], np.ndarray]
TOKENS = 49_152  # of a model: all of SmolLM2's, the commonest of Gemma's
FALSE_SHARE = 0.01  # shuffled heads that may pass
CONTROLS = 1080  # shuffled heads
VOCABULARY_SAMPLE = 5000
WIDE, WIDE_TARGETS = 300, 10  # what is projected once to choose rows from


@dataclass(frozen=True)
class Rows:
    """Which of a head's rows are graded."""

    salient: int = 30
    targets: int = 5
    sources: Sources = "ranked"
    wide: int = (
        0  # candidates to choose the sources from (with WIDE_TARGETS targets); 0: no more than are graded
    )


@dataclass(frozen=True)
class Variant:
    """One line of the table."""

    name: str
    settings: ProjectionSettings
    rows: Rows = Rows()
    min_lift: float = 0.15
    targets_centred: bool = False  # the mean unembedding row is subtracted, which no softmax can see

    @property
    def projection(self) -> ProjectionSettings:
        """What has to be projected, wide enough to choose from."""
        if self.rows.wide:
            return replace(self.settings, preset="study", salient=self.rows.wide, targets=WIDE_TARGETS)
        return replace(self.settings, preset="study", salient=self.rows.salient, targets=self.rows.targets)


@dataclass(frozen=True)
class Measures:
    """What was found under one setting; shares are of all heads."""

    heads: int
    promote: float  # heads with a row-specific operation accepted at q < .05, as the drafter does
    suppress: float
    either: float
    p_cut: float  # the largest p-value accepted
    false_at_q: float  # shuffled heads that pass at that p-value
    p_cut_equal: float  # p-values below this are passed by at most 1 % of the shuffled heads
    either_equal: float  # heads with an operation below it, either direction
    controls: int
    semantic: float  # heads whose promoted targets are nearer to their own sources than to other rows'
    semantic_words: float  # the same among whole words that do not begin alike
    copying: Agreement  # over attention on all earlier words
    induction: Agreement  # over attention on the word after the first occurrence
    cpu_seconds: float


def graded_rows(one: HeadMappings, rows: Rows, texts: Sequence[str]) -> HeadMappings:
    """The rows to grade, chosen from a wider record without a look at what source and target have in common."""
    at = np.arange(len(one.source_ids))
    names = [texts[int(i)] for i in one.source_ids]
    if rows.sources == "words":
        at = np.array([i for i in at if is_word(names[i])], dtype=np.int64)
    elif rows.sources == "distinct":
        first: dict[str, int] = {}
        for i in at:
            first.setdefault(names[i].strip().casefold(), int(i))
        at = np.array(list(first.values()), dtype=np.int64)
    elif rows.sources == "peaked" and one.z is not None and one.contrast is not None:
        at = np.argsort(-np.abs(one.z[:, :5]).mean(1) * one.contrast, kind="stable")
    at, n = at[: rows.salient], rows.targets
    return replace(
        one,
        source_ids=one.source_ids[at],
        saliency=one.saliency[at],
        contrast=None if one.contrast is None else one.contrast[at],
        target_ids=one.target_ids[at, :n],
        logits=one.logits[at, :n],
        z=None if one.z is None else one.z[at, :n],
        heldout=one.heldout[at],
    )


class StudyModel:
    """A subject reduced to some of its tokens, its block-0 states computed once for all settings."""

    def __init__(self, subject: SubjectModel, token_ids: NDArray[np.int64]) -> None:
        self.subject = subject
        self.ids = torch.from_numpy(token_ids)
        self.targets_centred = False
        self._tables: dict[str, Tensor] = {}

    @property
    def shape(self) -> ModelShape:
        """The subject's sizes, the vocabulary reduced."""
        return replace(self.subject.shape, n_vocab=len(self.ids))

    def W_E(self, dtype: torch.dtype = torch.float32) -> Tensor:  # noqa: N802
        """Rows of the embedding, [n, d]."""
        return self._table("W_E", lambda: self.subject.W_E()[self.ids]).to(dtype)

    def unembedding(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Rows of the unembedding, [n, d]."""
        if self.subject.tied:
            rows = self.W_E(dtype)
        else:
            rows = self._table("W_U", lambda: self.subject.unembedding()[self.ids]).to(dtype)
        return rows - rows.mean(0) if self.targets_centred else rows

    def final_norm(self, dtype: torch.dtype = torch.float32) -> Norm:
        """The subject's."""
        return self.subject.final_norm(dtype)

    def layer(self, layer: int, dtype: torch.dtype = torch.float32) -> LayerCircuits:
        """The subject's."""
        return self.subject.layer(layer, dtype)

    def block0(
        self,
        token_ids: Tensor | None = None,
        *,
        want: Collection[State] = ALL_STATES,
        device: torch.device | str = "cpu",
    ) -> Block0States:
        """States of tokens by their place in the reduced vocabulary; None for all."""

        def states(state: State) -> Tensor:
            whole = self._table(
                state, lambda: getattr(self.subject.block0(self.ids, want={state}, device=device), state)
            )
            return whole if token_ids is None else whole[token_ids]

        return Block0States(**{state: states(state) for state in want})

    def _table(self, name: str, make: Callable[[], Tensor]) -> Tensor:
        if name not in self._tables:
            self._tables[name] = make()
        return self._tables[name]


class BatchDrafter(RulesDrafter):
    """The rules drafter, which finds the candidate operations of thousands of heads in one pass over the library.

    The claims are the same (tested); only the search through pairs that never meet is shared by the heads.
    """

    _worth: dict[int, list[int]]  # by identity of the mappings: operations that hold on enough drafting rows

    def claims_of(self, mappings: Sequence[HeadMappings]) -> list[list[Claim]]:
        """The claims about each of the heads, all of which have equally many targets in a row."""
        n = mappings[0].target_ids.shape[1]
        sources = np.concatenate([np.repeat(one.source_ids, n) for one in mappings])
        targets = np.concatenate([one.target_ids.reshape(-1) for one in mappings])
        draft = np.concatenate([~one.heldout for one in mappings])
        head = np.repeat(np.arange(len(mappings)), [len(one.source_ids) for one in mappings])
        self._worth = {id(one): [] for one in mappings}
        for index in range(len(self.table.operations)):
            hits = self.table.pair_hits(index, sources, targets).reshape(-1, n).any(1)
            rows = np.bincount(head[hits & draft], minlength=len(mappings))
            for at in np.flatnonzero(rows >= self.grading.min_hits):
                self._worth[id(mappings[int(at)])].append(index)
        return [self.claims(one) for one in mappings]

    def _candidates(self, mappings: HeadMappings) -> list[Candidate]:
        whole = self.table
        self.table = copy.copy(whole)
        chosen = self._worth[id(mappings)]
        self.table.operations = tuple(whole.operations[index] for index in chosen)
        self.table._keys = [whole._keys[index] for index in chosen]
        try:
            return super()._candidates(mappings)
        finally:
            self.table = whole


class Study:
    """Measures variants on one model.

    Args:
        subject: the model.
        encode: unit vectors of words.
        tokens: how many ordinary tokens take part; those that the token filter leaves out come on top.
        layers: to grade; None for all.
        controls: shuffled heads, at least.
        work: folder where mappings and vectors are kept; None to keep none.
        permutations: of every test.
    """

    def __init__(
        self,
        subject: SubjectModel,
        encode: Encode,
        *,
        tokens: int = TOKENS,
        layers: Sequence[int] | None = None,
        controls: int = CONTROLS,
        work: Path | None = None,
        permutations: int = 9999,
    ) -> None:
        self._encode, self._work = encode, work
        self.layers = list(range(subject.shape.n_layers)) if layers is None else list(layers)
        self.controls = controls
        self.permutations = permutations
        found = excluded_tokens(
            subject.vocabulary, subject.W_E(), None if subject.tied else subject.unembedding()
        )
        left_out = {i for ids in found.values() for i in ids}
        ordinary = [i for i in range(subject.shape.n_vocab) if i not in left_out][:tokens]
        chosen = np.array(sorted([*ordinary, *left_out]), dtype=np.int64)
        self.model = StudyModel(subject, chosen)
        self.texts = [subject.vocabulary.texts[i] for i in chosen]
        place = {int(token): at for at, token in enumerate(chosen)}
        self.excluded = {reason: [place[i] for i in ids] for reason, ids in found.items()}
        self.eligible = np.array([place[i] for i in ordinary])
        words = next(relation for relation in load_relations() if relation.name == "copying").pairs
        known = (subject.vocabulary.word_id(word) for word, _ in words)
        self.word_ids = [i for i in known if i is not None and i in place]
        self.word_places = [place[i] for i in self.word_ids]

    def measure(self, variant: Variant) -> Measures:
        """Everything that is measured of one variant."""
        begin = time.process_time()
        mappings = [graded_rows(one, variant.rows, self.texts) for one in self.mappings(variant)]
        drafter = self._drafter(
            mappings, GradingSettings(min_lift=variant.min_lift, permutations=self.permutations)
        )
        share = self._operations(drafter, mappings)
        promoted = [one for one in mappings if one.direction == "promote"]
        static = self._static(variant)
        measured = self._copying
        return Measures(
            heads=len(promoted),
            **share,
            semantic=self._semantic(promoted, words=False),
            semantic_words=self._semantic(promoted, words=True),
            copying=agreement(static, measured.attention, measured.effect),
            induction=agreement(static, measured.induction_attention, measured.induction_effect),
            cpu_seconds=round(time.process_time() - begin, 1),
        )

    def mappings(self, variant: Variant) -> list[HeadMappings]:
        """The mappings that a variant chooses from."""
        key = digest(
            self.model.subject.digest,
            variant.projection,
            variant.targets_centred,
            self.layers,
            len(self.texts),
        )

        def make() -> dict[str, np.ndarray]:
            projector = self._projector(variant)
            return packed([one for layer in projector.layers(self.layers) for one in layer.mappings.values()])

        return unpacked(self._kept(key, make))

    def _projector(self, variant: Variant) -> Projector:
        self.model.targets_centred = variant.targets_centred
        return Projector(self.model, variant.projection, self.excluded)

    def _kept(self, key: str, make: Callable[[], dict[str, np.ndarray]]) -> Mapping[str, np.ndarray]:
        """Arrays made once; kept in the work folder if there is one."""
        if self._work is None:
            return make()
        path = self._work / f"{key[:24]}.npz"
        if not path.is_file():
            self._work.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".partial.npz")
            np.savez(partial, **make())  # type: ignore[arg-type]  # numpy's stub takes the names for its own options
            partial.replace(path)
        with np.load(path) as held:
            return dict(held)

    @cached_property
    def _words(self) -> dict[str, int]:
        spelt = sorted({text.strip().casefold() for text in self.texts})
        return {word: row for row, word in enumerate(spelt)}

    @cached_property
    def _vectors(self) -> np.ndarray:
        words = list(self._words)
        return self._kept(digest("vectors", words), lambda: {"vectors": self._encode(words)})["vectors"]

    def _vectors_of(self, texts: Iterable[str]) -> np.ndarray:
        found: np.ndarray = self._vectors[[self._words[text.strip().casefold()] for text in texts]]
        return found

    @cached_property
    def _table(self) -> OperationTable:
        return OperationTable(self.texts)

    @cached_property
    def _copying(self) -> MeasuredCopying:
        key = digest("copying", self.model.subject.digest, self.word_ids)
        return MeasuredCopying(
            **self._kept(key, lambda: asdict(measured_copying(self.model.subject, self.word_ids)))
        )

    def _static(self, variant: Variant) -> NDArray[np.float64]:
        # Neither the ranking of sources nor the number of rows matters here.
        settings = replace(variant.settings, preset="static", contrastive=False)
        key = digest("static", self.model.subject.digest, settings, variant.targets_centred, self.word_ids)

        def make() -> dict[str, np.ndarray]:
            projector = self._projector(replace(variant, settings=settings, rows=Rows()))
            places = torch.searchsorted(projector.eligible, torch.tensor(self.word_places))
            return {"static": static_copying(projector, places)}

        return self._kept(key, make)["static"]

    def _drafter(self, mappings: Sequence[HeadMappings], grading: GradingSettings) -> BatchDrafter:
        """The rules drafter as a run builds it: relatedness is calibrated on the words that occur."""
        used = np.unique(np.concatenate([np.append(one.source_ids, one.target_ids) for one in mappings]))
        field = SemanticField([self.texts[int(i)] for i in used], self._vectors_of)
        sample = np.random.default_rng(0).permutation(self.eligible)[:VOCABULARY_SAMPLE]
        drafter = BatchDrafter(self._table, self.texts, sample, field, grading)
        for one in mappings:
            drafter.observe(one)
        return drafter

    def _operations(self, drafter: BatchDrafter, mappings: Sequence[HeadMappings]) -> dict[str, Any]:
        """Shares of heads with an accepted row-specific operation, at q < .05 and at an equal false share."""
        own_claims = drafter.claims_of(mappings)
        claims = {(one.head, one.direction): own for one, own in zip(mappings, own_claims, strict=True)}
        accepted, cut = accept(claims, drafter.grading)
        rounds = -(-self.controls // len(mappings))
        shuffled = [one for seed in range(rounds) for one in shuffled_rows(mappings, len(mappings), seed)]
        false = np.array([_best_p(own, drafter.grading) for own in drafter.claims_of(shuffled)])
        equal = float(np.sort(false)[int(FALSE_SHARE * len(false))])
        best = {key: _best_p(own, drafter.grading) for key, own in claims.items()}
        heads = {key[0] for key in claims}

        def share(
            passed: Callable[[tuple[HeadId, Direction]], bool], directions: Sequence[Direction]
        ) -> float:
            return sum(any(passed((head, way)) for way in directions) for head in heads) / len(heads)

        def at_q(key: tuple[HeadId, Direction]) -> bool:
            return any(claim.kind == "row" for claim, _ in accepted[key])

        return {
            "promote": share(at_q, ["promote"]),
            "suppress": share(at_q, ["suppress"]),
            "either": share(at_q, ["promote", "suppress"]),
            "p_cut": cut,
            "false_at_q": float((false <= cut).mean()),
            "p_cut_equal": equal,
            "either_equal": share(lambda key: best[key] < equal, ["promote", "suppress"]),
            "controls": len(false),
        }

    def _semantic(self, mappings: Sequence[HeadMappings], words: bool) -> float:
        """Share of heads, q < .05, whose held-out targets are nearer to their own sources than to other rows'."""
        p_values = [
            mean_permutation_test(self._nearness(one, words), seed=0, permutations=self.permutations)
            for one in mappings
        ]
        return float((benjamini_hochberg(p_values) <= 0.05).mean())

    def _nearness(self, one: HeadMappings, words: bool) -> NDArray[np.float64]:
        """Mean cosine of each held-out source (rows) with the targets of each held-out row (columns): [n, n]."""
        sources = [self.texts[int(i)] for i in one.source_ids[one.heldout]]
        flat = [self.texts[int(i)] for i in one.target_ids[one.heldout].reshape(-1)]
        keep = np.array([not words or is_word(text) for text in sources], dtype=bool)
        n, n_targets = len(sources), one.target_ids.shape[1]
        if keep.sum() < 3:
            return np.zeros((0, 0))
        cosines = (
            (self._vectors_of(sources) @ self._vectors_of(flat).T).reshape(n, n, n_targets).astype(np.float64)
        )
        if words:
            begin = np.array([text.strip().casefold()[:SHARED_PREFIX] for text in sources])
            ends = np.array([text.strip().casefold()[:SHARED_PREFIX] for text in flat])
            usable = (begin[:, None] != ends) & np.array([is_word(text) for text in flat])
            cosines = np.where(usable.reshape(n, n, n_targets), cosines, np.nan)
        counted = ~np.isnan(cosines)
        means = np.nansum(cosines, 2) / np.maximum(counted.sum(2), 1)
        # A row without a usable target says nothing either way: it gets its source's mean over the others.
        empty = ~counted.any(2)
        fill = np.where(empty, 0, means).sum(1) / np.maximum((~empty).sum(1), 1)
        nearness: NDArray[np.float64] = np.where(empty, fill[:, None], means)[np.ix_(keep, keep)]
        return nearness


def _best_p(claims: Iterable[Claim], grading: GradingSettings) -> float:
    """The smallest p-value of a head's row-specific claims that are strong enough; 1 for none."""
    return min((c.p_value for c in claims if c.kind == "row" and c.strong(grading)), default=1.0)


def mean_permutation_test(values: NDArray[np.float64], seed: int, permutations: int) -> float:
    """P(trace of `values` [n, n] with its columns permuted ≥ its trace), with the +1 correction; 1 for n < 3."""
    n = len(values)
    if n < 3:
        return 1.0
    orders = np.random.default_rng(seed).permuted(np.tile(np.arange(n), (permutations, 1)), axis=1)
    sums = values[np.arange(n), orders].sum(1)
    return float((1 + (sums >= np.trace(values) - 1e-9).sum()) / (1 + permutations))


def packed(mappings: Sequence[HeadMappings]) -> dict[str, np.ndarray]:
    """Records of equal size as arrays."""
    arrays = {
        "where": np.array([[m.head.layer, m.head.head, m.direction == "promote"] for m in mappings]),
        "source_ids": np.stack([m.source_ids for m in mappings]).astype(np.int32),
        "target_ids": np.stack([m.target_ids for m in mappings]).astype(np.int32),
        "saliency": np.stack([m.saliency for m in mappings]),
        "logits": np.stack([m.logits for m in mappings]),
        "heldout": np.stack([m.heldout for m in mappings]),
    }
    for name in ("contrast", "z"):
        if getattr(mappings[0], name) is not None:
            arrays[name] = np.stack([getattr(m, name) for m in mappings])
    return arrays


def unpacked(arrays: Mapping[str, np.ndarray]) -> list[HeadMappings]:
    """The records again."""
    return [
        HeadMappings(
            head=HeadId(int(layer), int(head)),
            direction="promote" if promote else "suppress",
            source_ids=arrays["source_ids"][i].astype(np.int64),
            saliency=arrays["saliency"][i],
            contrast=arrays["contrast"][i] if "contrast" in arrays else None,
            target_ids=arrays["target_ids"][i].astype(np.int64),
            logits=arrays["logits"][i],
            z=arrays["z"][i] if "z" in arrays else None,
            heldout=arrays["heldout"][i],
        )
        for i, (layer, head, promote) in enumerate(arrays["where"])
    ]
