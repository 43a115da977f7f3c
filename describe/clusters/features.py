"""From mapping rows to feature vectors: what a row reads, what it writes, and how the spelling changes.

A representation is a sum of blocks, such as `target + 0.5*surface`. Rows have unit length in each block (in
`surface` on average), times the square root of its weight, so a cosine between rows is about the weighted mean
of the blocks' cosines. Which representation is the default was measured: see `eval.bench.clustering`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from describe.errors import InputError

Floats = NDArray[np.float64]
Vectors = Callable[[Sequence[str]], np.ndarray]

_CHANGE_BUCKETS = (
    64  # hash buckets for what is cut off and put on at a word's end; in 24, -ed and -ing collide
)


@dataclass(frozen=True)
class Rows:
    """The mapping rows of a head as arrays; ragged rows are padded and masked."""

    source_texts: tuple[str, ...]  # K
    target_texts: tuple[tuple[str, ...], ...]  # K rows of 1 to n
    source: Floats  # [K, d] unit
    target: Floats  # [K, n, d] unit, 0 where masked
    mask: NDArray[np.bool_]  # [K, n]

    @classmethod
    def of(cls, source_texts: Sequence[str], target_texts: Sequence[Sequence[str]], vectors: Vectors) -> Rows:
        """Look every text up once; raises InputError for a row without targets or unequal numbers of rows."""
        if len(source_texts) != len(target_texts):
            raise InputError(
                f"{len(source_texts)} source tokens came with {len(target_texts)} rows of targets: "
                "give one row each."
            )
        if not all(target_texts):
            raise InputError("A mapping row has no target tokens: leave such rows out before clustering.")
        texts = sorted({*source_texts, *(text for row in target_texts for text in row)})
        place = {text: index for index, text in enumerate(texts)}
        table = _unit(np.asarray(vectors(texts), dtype=np.float64))
        n = max(map(len, target_texts))
        target = np.zeros((len(target_texts), n, table.shape[1]))
        mask = np.zeros((len(target_texts), n), dtype=np.bool_)
        for row, row_texts in enumerate(target_texts):
            target[row, : len(row_texts)] = table[[place[text] for text in row_texts]]
            mask[row, : len(row_texts)] = True
        return cls(
            tuple(source_texts),
            tuple(map(tuple, target_texts)),
            table[[place[text] for text in source_texts]],
            target,
            mask,
        )


def parse_representation(text: str) -> tuple[tuple[str, float], ...]:
    """Blocks and weights of a representation.

    Args:
        text: block names joined with `+`, each with an optional weight before a `*`.

    Raises:
        InputError: an unknown block, or a weight that is no positive number.
    """
    parts = []
    for term in text.split("+"):
        match = re.fullmatch(r"\s*(?:(\d+(?:\.\d+)?)\s*\*)?\s*(\w+)\s*", term)
        if match is None or match[2] not in BLOCKS or (match[1] is not None and float(match[1]) <= 0):
            raise InputError(
                f"'{term.strip()}' is no part of a representation: write blocks out of {', '.join(BLOCKS)}, "
                "joined with +, such as 'target + 0.5*surface'."
            )
        parts.append((match[2], float(match[1] or 1.0)))
    return tuple(parts)


def block_features(rows: Rows, representation: str) -> Floats:
    """The features of K rows, [K, dim]: the direction says what a row does, the length how focused it is."""
    parts = parse_representation(representation)
    blocks = [np.sqrt(weight) * BLOCKS[name](rows) for name, weight in parts]
    return _unit(np.concatenate(blocks, axis=1)) * focus(rows)[:, None]


def focus(rows: Rows) -> Floats:
    """Mean pairwise cosine of a row's own tokens, source included, cut off at 0; [K].

    Tokens that have nothing to do with each other are what a head without an operation writes.
    """
    n = rows.mask.sum(1) + 1
    total = rows.source + rows.target.sum(1)
    means: Floats = (np.square(total).sum(1) - n) / (n * (n - 1))
    return means.clip(0)


def _source(rows: Rows) -> Floats:
    return rows.source


def _target(rows: Rows) -> Floats:
    """Direction of the mean target vector."""
    return _unit(rows.target.sum(1))


def _shift(rows: Rows) -> Floats:
    """Direction of mean target − source: the same step for capitals of all countries."""
    return _unit(rows.target.sum(1) / rows.mask.sum(1, keepdims=True) - rows.source)


def _matched(rows: Rows) -> Floats:
    """Rows are alike if the targets of each find close ones among the other's, whatever their ranks."""
    return _kernel_features(_best_match(rows.target, rows.mask))


def _matched_shift(rows: Rows) -> Floats:
    """Rows are alike if steps source → target of each find a parallel one among the other's."""
    steps = _unit(rows.target - rows.source[:, None]) * rows.mask[:, :, None]
    return _kernel_features(_best_match(steps, rows.mask))


def _surface(rows: Rows) -> Floats:
    """Mean spelling features of a row's pairs (source, target), scaled to unit length on average."""
    means = np.array(
        [
            np.mean([spelling_features(source, target) for target in targets], axis=0)
            for source, targets in zip(rows.source_texts, rows.target_texts, strict=True)
        ]
    )
    size = float(np.sqrt(np.square(means).sum(1).mean())) if len(means) else 0.0
    return means / size if size else means


BLOCKS: dict[str, Callable[[Rows], Floats]] = {
    "source": _source,
    "target": _target,
    "shift": _shift,
    "matched": _matched,
    "matched_shift": _matched_shift,
    "surface": _surface,
}


@lru_cache(maxsize=1 << 16)
def spelling_features(source: str, target: str) -> Floats:
    """How a target is spelt against its source, [13 + 64], each between −1 and 1."""
    s, t = source.strip(), target.strip()
    a, b = s.casefold(), t.casefold()
    prefix, suffix = _common_prefix(a, b), _common_prefix(a[::-1], b[::-1])
    longest = max(len(a), len(b), 1)
    stem = prefix >= 3 and prefix >= 0.6 * len(a)
    features = [
        float(source == target),
        float(a == b),
        float(stem and a != b),  # another form of the word
        prefix / longest,
        suffix / longest,
        float(a != b and len(b) > 1 and (b in a or a in b)),
        float(len(b) == 1 and a[:1] == b),
        float(len(b) == 1 and a[-1:] == b and a[:1] != b),
        float(np.tanh((len(b) - len(a)) / 4)),
        float(t[:1].isupper()) - float(s[:1].isupper()),
        float(len(t) > 1 and t.isupper()) - float(len(s) > 1 and s.isupper()),
        float(target[:1].isspace()) - float(source[:1].isspace()),
        float(any(map(str.isdigit, t))),
    ]
    change = np.zeros(_CHANGE_BUCKETS)
    if stem and a != b:
        # what the ending became (y → ies): comparatives, past tenses and plurals differ in nothing else
        change[crc32(f"{a[prefix:]}>{b[prefix:]}".encode()) % _CHANGE_BUCKETS] = 1.0
    row = np.concatenate([features, change])
    row.flags.writeable = False  # shared by the cache
    return row


def _common_prefix(a: str, b: str) -> int:
    length = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        length += 1
    return length


def _best_match(items: Floats, mask: NDArray[np.bool_]) -> Floats:
    """Symmetric mean best match between rows of unit items [K, n, d]; [K, K], diagonal 1."""
    K, n, d = items.shape
    flat = items.reshape(K * n, d)
    similarity = (flat @ flat.T).reshape(K, n, K, n)
    best = np.where(mask[None, None], similarity, -np.inf).max(3)  # [K, n, K]: each item's best in every row
    one_way: Floats = (best * mask[:, :, None]).sum(1) / mask.sum(1)[:, None]
    return (one_way + one_way.T) / 2


def _kernel_features(kernel: Floats) -> Floats:
    """Rows whose inner products are the kernel, its negative part cut off (classical scaling)."""
    values, basis = np.linalg.eigh(kernel)
    return _unit(basis * np.sqrt(values.clip(0)))


def _unit(rows: Floats) -> Floats:
    unit: Floats = rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)
    return unit
