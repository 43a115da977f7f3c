"""What a run is made from, and its identity: the same plan always gives the same rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from describe import __version__
from describe.clusters import ClusterSettings
from describe.drafting.llm import PROMPT, DraftSettings
from describe.drafting.rules.evidence import GradingSettings
from describe.records import HeadId
from describe.settings import ProjectionSettings, digest
from prompts import load

if TYPE_CHECKING:
    from describe.subject.model import SubjectModel


@dataclass(frozen=True)
class RunOptions:
    """What was asked for; all but `device` is part of the run's identity."""

    settings: ProjectionSettings
    heads: tuple[HeadId, ...]  # in order
    grading: GradingSettings = field(default_factory=GradingSettings)
    clusters: ClusterSettings = field(default_factory=ClusterSettings)
    llm: DraftSettings | None = None  # None: the rules drafter
    device: str = "cpu"
    seed: int = 0

    @property
    def drafter(self) -> str:
        """Who describes, as the catalogue names it."""
        return "rules" if self.llm is None else self.llm.chat_model


@dataclass(frozen=True)
class RunPlan:
    """A model, the tokens left out by reason, and the options of one run over it."""

    model: SubjectModel
    excluded: Mapping[str, Sequence[int]]
    options: RunOptions

    @cached_property
    def run_id(self) -> str:
        """Content identity: weights, vocabulary, settings, grading, drafter, code version and selection."""
        options = self.options
        asked: list[object] = []
        if options.llm is not None:
            prompts = [PROMPT, "repair", *(["detect"] if options.llm.chooser else [])]
            asked = [options.llm, [load(name).digest for name in prompts]]
        return digest(
            self.model.digest,
            self.model.vocabulary.digest,
            options.settings,
            options.grading,
            options.clusters,
            options.drafter,
            options.seed,
            [str(head) for head in options.heads],
            __version__,
            *asked,
        )[:20]

    @property
    def layers(self) -> list[int]:
        """The layers of the chosen heads, in order."""
        return sorted({head.layer for head in self.options.heads})

    @property
    def whole(self) -> bool:
        """Whether every head of the model is chosen."""
        return len(self.options.heads) == self.model.shape.n_layers * self.model.shape.n_heads

    @property
    def texts(self) -> Sequence[str]:
        """Token texts by id."""
        return self.model.vocabulary.texts

    @property
    def left_out(self) -> Mapping[str, Sequence[int]]:
        """Token ids by reason that are no source and no target of this run."""
        return self.excluded if self.options.settings.token_filter else {}
