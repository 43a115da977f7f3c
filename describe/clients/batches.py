"""Requests as files in OpenAI's batch format, their answers back, and the batch API itself.

Answers may come from anywhere, in any order, in part, twice, late or with broken lines: each line is taken
for what it is, the first answer to a request stands, and who answered is kept with it.
"""

from __future__ import annotations

import asyncio
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

from describe.chat import KEPT, ChatAnswer, ChatRequest, Outcome, Question
from describe.clients.answers import AnswerStore
from describe.clients.asker import Asker, Progress
from describe.clients.endpoint import Endpoint
from describe.clients.envelope import answer_of, error_text
from describe.clients.prices import Purse
from describe.errors import BudgetError, DescribeError
from describe.settings import digest

if TYPE_CHECKING:
    from openai import AsyncOpenAI

URL: Final = "/v1/chat/completions"
T = TypeVar("T")
_ROUNDS = 2  # the second one is for replies that are given back to be mended
_PASSING_CODES = (408, 409, 425, 429)
_ENDED = ("completed", "failed", "expired", "cancelled")


@dataclass(frozen=True)
class Taken:
    """What became of the lines of a file of answers."""

    kept: int = 0
    repeated: int = 0  # answered before; the first answer stands
    failed: int = 0  # the endpoint has no answer, and says so; to be asked again
    unknown: int = 0  # answers to requests that never went out from here
    malformed: int = 0  # lines that are no answers
    commands: tuple[tuple[str, ...], ...] = ()  # what to run with them


def batch_lines(requests: Mapping[str, ChatRequest], endpoint: Endpoint) -> Iterable[str]:
    """Requests by their digest as lines of a batch file."""
    for key, request in requests.items():
        yield json.dumps({"custom_id": key, "method": "POST", "url": URL, "body": endpoint.body(request)})


def take_answers(lines: Iterable[str], answers: AnswerStore) -> Taken:
    """Keep the answers of a file to requests that went out from here."""
    counts: Counter[str] = Counter()
    commands: list[tuple[str, ...]] = []
    for line in lines:
        if not line.strip():
            continue
        entry = _entry(line)
        exported = answers.exported(entry[0]) if entry else None
        if entry is None:
            counts["malformed"] += 1
        elif exported is None:
            counts["unknown"] += 1
        elif entry[1].status not in KEPT and entry[1].status != "rejected":
            counts["failed"] += 1
        else:
            if exported.command and exported.command not in commands:
                commands.append(exported.command)
            key, answer = entry
            first = answers.keep(key, exported.base_url, exported.chat_model, exported.purpose, answer)
            counts["kept" if first else "repeated"] += 1
    return replace(Taken(), **counts, commands=tuple(commands))


def _entry(line: str) -> tuple[str, ChatAnswer] | None:
    """The request and the answer of one line; None where the line is neither."""
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or not isinstance(content.get("custom_id"), str):
        return None
    key, response = content["custom_id"].encode("utf-8", "replace").decode(), content.get("response")
    if not isinstance(response, dict):
        return key, ChatAnswer("transport", error=error_text(content.get("error")))
    code = response.get("status_code")
    if code not in (200, None):
        # What a batch refuses it refuses for good, as a live request would be; other failures may pass.
        refused = isinstance(code, int) and 400 <= code < 500 and code not in _PASSING_CODES
        return key, ChatAnswer("rejected" if refused else "transport", error=error_text(response.get("body")))
    return key, answer_of(json.dumps(response.get("body")))


class BatchAsker(Asker):
    """Asks through the endpoint's batch API: half the price at OpenAI, an answer within a day.

    A batch that is under way is remembered: a job that was killed waits for it, and uploads nothing again.

    Args:
        endpoint: where to.
        answers: what was answered before, and where answers are kept.
        purse: the budget.
        poll: seconds between looks at a batch.
    """

    def __init__(self, endpoint: Endpoint, answers: AnswerStore, purse: Purse, poll: float = 30.0) -> None:
        super().__init__(endpoint, answers, purse, collect=True)
        self._poll = poll

    def ask(
        self, questions: Sequence[Question[T]], progress: Progress = lambda done, total: None
    ) -> list[Outcome[T]]:
        """The outcomes of the questions, in their order; those that a batch leaves open are pending.

        Raises:
            DescribeError: the endpoint takes no batches, or a batch failed as a whole.
            BudgetError: what is to be asked might cost more than the budget; nothing is sent.
        """
        for model in {one.request.chat_model for one in questions}:
            self.purse.check(model)
        for _ in range(_ROUNDS):
            self.missing.clear()
            outcomes = super().ask(questions)
            if not self.missing:
                break
            missing, booked = dict(self.missing), self._check_budget()
            asyncio.run(self._through(missing, progress))
            self._fetched |= set(missing)
            self.purse.spent += self._cost(missing) - booked
        else:
            outcomes = super().ask(questions)
        progress(len(questions), len(questions))
        return outcomes

    def _cost(self, missing: Mapping[str, ChatRequest]) -> float:
        """What the answers that came did cost, as far as it is known."""
        found = [(request, self.answers.find(key)) for key, request in missing.items()]
        prices = self.purse.prices
        return sum(
            prices.cost(request.chat_model, kept.answer.input_tokens, kept.answer.output_tokens) or 0.0
            for request, kept in found
            if kept is not None
        )

    def _check_budget(self) -> float:
        """Book the most that the batch may cost, and return it.

        Raises:
            BudgetError: the budget does not hold it; nothing was sent.
        """
        budget, most = self.purse.budget, 0.0
        if budget is None:
            return 0.0
        for request in self.missing.values():
            price = self.purse.prices.of(request.chat_model)
            most += price.cost(request.most_tokens, request.max_tokens) if price else 0.0
        if self.purse.spent + most > budget:
            raise BudgetError(
                f"The batch of {len(self.missing)} requests might cost {most:.2f} dollars, more than is left of"
                f" --budget {budget:g}: give a higher one, or choose fewer heads; nothing was sent."
            )
        self.purse.spent += most
        return most

    async def _through(self, missing: dict[str, ChatRequest], progress: Progress) -> None:
        """Send what is missing as one batch, wait for it, keep its answers."""
        import openai

        content = digest("batch", self.base_url, sorted(missing))
        self.answers.note_export(missing, self.base_url, ())
        try:
            async with self.endpoint:
                client = self.endpoint.client
                batch_id = self.answers.batch_of(content) or await self._start(client, missing, content)
                batch = await client.batches.retrieve(batch_id)
                while batch.status not in _ENDED:
                    counts = batch.request_counts
                    progress(counts.completed if counts else 0, len(missing))
                    await asyncio.sleep(self._poll)
                    batch = await client.batches.retrieve(batch_id)
                for file in (batch.output_file_id, batch.error_file_id):
                    if file is not None:
                        answered = await client.files.content(file)
                        take_answers(answered.text.split("\n"), self.answers)
        except openai.OpenAIError as error:
            if isinstance(error, openai.NotFoundError):
                self.answers.note_batch(
                    content, None
                )  # the endpoint has lost it: the next run sends it again
            why = error_text(getattr(error, "body", None) or str(error), self.endpoint.secrets)
            raise DescribeError(
                f"The endpoint {self.base_url} did not take or finish the batch ({why}): ask without --batch, or run"
                " the same command again to wait for it."
            ) from error
        self.answers.note_batch(content, None)
        if batch.status == "failed":
            problems = batch.errors.data if batch.errors and batch.errors.data else []
            why = (problems[0].message if problems else None) or "no reason is given"
            raise DescribeError(
                f"The batch {batch_id} failed at {self.base_url}: {error_text(why, self.endpoint.secrets).rstrip('.')}."
            )

    async def _start(self, client: AsyncOpenAI, missing: Mapping[str, ChatRequest], content: str) -> str:
        lines = "".join(f"{line}\n" for line in batch_lines(missing, self.endpoint))
        file = await client.files.create(file=("requests.jsonl", io.BytesIO(lines.encode())), purpose="batch")
        batch: Any = await client.batches.create(input_file_id=file.id, endpoint=URL, completion_window="24h")
        self.answers.note_batch(content, batch.id)
        return str(batch.id)
