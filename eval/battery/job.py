"""The battery of head classes into the catalogue: plan, a shard a suite, verdicts, one ingest."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq

from data import BATTERY_INPUTS, resource
from describe import __version__
from describe.catalogue import Catalogue, read_only_query
from describe.jobs.describing import BRIEFLY
from describe.jobs.shards import ShardStore
from describe.relations import Relation, relation_digest
from describe.settings import digest
from describe.subject.architectures import text_config
from eval.battery.classes import Found, verdicts
from eval.battery.keeping import keep, kept, of_units
from eval.battery.prompts import CAPITALS, LANGUAGES
from eval.battery.reading import Progress, Reader, SuiteReading, Suites
from eval.battery.removal import Head, Removal
from eval.battery.rows import attention_rows, class_rows, definition_rows
from eval.battery.suites import Suite, Untestable
from eval.battery.verdicts import Contrast, Losses
from eval.inference.storing import done_once, store_check
from eval.inference.templates import PAPERS_RELATIONS

if TYPE_CHECKING:
    from describe.subject.model import SubjectModel

CONTROL_SCENES = {"repeated words": "fresh words", "pieces": "first pieces"}
"""Where a head of the class that is tested on a scene has nothing to do."""
OTHERS = 4
"""Random heads of the layer; a head's cost in natural text is held against that of the costliest of them."""
QUICK = ("repeated words", "indirect objects", "facts", "conflicts")
"""Suites of a quick run: without natural text and without removals of heads."""


@dataclass(frozen=True)
class BatteryReport:
    """What became of a run."""

    run_id: str  # whose rows answer: of a quick run those of a whole one, if there is one
    fresh: bool  # False: it was complete already and nothing was done


class BatteryJob:
    """Tests every head for every class that can be tested on the model.

    Args:
        model: the subject.
        relations: the packaged relations.
        catalogue: the DuckDB file that the answers go to.
        quick: only some suites, and no class that needs removals.
        device: where to compute.
        seed: of every draw.
        progress: told (stage, done, in all).
    """

    def __init__(
        self,
        model: SubjectModel,
        relations: Sequence[Relation],
        catalogue: Path,
        quick: bool = False,
        device: str = "cpu",
        seed: int = 0,
        progress: Progress = lambda stage, done, total: None,
    ) -> None:
        self.model, self.catalogue = model, catalogue
        wanted = {*PAPERS_RELATIONS, CAPITALS, LANGUAGES}
        self._relations = {one.name: one for one in relations if one.name in wanted}
        self._quick, self._device, self._seed, self._progress = quick, device, seed, progress
        self._suites = Suites(model, self._relations, PAPERS_RELATIONS, seed)
        self._names = [name for name in self._suites.builders if not quick or name in QUICK]
        self._shards = ShardStore(catalogue, self.run_id)

    @cached_property
    def run_id(self) -> str:
        """Content identity: weights, vocabulary, the shipped inputs, relations, seed, code version."""
        return digest(
            "check battery",
            self.model.digest,
            self.model.vocabulary.digest,
            self._inputs,
            [relation_digest(one) for one in self._relations.values()],
            [self._names, self._seed],
            __version__,
        )[:20]

    @cached_property
    def _inputs(self) -> str:
        files = (resource("battery", f"{name}.json") for name in BATTERY_INPUTS)
        return digest(*(file.read_text(encoding="utf-8") for file in files))

    def run(self) -> BatteryReport:
        """Do what is missing and store it.

        Raises:
            DescribeError: the catalogue or the folder of shards cannot be used, or the disk is full.
        """
        if self._quick and (whole := self._whole()) is not None:
            return BatteryReport(whole, fresh=False)
        started, begin = datetime.now(UTC), time.monotonic()

        def do() -> None:
            self._judge()
            settings = {"suites": self._names, "inputs": self._inputs, "quick": self._quick}
            folder = self._shards.path("verdicts")
            shards = {
                name: [file]
                for name in ("head_classes", "class_definitions", "head_attention")
                if (file := folder / f"{name}.parquet").exists()
            }
            times = (started, "battery", time.monotonic() - begin)
            store_check(self.model, self.catalogue, self.run_id, settings, self._seed, times, shards)

        return BatteryReport(self.run_id, done_once(self.catalogue, self._shards, self.run_id, do))

    def _whole(self) -> str | None:
        """The newest whole battery of these weights in the catalogue, which a quick one would hide."""
        with Catalogue.open(self.catalogue, wait=BRIEFLY):  # made, or brought to this version's tables
            pass
        found = read_only_query(
            self.catalogue,
            "SELECT run_id FROM runs SEMI JOIN head_classes USING (run_id) WHERE model = ? AND model_digest = ? "
            "AND status = 'complete' AND settings ->> 'quick' = 'false' ORDER BY started_at DESC LIMIT 1",
            [self.model.name, self.model.digest],
            wait=BRIEFLY,
        ).rows
        return str(found[0][0]) if found else None

    @cached_property
    def _reader(self) -> Reader:
        from describe.subject.running import LiveModel

        return Reader(self.model, LiveModel(self.model, device=self._device), self._progress)

    def _judge(self) -> None:
        """Read the suites that are missing, then make the rows."""
        built: dict[str, Suite] = {}
        reasons: dict[str, str] = {}
        for name in self._names:
            try:
                built[name] = self._fitting(self._suites.builders[name]())
            except Untestable as reason:
                reasons[name] = str(reason)
        for name, suite in built.items():
            self._shards.make(_file_name(name), partial(self._read, suite))
        self._shards.make("verdicts", partial(self._rows, built, reasons))

    def _fitting(self, suite: Suite) -> Suite:
        longest = max(map(len, suite.prompts))
        most = getattr(text_config(self.model.config), "max_position_embeddings", None)
        if most is not None and longest > most:
            raise Untestable(f"the model reads {most} tokens at most, {longest} are needed")
        return suite

    def _read(self, suite: Suite, folder: Path) -> None:
        keep(self._reader.read(suite), folder)

    def _rows(self, built: Mapping[str, Suite], reasons: dict[str, str], folder: Path) -> None:
        readings = {name: kept(self._shards.path(_file_name(name))) for name in built}
        for name, reading in readings.items():
            suite = built[name]
            if reading.accuracy is not None and reading.accuracy < suite.needed:
                reasons[name] = (
                    f"the model answers {reading.accuracy:.0%} of the {len(suite.questions)} prompts, "
                    f"{suite.needed:.0%} are needed (chance {suite.chance:.0%})"
                )
        judged = list(verdicts(_found(readings), None if self._quick else self._cost, self._seed))
        tables = {
            "head_classes": class_rows(judged, reasons),
            "class_definitions": definition_rows(judged, reasons, readings, built, self._names),
        }
        if "texts" in readings:
            profiles = readings["texts"].profiles
            assert profiles is not None
            tables["head_attention"] = attention_rows(profiles)
        for name, table in tables.items():
            pq.write_table(table, folder / f"{name}.parquet")

    def _cost(self, scenes: Sequence[str], heads: Sequence[Head]) -> Sequence[Contrast]:
        """What heads cost in scenes, beside the scene's control; in natural text, beside other heads of the layer."""
        return [
            (self._removed(scene, heads), self._removed(control, heads))
            if (control := CONTROL_SCENES.get(scene)) is not None
            else (self._removed(scene, heads), self._of_others(scene, heads))
            for scene in scenes
        ]

    def _of_others(self, scene: str, heads: Sequence[Head]) -> Losses:
        """For each head the losses of the costliest of a few random heads of its layer, not of `heads` if there are others.

        Heads differ in what they cost whatever their class: a mean of others would be exceeded by every second head.
        """
        others = {head: self._others(head, heads) for head in heads}
        drawn = sorted({one for own in others.values() for one in own})
        if not drawn:  # layers of a single head
            return {head: np.zeros_like(loss) for head, loss in self._removed(scene, heads).items()}
        losses = self._removed(scene, drawn)
        return {head: max((losses[one] for one in own), key=np.mean) for head, own in others.items()}

    def _others(self, head: Head, heads: Sequence[Head]) -> list[Head]:
        layer, number = head
        generator = np.random.default_rng([self._seed, layer, number])
        order = [(layer, int(one)) for one in generator.permutation(self.model.shape.n_heads)]
        left = [one for one in order if one not in heads] or [one for one in order if one != head]
        return left[:OTHERS]

    def _removed(self, scene: str, heads: Sequence[Head]) -> Losses:
        """What heads cost in a scene; a shard for each scene and list of heads."""
        name = f"without-{_file_name(scene)}-{digest([list(head) for head in heads])[:12]}"
        self._shards.make(name, partial(self._remove, scene, heads))
        rows = np.load(self._shards.path(name) / "losses.npy", allow_pickle=False)
        return dict(zip(heads, rows, strict=True))

    def _remove(self, scene: str, heads: Sequence[Head], folder: Path) -> None:
        removal = self._removals.get(scene)
        if removal is None:
            removal = self._removals[scene] = Removal(self._reader.live, self._suites.scene(scene))

        def told(done: int, total: int) -> None:
            self._progress(f"battery, without single heads ({scene})", done, total)

        found = removal.costs(heads, told)
        np.save(folder / "losses.npy", np.stack([found[head] for head in heads]))

    @cached_property
    def _removals(self) -> dict[str, Removal]:
        return {}


def _found(readings: Mapping[str, SuiteReading]) -> Found:
    """What verdicts read; of the repeated words the profiles of those that do not repeat, every second prompt."""
    of_words = readings["repeated words"].profiles if "repeated words" in readings else None
    of_texts = readings["texts"].profiles if "texts" in readings else None
    return Found(
        {name: reading.topics for name, reading in readings.items()},
        of_texts,
        None if of_words is None else of_units(of_words, slice(1, None, 2)),
    )


def _file_name(name: str) -> str:
    return name.replace(" ", "-")
