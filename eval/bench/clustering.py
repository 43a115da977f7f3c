"""Which representation and algorithm recover the operations of a head: the study behind `describe.clusters`.

Synthetic heads interleave known operations and noise (`eval.bench.interleaved`). Thresholds and the winner are
chosen on one half of the relations; the table reports heads made from the other half.

    python -m eval.bench.clustering --json FILE [--repeats N] [--subject MODEL]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from describe.clusters import ClusterSettings, cluster_rows, row_vectors
from describe.clusters.features import Vectors
from describe.relations import Relation, load_relations
from eval.bench.interleaved import HeadMaker, Scores, SyntheticHead, halves, score

REPRESENTATIONS = (
    "target",
    "shift",
    "surface",
    "matched",
    "source + target",
    "target + surface",
    "target + shift + surface",
    "target + shift + 0.5*surface",
    "target + shift + 0.25*surface",
    "source + target + shift + surface",
    "matched + matched_shift + surface",
)
SUBJECT_REPRESENTATIONS = ("target", "target + shift + 0.5*surface")  # with the model's own vectors
_MINILM_FOCUS = (0.26, 0.28, 0.3)
_FOCUS_QUANTILES = (0.25, 0.3, 0.35, 0.4)  # of the rows made to choose on; about .32 of them are noise
_STRANGERS = (-1.0, 0.15)
# what splits and how much depends on the algorithm; the middle value is where the search starts
_SPLITS: dict[str, tuple[float, ...]] = {
    "ward": (0.04, 0.055, 0.07, 0.085),
    "kmeans": (0.04, 0.055, 0.07, 0.085),
    "average": (0.2, 0.3, 0.4),
    "hdbscan": (1, 2, 4),
    "mixture": (0.001, 0.1, 1.0),
}


@dataclass(frozen=True)
class VectorSource:
    """Where token vectors come from and what is tried with them."""

    name: str
    vectors: Vectors
    representations: tuple[str, ...]
    focus: tuple[float, ...] | None = None  # thresholds tried; None: quantiles, for another scale of cosines


@dataclass(frozen=True)
class Candidate:
    """A representation from one kind of vectors with an algorithm, its thresholds, and what it scored."""

    vectors: str
    settings: ClusterSettings
    chosen: Scores  # on the half it was tuned on
    reported: Scores  # on the other half
    milliseconds: float  # per head, features and clustering, wall time
    competes: bool = True  # False for an ablation, which shows what a part of the winner is worth


def features_of(heads: Sequence[SyntheticHead], vectors: Vectors, representation: str) -> list[np.ndarray]:
    """The features of every head's rows."""
    settings = ClusterSettings(representation=representation)
    return [row_vectors(head.source_texts, head.target_texts, vectors, settings) for head in heads]


def tuned(
    settings: ClusterSettings,
    heads: Sequence[SyntheticHead],
    features: Sequence[np.ndarray],
    focus: Sequence[float] | None = None,
) -> ClusterSettings:
    """The thresholds with the highest mean index, one after the other."""
    if focus is None:
        lengths = np.concatenate([np.linalg.norm(rows, axis=1) for rows in features])
        focus = [float(length) for length in np.quantile(lengths, _FOCUS_QUANTILES)]
    tried: dict[ClusterSettings, float] = {}

    def value(candidate: ClusterSettings) -> float:
        if candidate not in tried:
            tried[candidate] = score(heads, [cluster_rows(rows, candidate)[0] for rows in features]).ari
        return tried[candidate]

    splits = _SPLITS[settings.algorithm]
    best = replace(
        settings,
        split_threshold=splits[len(splits) // 2],
        focus_threshold=focus[len(focus) // 2],
        noise_threshold=-1.0,
    )
    best = max((replace(best, focus_threshold=length) for length in focus), key=value)
    best = max((replace(best, split_threshold=split) for split in splits), key=value)
    return max((replace(best, noise_threshold=noise) for noise in _STRANGERS), key=value)


def study(
    relations: Sequence[Relation],
    sources: Iterable[VectorSource],
    near: Vectors,
    *,
    repeats: int,
    seed: int,
    progress: Callable[[str], None] = lambda line: None,
) -> Iterator[Candidate]:
    """Tune and measure every candidate.

    Args:
        relations: at least a dozen; split in two halves.
        sources: the token vectors, each with the representations to make from them.
        near: vectors that say which words a head may confuse.
        repeats: heads of each kind in each half; there are 32 kinds.
        seed: of the halves, the heads and the algorithms.
        progress: told a line for each candidate.

    Raises:
        InputError: there are too few relations to make the heads from.
    """
    choose, report = (
        HeadMaker(half, near, seed + number).study(repeats)
        for number, half in enumerate(halves(relations, seed))
    )
    best, best_vectors = None, near
    for source in sources:
        for representation in source.representations:
            rows = features_of(choose, source.vectors, representation)
            for algorithm in _SPLITS:
                settings = tuned(
                    ClusterSettings(representation, algorithm, seed=seed), choose, rows, source.focus
                )
                candidate = _measured(source.name, settings, rows, source.vectors, choose, report)
                progress(f"{source.name}: {representation}, {algorithm}: {candidate.chosen.ari:.2f}")
                if best is None or candidate.chosen.ari > best.chosen.ari:
                    best, best_vectors = candidate, source.vectors
                yield candidate
    if best is not None:
        # what the noise test on single rows is worth: the winner without it
        settings = replace(best.settings, focus_threshold=0.0)
        rows = features_of(choose, best_vectors, settings.representation)
        ablated = _measured(f"{best.vectors}, no focus test", settings, rows, best_vectors, choose, report)
        yield replace(ablated, competes=False)


def _measured(
    name: str,
    settings: ClusterSettings,
    chosen_rows: Sequence[np.ndarray],
    vectors: Vectors,
    choose: Sequence[SyntheticHead],
    report: Sequence[SyntheticHead],
) -> Candidate:
    chosen = score(choose, [cluster_rows(rows, settings)[0] for rows in chosen_rows])
    start = time.perf_counter()
    reported_rows = features_of(report, vectors, settings.representation)
    labels = [cluster_rows(rows, settings)[0] for rows in reported_rows]
    milliseconds = 1e3 * (time.perf_counter() - start) / len(report)
    return Candidate(name, settings, chosen, score(report, labels), milliseconds)


def markdown(candidates: Sequence[Candidate]) -> str:
    """The best algorithm of each representation, and every algorithm of the winning one; held-out half."""
    ordered = sorted(candidates, key=lambda candidate: -candidate.chosen.ari)
    winner = next(candidate for candidate in ordered if candidate.competes)
    shown, seen = [], set()
    for candidate in ordered:
        kind = (candidate.vectors, candidate.settings.representation)
        if kind not in seen or kind == (winner.vectors, winner.settings.representation):
            shown.append(candidate)
        seen.add(kind)
    lines = [
        "| vectors: representation | algorithm | ARI, choosing half | **ARI, held out** | 1 op. | 2 op. | 3 op. |"
        " shared sources | clusters for 0 / 1 / 2 / 3 op. | 1 op. stays one | noise recognised | rows lost | ms |",
        "|---|---|--:|--:|--:|--:|--:|--:|:-:|--:|--:|--:|--:|",
    ]
    for candidate in shown:
        s, mark = candidate.reported, "**" if candidate is winner else ""
        counts = " / ".join(f"{count:.1f}" for count in s.clusters_found)
        lines.append(
            f"| {mark}{candidate.vectors}: {candidate.settings.representation}{mark} "
            f"| {candidate.settings.algorithm} | {candidate.chosen.ari:.2f} | **{s.ari:.2f}** "
            f"| {s.one_operation:.2f} | {s.two_operations:.2f} | {s.three_operations:.2f} "
            f"| {s.shared_sources:.2f} | {counts} | {s.stays_one:.0%} | {s.noise_recognised:.0%} | {s.rows_lost:.0%} "
            f"| {candidate.milliseconds:.0f} |"
        )
    return "\n".join(lines)


def cached(encode: Callable[[Sequence[str]], np.ndarray]) -> Vectors:
    """Vectors by token text without its spaces at the ends, each encoded once."""
    known: dict[str, np.ndarray] = {}

    def vectors(texts: Sequence[str]) -> np.ndarray:
        missing = sorted({text.strip() for text in texts} - known.keys())
        if missing:
            known.update(zip(missing, encode(missing), strict=True))
        return np.stack([known[text.strip()] for text in texts])

    return vectors


def subject_vectors(model: str) -> Vectors:
    """A subject model's own vectors: centred unit rows of W_E, their mean for a text of several tokens."""
    from describe.subject.model import load_subject

    subject = load_subject(model)
    W_E = subject.W_E().numpy()
    W_E = W_E - W_E.mean(0)
    W_E /= np.maximum(np.linalg.norm(W_E, axis=1, keepdims=True), 1e-12)
    tokenizer = subject.vocabulary.tokenizer

    def vectors(texts: Sequence[str]) -> np.ndarray:
        ids = (tokenizer.encode(text, add_special_tokens=False).ids for text in texts)
        return np.stack([W_E[row].mean(0) for row in ids])

    return vectors


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study and print its table; see the module's opening."""
    from describe.encoders import MiniLM

    parser = argparse.ArgumentParser(prog="python -m eval.bench.clustering", description=__doc__)
    parser.add_argument("--json", type=Path, help="write every candidate and its scores to this file")
    parser.add_argument("--repeats", type=int, default=2, help="heads of each kind in each half")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--subject", default="smollm2", help="model whose own vectors are tried too; '' for none"
    )
    options = parser.parse_args(argv)

    relations = load_relations()
    minilm = cached(MiniLM().encode)
    minilm(sorted({word for relation in relations for pair in relation.pairs for word in pair}))
    sources = [VectorSource("MiniLM", minilm, REPRESENTATIONS, _MINILM_FOCUS)]
    if options.subject:
        own = subject_vectors(options.subject)

        def both(texts: Sequence[str]) -> np.ndarray:
            return np.concatenate([minilm(texts), own(texts)], axis=1)

        sources += [
            VectorSource(options.subject, own, SUBJECT_REPRESENTATIONS),
            VectorSource(f"MiniLM and {options.subject}", both, SUBJECT_REPRESENTATIONS[1:]),
        ]
    candidates = list(
        study(
            relations,
            sources,
            minilm,
            repeats=options.repeats,
            seed=options.seed,
            progress=lambda line: print_to(sys.stderr.write, line),
        )
    )
    if options.json:
        options.json.write_text(json.dumps([asdict(candidate) for candidate in candidates], indent=1) + "\n")
    print_to(sys.stdout.write, markdown(candidates))
    return 0


def print_to(write: Callable[[str], object], line: str) -> None:
    """Write one line."""
    write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
