"""Which settings read the most from a model's heads: the study behind the `default` preset (method, section 2).

Owns the ladder of settings and the table; what is measured of each is in `eval.bench.settings_study`.

    python -m eval.bench.settings --model smollm2 --json FILE [--quick] [--work FOLDER]

Each setting's measures are appended to FILE as a line as soon as they are known; settings that FILE already has
are not measured again. With --work, mappings and word vectors are kept there too.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from describe.settings import preset
from eval.bench.copying import Agreement
from eval.bench.settings_study import TOKENS, WIDE, Measures, Rows, Sources, Study, Variant


def ladder() -> list[Variant]:
    """From the paper's setting to the default, one part at a time, all with the paper's 30 sources and 5 targets."""
    step = preset("paper")
    found = [Variant("paper: mlp0 everywhere, raw", step)]
    changes: tuple[tuple[str, dict[str, Any]], ...] = (
        ("mlp0", {"source": "mlp0"}),
        ("embedding", {"source": "embedding"}),
        ("block0", {"source": "block0"}),
        ("+ gains", {"gains": True}),
        ("+ centred sources", {"centred": True}),
        ("+ standardised targets", {"standardised": True}),
        ("+ contrastive saliency", {"contrastive": True}),
        ("+ token filter", {"token_filter": True}),
    )
    for name, change in changes:
        step = replace(step, **change)
        found.append(Variant(name, step))
    return found


def ablations() -> list[Variant]:
    """The default without each of its parts, with the paper's 30 sources and 5 targets."""
    default = preset("default")
    changes: dict[str, dict[str, Any]] = {
        "mlp0 for block0": {"source": "mlp0"},
        "embedding for block0": {"source": "embedding"},
        "no gains": {"gains": False},
        "sources not centred": {"centred": False},
        "targets not standardised": {"standardised": False},
        "plain saliency": {"contrastive": False},
    }
    return [Variant(f"default, {name}", replace(default, **change)) for name, change in changes.items()]


def sizes() -> list[Variant]:
    """The default with other numbers of sources and targets, and other ways to choose them."""
    default = preset("default")
    found = []
    for salient, targets in ((30, 10), (60, 5), (60, 10), (100, 5), (100, 10)):
        found.append(
            Variant(
                f"default, {salient} sources, {targets} targets", default, Rows(salient, targets, wide=WIDE)
            )
        )
    return found


def choices() -> list[Variant]:
    """What might do better than the default: a lower bar, other sources, other targets."""
    default = preset("default")
    found = [
        Variant(f"default, {salient} sources, {targets} targets, lift ≥ {lift:.2f}", default, rows, lift)
        for salient, targets, lift in ((30, 5, 0.1), (60, 10, 0.1), (100, 10, 0.1), (100, 10, 0.05))
        for rows in (Rows(salient, targets, wide=WIDE),)
    ]
    sources: tuple[tuple[str, Sources], ...] = (
        ("whole words only", "words"),
        ("each word once", "distinct"),
        ("the most contrastive 300 by contrast × peak of the row", "peaked"),
    )
    wide = "60 sources, 10 targets, lift ≥ 0.10"
    for name, kind in sources:
        found.append(Variant(f"{wide}, {name}", default, Rows(60, 10, kind, WIDE), 0.1))
    plain = replace(default, contrastive=False)
    found.append(Variant(f"{wide}, plain saliency", plain, Rows(60, 10), 0.1))
    found.append(Variant(f"{wide}, targets centred", default, Rows(60, 10), 0.1, targets_centred=True))
    return found


def markdown(found: Mapping[str, Measures]) -> str:
    """The table of a model, a line for each setting in the order measured."""
    lines = [
        "| setting | promote | suppress | either, q < .05 | shuffled heads that pass | **either, at 1 % shuffled** "
        "| semantic | semantic, whole words | copying: Spearman (heads) | sign (heads) "
        "| induction: Spearman (heads) | sign (heads) |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, m in found.items():
        shares = (m.promote, m.suppress, m.either, m.false_at_q, m.either_equal, m.semantic, m.semantic_words)
        cells = [f"{value:.1%}" for value in shares]
        cells[4] = f"**{cells[4]}**"
        for part in (m.copying, m.induction):
            cells += [f"{part.spearman:.2f} ({part.heads})", f"{part.same_sign:.2f} ({part.signed_heads})"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def read_lines(path: Path) -> dict[str, Measures]:
    """Measures by variant from a file of earlier lines; an unfinished last line is left out."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        for name in ("copying", "induction"):
            entry["measures"][name] = Agreement(**entry["measures"][name])
        found[entry["variant"]["name"]] = Measures(**entry["measures"])
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study and print its table; see the module's opening."""
    from describe.encoders import MiniLM
    from describe.subject import load_subject

    parser = argparse.ArgumentParser(prog="python -m eval.bench.settings", description=__doc__)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--json", type=Path, help="append a line for each setting to this file")
    parser.add_argument("--work", type=Path, help="keep mappings and word vectors in this folder")
    parser.add_argument("--tokens", type=int, default=TOKENS, help="ordinary tokens that take part")
    parser.add_argument("--quick", action="store_true", help="the two presets, some layers, 3,000 tokens")
    options = parser.parse_args(argv)
    subject = load_subject(options.model)
    variants = [*ladder(), *ablations(), *sizes(), *choices()]
    study = Study(subject, MiniLM().encode, tokens=options.tokens, work=options.work)
    if options.quick:
        variants = [variants[0], variants[8]]
        layers = range(subject.shape.n_layers // 2, subject.shape.n_layers, 5)
        study = Study(
            subject,
            MiniLM().encode,
            tokens=3000,
            layers=layers,
            controls=100,
            work=options.work,
            permutations=999,
        )
    found = read_lines(options.json) if options.json else {}
    for variant in variants:
        if variant.name in found:
            continue
        found[variant.name] = measures = study.measure(variant)
        sys.stderr.write(f"{variant.name}: {measures.cpu_seconds:.0f} s of CPU\n")
        if options.json:
            with options.json.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps({"variant": asdict(variant), "measures": asdict(measures)}) + "\n")
    sys.stdout.write(f"{markdown({v.name: found[v.name] for v in variants})}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
