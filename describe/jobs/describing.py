"""The main job on one model: project, draft, judge all heads together, store; killed at any moment, it resumes.

Each stage leaves shards, so a second try does only what is missing and the same plan always gives the same
rows. The catalogue is written once, in one transaction, at the end.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from describe.catalogue import Catalogue, owner_lock, read_only_query
from describe.catalogue.connect import check_path
from describe.chat import PASSING
from describe.errors import InputError
from describe.jobs.asking import Chooser
from describe.jobs.chat_drafting import ChatDrafting
from describe.jobs.drafting import Drafting
from describe.jobs.plan import RunOptions, RunPlan
from describe.jobs.shards import ShardStore
from describe.jobs.storing import PATIENCE, store
from describe.jobs.tables import write_mappings
from describe.records import HeadId

if TYPE_CHECKING:
    from describe.drafting.rowbook import RowBook
    from describe.jobs.projecting import LayerProjection
    from describe.protocols import Asking, Encoder
    from describe.subject.model import SubjectModel

Progress = Callable[[str, int, int], None]
"""Told (stage, done, total)."""

BRIEFLY = 2.0
"""Seconds to wait for a catalogue in use before any work: a query ends within them, another owner does not."""


TO_ASK_AGAIN = "SELECT 1 FROM llm_calls WHERE run_id = ? AND list_contains(?, status) LIMIT 1"
"""Whether a run, given with the statuses that may pass, holds calls to be made again."""


@dataclass(frozen=True)
class RunReport:
    """What became of a run."""

    run_id: str
    fresh: bool  # False: it was complete already and nothing was done
    failed: Sequence[HeadId]
    pending: Sequence[str] = ()  # heads and controls that the budget left out, or still to be answered


class Job:
    """One run over one model.

    Args:
        model: the subject.
        excluded: token ids by reason, left out when the settings filter tokens.
        encoder: makes the encoder; called once there is something to do.
        catalogue: the DuckDB file to store into.
        options: what to do.
        progress: told as stages advance.
        asker: puts the questions when the drafter is a chat model.
        choose: decides among several drafts of a head.
    """

    def __init__(
        self,
        model: SubjectModel,
        excluded: Mapping[str, Iterable[int]],
        encoder: Callable[[], Encoder],
        catalogue: Path,
        options: RunOptions,
        progress: Progress = lambda stage, done, total: None,
        asker: Asking | None = None,
        choose: Chooser | None = None,
    ) -> None:
        self.plan = RunPlan(model, {reason: sorted(ids) for reason, ids in excluded.items()}, options)
        self.catalogue = catalogue
        self._encoder = encoder
        self._progress = progress
        self._asker, self._choose = asker, choose
        self._shards = ShardStore(catalogue, self.plan.run_id)
        self._seconds: dict[str, float] = {}

    def run(self) -> RunReport:
        """Do what is missing and store it.

        Raises:
            InputError: a weight is missing or damaged; nothing is left behind.
            DescribeError: the catalogue or the folder of shards cannot be used, or the disk is full; shards
                stay, so that the next run goes on from there.
        """
        started = datetime.now(UTC)
        check_path(self.catalogue)
        pending: Sequence[str] = ()
        with self._shards.owned():
            fresh = not self._is_stored()  # asked before hours of work, so that a catalogue's errors come now
            if fresh:
                drafting = self._prepare()
                if self.plan.options.llm is None:
                    store(self.plan, self._shards, self.catalogue, started, self._seconds)
                else:
                    pending = self._draft_by_chat(drafting, started)
            failed = self._failed_heads()
            if not pending and not self._to_ask_again(PATIENCE):
                self._shards.remove()  # else the next try goes on from them
        return RunReport(self.plan.run_id, fresh, failed, pending)

    def prepare(self) -> RowBook:
        """Do all but ask a chat model and store: a collecting asker learns what it would be asked.

        Returns:
            The rows of the chosen heads; the shards stay for the run itself.

        Raises:
            DescribeError: as `run`.
        """
        check_path(self.catalogue)
        with self._shards.owned():
            drafting = self._prepare()
            if self.plan.options.llm is not None:
                self._chat(drafting).ask()
            return drafting.book

    def _prepare(self) -> Drafting:
        """The stages that need no endpoint: every shard up to the verdict of the rules drafter."""
        encoder = self._encoder()
        self._project()
        drafting = Drafting(self.plan, self._shards, encoder, self._progress)
        for stage in (drafting.encode, drafting.draft, drafting.verdict):
            with self._timed(stage.__name__):
                stage()
        return drafting

    def _chat(self, drafting: Drafting) -> ChatDrafting:
        settings = self.plan.options.llm
        assert settings is not None and self._asker is not None, "a chat model's run needs its asker"
        return ChatDrafting(drafting, settings, self._asker, self._choose, self._progress)

    def _draft_by_chat(self, drafting: Drafting, started: datetime) -> Sequence[str]:
        """Ask, store, and say which heads and controls were not reached."""
        chat = self._chat(drafting)
        with self._timed("ask"):
            drafts = chat.ask()
        with self._shards.scratch("asked") as folder:
            chat.write(drafts, folder)
            store(self.plan, self._shards, self.catalogue, started, self._seconds, folder)
        return drafts.unfinished

    def is_complete(self) -> bool:
        """Whether the catalogue has this very run already; only reads."""
        if not self.catalogue.exists():
            return False
        complete = "FROM runs WHERE run_id = ? AND status = 'complete'"
        found = read_only_query(self.catalogue, complete, [self.plan.run_id], wait=BRIEFLY)
        return bool(found.rows) and not self._to_ask_again(BRIEFLY)

    def missing_layers(self) -> list[int]:
        """Layers whose mappings are still to be computed."""
        return [layer for layer in self.plan.layers if not self._shards.has(f"mappings-{layer}")]

    def _is_stored(self) -> bool:
        """Whether the catalogue has this run; a catalogue that cannot be written to is an error at once.

        A new catalogue is made only when there is something to store, so that a damaged model leaves none.
        """
        if not self.catalogue.exists():
            with owner_lock(self.catalogue, wait=BRIEFLY):
                return False
        with Catalogue.open(self.catalogue, wait=BRIEFLY) as catalogue:
            complete = catalogue.run_status(self.plan.run_id) == "complete"
        return complete and not self._to_ask_again(BRIEFLY)

    def _to_ask_again(self, wait: float) -> bool:
        """Whether calls of a chat model's run failed in a way that may have passed."""
        if self.plan.options.llm is None:
            return False
        asked = [self.plan.run_id, list(PASSING)]
        return bool(read_only_query(self.catalogue, TO_ASK_AGAIN, asked, wait=wait).rows)

    def _failed_heads(self) -> list[HeadId]:
        found = read_only_query(
            self.catalogue,
            "SELECT layer, head FROM heads WHERE run_id = ? AND status = 'failed' ORDER BY ALL",
            [self.plan.run_id],
            wait=PATIENCE,
        )
        return [HeadId(int(str(layer)), int(str(head))) for layer, head in found.rows]

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        begin = time.monotonic()
        yield
        self._seconds[stage] = round(time.monotonic() - begin, 3)

    def _project(self) -> None:
        """Make the missing shards of mappings."""
        missing = self.missing_layers()
        if not missing:
            return
        from describe.jobs.projecting import Projector

        options, shape = self.plan.options, self.plan.model.shape
        counts = {"saliency": 0, "mappings": len(self.plan.layers) - len(missing)}
        totals = {"saliency": shape.n_layers, "mappings": len(self.plan.layers)}

        def done(stage: str, n: int) -> None:
            counts[stage] += n
            self._progress(stage, counts[stage], totals[stage])

        try:
            with self._timed("project"), self._shards.scratch("saliency") as work:
                projector = Projector(
                    self.plan.model, options.settings, self.plan.excluded, options.device, options.seed, work
                )
                if options.settings.contrastive:
                    _check_room(work, 4 * shape.n_layers * shape.n_heads * len(projector.eligible))
                for projection in projector.layers(missing, done):
                    self._keep(projection)
        except InputError:
            self._shards.remove()  # damaged weights: no shard of them will ever be of use
            raise

    def _keep(self, projection: LayerProjection) -> None:
        """The chosen heads of a projected layer as a shard."""
        wanted = set(self.plan.options.heads)
        chosen = [one for one in projection.mappings.values() if one.head in wanted]
        constants = {
            f"{head}:{direction}": ids.tolist() for (head, direction), ids in projection.constant_ids.items()
        }

        def fill(folder: Path) -> None:
            preset = self.plan.options.settings.preset
            write_mappings(folder / "mappings.parquet", chosen, self.plan.texts, preset)
            (folder / "constants.json").write_text(json.dumps(constants, sort_keys=True))

        self._shards.make(f"mappings-{projection.layer}", fill)


def _check_room(folder: Path, size: int) -> None:
    """Raise OSError unless `size` bytes fit: where a memory map finds no room, the system kills the process."""
    if sys.platform == "linux":
        with (folder / "room").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)
        (folder / "room").unlink()
