"""XLNet for question answering with a recurrent memory, read at the READ tokens and written at the WRITE tokens.

The embeddings of a segment's READ tokens are replaced by the memory; the hidden states of the last layer at its WRITE
tokens are the next memory (Bulatov, Kuratov and Burtsev 2022, "Recurrent Memory Transformer").
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import XLNetConfig, XLNetForQuestionAnsweringSimple

from memxlnet import loss_or_zero


class Output(NamedTuple):
    """The output of a step: a scalar loss, logits [B, L], and the next memory [B, tokens, d_model]."""

    loss: Tensor
    start_logits: Tensor
    end_logits: Tensor
    memory: Tensor


class RecurrentXLNet(torch.nn.Module):
    """XLNet whose memory tokens carry a state from segment to segment.

    Args:
        model: An XLNet of transformers.
        vocabulary_size: Size of the vocabulary, memory tokens included; the embeddings are resized to it.
        num_memory_tokens: READ tokens per row, and as many WRITE tokens.
        with_memory: False gives every segment the initial memory.
    """

    def __init__(self, model: Any, vocabulary_size: int, num_memory_tokens: int, with_memory: bool = True):
        super().__init__()
        if model.get_input_embeddings().num_embeddings != vocabulary_size:
            model.resize_token_embeddings(vocabulary_size)
        self.model = model
        self.with_memory = with_memory
        self.initial = torch.nn.Parameter(torch.randn(1, num_memory_tokens, model.config.d_model) * 0.02)

    def initial_memory(self, lanes: int) -> Tensor:
        """Return the learned initial memory, float[lanes, tokens, d_model]."""
        return self.initial.expand(lanes, -1, -1)

    def forward(self, step: Mapping[str, Any], memory: Tensor) -> Output:
        """Compute one step of all lanes."""
        if not self.with_memory:
            memory = self.initial_memory(len(memory))
        embeddings = self.model.get_input_embeddings()(step["input_ids"])
        embeddings = embeddings.scatter(1, _places(step["mem_read_start"], memory), memory.to(embeddings.dtype))
        hidden = self.model.transformer(
            inputs_embeds=embeddings,
            attention_mask=step["attention_mask"],
            token_type_ids=step["token_type_ids"],
            use_mems=False,
        ).last_hidden_state
        start, end = self.model.qa_outputs(hidden).unbind(-1)
        length = hidden.shape[1]
        losses = [
            torch.nn.functional.cross_entropy(logits, step[name], ignore_index=length)
            for logits, name in ((start, "start_positions"), (end, "end_positions"))
        ]
        loss = loss_or_zero(step, (losses[0] + losses[1]) / 2, start, end)
        return Output(loss, start, end, hidden.gather(1, _places(step["mem_write_start"], memory)))


def _places(first: Tensor, memory: Tensor) -> Tensor:
    """Return the positions of memory tokens in their rows, int64[B, tokens, d_model].

    Lanes without a segment have none; they use the first positions, and `CarriedState` ignores the result.
    """
    lanes, tokens, width = memory.shape
    places = first.clamp(min=0)[:, None] + torch.arange(tokens, device=first.device)
    return places[:, :, None].expand(lanes, tokens, width)


def small_xlnet(vocabulary_size: int, seed: int, width: int = 64, layers: int = 2) -> Any:
    """Create a small random model that trains in seconds on a CPU."""
    torch.manual_seed(seed)
    config = XLNetConfig(
        vocab_size=vocabulary_size,
        d_model=width,
        n_layer=layers,
        n_head=4,
        d_inner=2 * width,
        dropout=0.0,
        initializer_range=0.1,
    )
    return XLNetForQuestionAnsweringSimple(config)


def trained_xlnet(path: str | Path) -> Any:
    """Load a model from the Hub or a directory."""
    return XLNetForQuestionAnsweringSimple.from_pretrained(path)
