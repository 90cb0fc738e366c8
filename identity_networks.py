"""The networks of an identity pipeline made ready for its loop: fewer and larger products, and no scale in Python.

PyTorch is imported here at the top: this module is imported when a pipeline is loaded.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention, FusedAttnProcessor2_0, IPAdapterAttnProcessor2_0
from torch.nn.functional import scaled_dot_product_attention


class IdentityAttention(torch.nn.Module):  # type: ignore[misc]
    """Attention to the prompt and, weighted, to an identity's tokens (IP-Adapter's decoupled cross-attention).

    As diffusers' IPAdapterAttnProcessor2_0 with one adapter, but keys and values come from one product, and `scale` is
    a tensor (batch, 1, 1): each picture of a batch has its own, and a compiled network takes any value.
    """

    def __init__(self, loaded: IPAdapterAttnProcessor2_0) -> None:
        super().__init__()
        [to_k], [to_v] = loaded.to_k_ip, loaded.to_v_ip
        self.to_kv = _joined(to_k, to_v)
        self.scale = torch.ones(1, 1, 1)

    def forward(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: tuple[torch.Tensor, torch.Tensor],
        attention_mask: torch.Tensor | None = None,  # noqa: ARG002 - diffusers passes it; SDXL has none
        temb: torch.Tensor | None = None,  # noqa: ARG002
    ) -> torch.Tensor:
        """(batch, pixels, width) from the same; `encoder_hidden_states` are the prompt's states and the tokens."""
        text, tokens = encoder_hidden_states
        query = _heads(attn.to_q(hidden_states), attn.heads)
        seen = _attended(query, attn.to_kv(text), attn.heads)
        seen = seen + self.scale * _attended(query, self.to_kv(tokens), attn.heads)
        return attn.to_out[1](attn.to_out[0](seen))


def prepare_networks(pipeline: Any, *, compiled: bool) -> list[IdentityAttention]:
    """Join the products of all attention in UNet and ControlNet; the UNet's attention to the identity is returned.

    `compiled` also compiles the ControlNet's repeated blocks, which diffusers does for the UNet alone.
    """
    networks = [pipeline.unet, *filter(None, [getattr(pipeline, "controlnet", None)])]
    with torch.no_grad():
        adapters = [adapter for network in networks for adapter in _join_attention(network)]
    if compiled:
        for network in networks[1:]:
            for block in network.modules():
                if isinstance(block, BasicTransformerBlock):
                    block.compile(fullgraph=True)
    return adapters


def _join_attention(network: torch.nn.Module) -> list[IdentityAttention]:
    adapters = []
    for module in network.modules():
        if isinstance(module, Attention):
            module.fuse_projections()
            unused = ["to_k", "to_v"] if module.is_cross_attention else ["to_q", "to_k", "to_v"]
            for name in unused:
                delattr(module, name)
            if isinstance(module.processor, IPAdapterAttnProcessor2_0):
                adapters.append(IdentityAttention(module.processor))
                module.set_processor(adapters[-1])
            else:
                module.set_processor(FusedAttnProcessor2_0())
    return adapters


def _joined(first: torch.nn.Linear, second: torch.nn.Linear) -> torch.nn.Linear:
    weight = torch.cat([first.weight, second.weight])
    joined = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False, device=weight.device, dtype=weight.dtype)
    joined.weight.copy_(weight)
    return joined


def _heads(values: torch.Tensor, heads: int) -> torch.Tensor:
    return values.unflatten(-1, (heads, -1)).transpose(1, 2)


def _attended(query: torch.Tensor, keys_and_values: torch.Tensor, heads: int) -> torch.Tensor:
    key, value = (_heads(values, heads) for values in keys_and_values.chunk(2, dim=-1))
    return scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
