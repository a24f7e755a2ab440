"""HTF ("Hear The Flow"): optical flow attends to what moves in a frame.

Source: Fedorishin et al., "Hear The Flow: Optical Flow-Based Self-Supervised Visual Sound Source
Localization", WACV 2023, and its published model (denfed/heartheflow).

Shape letters: B clips, C channels, h = w side of the map, q and k positions.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from avsl_train.losses.lvs import lvs


class FlowAttention(nn.Module):
    """Attention of a frame's positions, by queries of the frame and keys of its optical flow [code].

    q, k, v = 1x1 convolutions of x, flow, x to C/8, C/8 and C channels, with bias;
    A[q, k] = softmax over k of q.k / sqrt(C/8); out(q) = sum_k A[q, k] v(k). The localizer goes on with
    unit(x + out).

    Parameters
    ----------
    channels
        C, a multiple of 8.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.width = channels // 8
        # names as in the published checkpoints
        self.query_conv = nn.Conv2d(channels, self.width, 1)
        self.key_conv = nn.Conv2d(channels, self.width, 1)
        self.value_conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``out`` [B, C, h, w] and the attention [B, h w, h w] in (q, k).

        Parameters
        ----------
        x, flow : Tensor [B, C, h, w]
            Features of frame and flow.
        """
        query = self.query_conv(x).flatten(2)  # [B, C/8, hw]
        key = self.key_conv(flow).flatten(2)  # [B, C/8, hw]
        value = self.value_conv(x).flatten(2)  # [B, C, hw]
        attention = torch.einsum("bcq,bck->bqk", query, key).div(math.sqrt(self.width)).softmax(2)
        return torch.einsum("bqk,bck->bcq", attention, value).reshape(x.shape), attention


def htf(visual: Tensor, audio: Tensor) -> Tensor:
    """Return HTF's loss: LVS's, on features that may be negative [code].

    The code writes its second threshold as .65 - .25, which is LVS's .40. What differs is that the multiplied
    diagonal of `lvs.trimap_logits` does not always hide the own pair; see its notes.

    Parameters
    ----------
    visual : Tensor [B, C, h, w]
        Unit vectors, of x + out of `FlowAttention`.
    audio : Tensor [B, C]
        Unit vectors.
    """
    return lvs(visual, audio)
