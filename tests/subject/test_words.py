"""Words of several tokens through block 0, against the whole model's own states on every architecture."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from describe.subject.words import word_states

_spec = importlib.util.spec_from_file_location("subject_tiny", Path(__file__).with_name("tiny.py"))
tiny = sys.modules.setdefault("subject_tiny", importlib.util.module_from_spec(_spec))
if not hasattr(tiny, "CASES"):
    _spec.loader.exec_module(tiny)

WORDS = [[3, 17], [8], [40, 3, 3], [5, 6], [2, 9, 11, 30]]


def first_block(model):
    base = model.model.decoder if hasattr(getattr(model, "model", None), "decoder") else model.base_model
    return (base.h if hasattr(base, "h") else base.layers)[0]


@pytest.mark.parametrize("case", tiny.CASES)
def test_states_are_those_of_the_last_token_in_the_whole_model(case, tmp_path):
    subject = tiny.tiny_subject(case, tmp_path)
    seen = {}
    handles = (
        first_block(subject.model).register_forward_pre_hook(
            lambda _, args, kwargs: seen.update(entry=(args[0] if args else kwargs["hidden_states"]).clone()),
            with_kwargs=True,
        ),
        first_block(subject.model).register_forward_hook(
            lambda _, __, output: seen.update(exit=tiny.first_tensor(output))
        ),
    )
    with tiny.DoublePrecision(), torch.no_grad():
        found = word_states(subject.config, subject.store, WORDS, dtype=torch.float64)
        with tiny.hooked(*handles):
            for index, word in enumerate(WORDS):
                subject.model(input_ids=torch.tensor([word]), use_cache=False)
                for state, rows in found.items():
                    expected = seen[state].reshape(len(word), -1)[-1]
                    torch.testing.assert_close(
                        rows[index], expected, rtol=1e-6, atol=1e-7
                    )  # GPT-J turns by a float32 table
