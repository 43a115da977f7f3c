"""Words of several tokens as sources: the state of the last token after block 0 has read the whole word."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

from describe.protocols import TensorStore
from describe.subject.architectures import Config
from describe.subject.block0 import State, one_layer, run_tokens

_BATCH = 256  # words run at a time


def word_states(
    config: Config,
    store: TensorStore,
    words: Sequence[Sequence[int]],
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> dict[State, Tensor]:
    """States around block 0 of the last token of each word, by name (entry, exit): [n_words, d] each.

    An approximation (MAPS takes several-token sources at inference only, section 4.2): block 0 sees the whole
    word and nothing else, so what later layers would gather from its earlier tokens is missing.

    Args:
        config: transformers config of the whole model.
        store: its tensors; only the embedding's and block 0's are read.
        words: token ids of each word, in order, at least one each.
        device: where block 0 runs and the states live.
        dtype: of the block and of the states.

    Raises:
        InputError: weights of block 0 are missing or damaged.
    """
    wanted: frozenset[State] = frozenset(("entry", "exit"))
    by_length: defaultdict[int, list[int]] = defaultdict(list)
    for index, word in enumerate(words):
        by_length[len(word)].append(index)
    with one_layer(config, store, dtype, device) as (layout, block):
        width = layout.shape.d_model
        states = {state: torch.empty(len(words), width, device=device, dtype=dtype) for state in wanted}
        for indices in by_length.values():
            for begin in range(0, len(indices), _BATCH):
                part = indices[begin : begin + _BATCH]
                ids = torch.tensor([list(words[index]) for index in part], device=device)
                for state, rows in run_tokens(layout, block, ids, wanted).items():
                    states[state][part] = rows[:, -1]
    return states
