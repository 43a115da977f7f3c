"""Peak memory against a model's depth, on a made-up checkpoint with the shapes of Llama-3.1-8B.

The checkpoint has random bfloat16 weights and only what is read: embedding, unembedding, and W_V, W_O and the
norms of each layer; its vocabulary is cut to 32,768 so that it stays small on disk. The source is the embedding
(the paper's choice for its largest model), so block 0 is not run. A shallow and a deep reading of the same files
must peak alike: nothing of a layer outlives it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from eval.bench.processes import Clock, answer, run_part

DEPTHS = (4, 16)


@dataclass(frozen=True)
class Sizes:
    """Shapes of the made-up model; the default is Llama-3.1-8B but for the vocabulary (128,256 there)."""

    d_model: int = 4096
    n_heads: int = 32
    n_kv_heads: int = 8
    d_head: int = 128
    n_vocab: int = 32768

    def tensors(self, layer: int | None) -> dict[str, tuple[int, ...]]:
        """Names and shapes of a layer's tensors, or with None of those outside the layers."""
        d = self.d_model
        if layer is None:
            return {
                "model.embed_tokens.weight": (self.n_vocab, d),
                "lm_head.weight": (self.n_vocab, d),
                "model.norm.weight": (d,),
            }
        stem = f"model.layers.{layer}."
        return {
            f"{stem}self_attn.v_proj.weight": (self.n_kv_heads * self.d_head, d),
            f"{stem}self_attn.o_proj.weight": (d, self.n_heads * self.d_head),
            f"{stem}input_layernorm.weight": (d,),
            f"{stem}post_attention_layernorm.weight": (d,),
        }


def write_checkpoint(folder: Path, sizes: Sizes, n_layers: int, seed: int = 0) -> None:
    """Write a checkpoint: one file for each layer and one for the rest, an index, and a config."""
    import torch
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(seed)
    index: dict[str, str] = {}
    for layer in (None, *range(n_layers)):
        tensors = {
            name: torch.randn(shape, generator=generator, dtype=torch.bfloat16) * 0.02
            for name, shape in sizes.tensors(layer).items()
        }
        file = f"model-{'rest' if layer is None else layer}.safetensors"
        save_file(tensors, folder / file, metadata={"format": "pt"})
        index |= dict.fromkeys(tensors, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    write_config(folder, sizes, n_layers)


def write_config(folder: Path, sizes: Sizes, n_layers: int) -> None:
    """Write config.json for the first `n_layers` layers of the checkpoint."""
    values = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": sizes.d_model,
        "intermediate_size": 3 * sizes.d_model + sizes.d_model // 2,
        "num_attention_heads": sizes.n_heads,
        "num_key_value_heads": sizes.n_kv_heads,
        "head_dim": sizes.d_head,
        "num_hidden_layers": n_layers,
        "vocab_size": sizes.n_vocab,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
    }
    (folder / "config.json").write_text(json.dumps(values))


def memory(
    sizes: Sizes, depths: Sequence[int], threads: int | None, progress: Callable[[str], None]
) -> dict[str, Any]:
    """Peak memory of projecting all heads of the made-up model at each depth.

    Args:
        sizes: its shapes.
        depths: numbers of layers, the greatest last.
        threads: for products, or None.
        progress: told what runs.

    Returns:
        What was measured by depth, with the bytes of E, U and one layer in float32 beside the peaks.

    Raises:
        DescribeError: a part failed.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        progress(f"writing a checkpoint of {max(depths)} layers")
        write_checkpoint(folder, sizes, max(depths))
        measured = []
        for depth in depths:
            progress(f"all heads of {depth} layers")
            write_config(folder, sizes, depth)
            found, cost = run_part("eval.bench.memory", [name], threads)
            measured.append({"layers": depth, **found, **asdict(cost)})
    layer = sizes.tensors(0).values()
    return {
        "sizes": asdict(sizes),
        "embedding_and_unembedding_bytes": 2 * 4 * sizes.n_vocab * sizes.d_model,
        "layer_bytes": 4 * sum(_product(shape) for shape in layer),
        "measured": measured,
        "peak_ratio": measured[-1]["peak_bytes"] / measured[0]["peak_bytes"],
    }


def _product(shape: tuple[int, ...]) -> int:
    return shape[0] * (shape[1] if len(shape) > 1 else 1)


def main() -> None:
    """Project all heads of the checkpoint in the folder given: the process whose memory is measured."""
    from dataclasses import replace

    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    folder = parser.parse_args().folder
    begin = Clock.now()
    from describe.jobs.projecting import Projector
    from describe.settings import preset
    from describe.subject.model import load_weights

    model = load_weights(folder)
    projector = Projector(model, replace(preset("paper"), source="embedding"), {})
    loaded = Clock.now()
    heads = sum(len(one.mappings) // 2 for one in projector.layers(range(model.shape.n_layers)))
    done = Clock.now()
    answer({"heads": heads, "load": loaded.since(begin), "core": done.since(loaded)})


if __name__ == "__main__":
    main()
