"""The fixed anchor set: written lists whose right answers are known, put to a judge anew in every run."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from data import Anchor, anchors
from describe.chat import Question
from describe.drafting.rows import Row
from describe.records import Direction
from describe.settings import digest
from eval.judging.plausibility import Judgement, judge_question


@dataclass(frozen=True)
class AnchorItem:
    """One description of one written list; kind `nothing`: the list has no pattern to describe."""

    anchor: Anchor
    kind: str
    text: str

    @property
    def rows(self) -> list[Row]:
        """The list as a judge is shown it."""
        direction: Direction = "suppress" if self.anchor.direction == "suppress" else "promote"
        return [Row(direction, source, tuple(targets)) for source, targets in self.anchor.rows]

    def question(self, chat_model: str, n_targets: int, nonce: str) -> Question[Judgement]:
        """What is put to a judge; the nonce has it asked anew in every run."""
        about = f"anchor {self.anchor.name}, {self.kind}"
        return judge_question(self.rows, self.text, chat_model, n_targets, about, nonce=nonce)


@cache
def anchor_items() -> tuple[AnchorItem, ...]:
    """Every description of every anchor, in the order of the file."""
    return tuple(
        AnchorItem(one, kind if one.operation else "nothing", text)
        for one in anchors()
        for kind, text in one.descriptions.items()
    )


def anchors_digest() -> str:
    """Identity of the set: figures of different sets do not compare."""

    def plain(item: AnchorItem) -> list[Any]:
        rows = [[source, list(targets)] for source, targets in item.anchor.rows]
        return [item.anchor.name, item.anchor.direction, item.anchor.fits, item.kind, item.text, rows]

    return digest([plain(item) for item in anchor_items()])
