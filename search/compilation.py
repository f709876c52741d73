"""torch.compile for a training step, where the steps left repay it.

Asked for by ARCHSEARCH_COMPILE=1, and on GPUs alone: compiled kernels sum in another order, and on a CPU the
same seed gives the same weights bit for bit. Steps are launched as one by their CUDA graph already; what
compiling adds is norms and rectifiers fused into fewer passes over memory. Evaluation stays as it is, and so
does a run's first step, which the probe watches with hooks: those would break the compiled graph.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from search.data import Feed
from search.errors import tell_once
from search.graph import Stepper, recorder_for

GAIN = 1.2
"""By which a step gets faster: 1.20 to 1.25 for a ResNet-20 on one CPU core, measured; 1.24 for airbench94 on
an A100 (a training of 3.83 s takes 3.09 s, says its README)."""
START_SECONDS, CONV_SECONDS = 25.0, 0.8
"""What it costs, a line through two measurements on one CPU core: 31 s for 8 convs, 40.5 s for 20. A record
run of CIFAR-10 on an A100 warmed up for 40.5 s as well."""
EPOCHS = 2
"""After which it is decided: the first has cuDNN's trials and the capture, the second is made of replays."""


def is_wanted(device: torch.device) -> bool:
    return device.type == "cuda" and os.environ.get("ARCHSEARCH_COMPILE") == "1"


def worth_compiling(steps_left: int, step_seconds: float, convs: int) -> bool:
    """A small network on a fast GPU is done before: a step of 0.3 ms pays after 820,000 steps."""
    saved = steps_left * step_seconds * (1 - 1 / GAIN)
    return saved > START_SECONDS + CONV_SECONDS * convs


class Compiler:
    """Of one run: what its steps call forward."""

    def __init__(
        self, network: nn.Module, autocast: torch.autocast, stepper: Stepper, device: torch.device
    ) -> None:
        self.network, self.autocast, self.stepper, self.device = network, autocast, stepper, device
        self.forward: Callable[[Tensor], Tensor] = network
        self.wanted = is_wanted(device)
        self.epochs, self.step_seconds = 0, 0.0
        """Trained in this process; of the last one."""

    @contextmanager
    def epoch(self, feed: Feed, steps_left: int) -> Iterator[None]:
        """Around the training of each."""
        if self.wanted and self.epochs == EPOCHS and self._pays(steps_left):
            self.stepper.renew(recorder_for(self.device))  # steps are warmed up and captured anew
            forward = compiled(self.network, images_like(feed), self.autocast)
            self.forward = self.network if forward is None else forward
        started = time.perf_counter()
        yield
        self.epochs, self.step_seconds = self.epochs + 1, (time.perf_counter() - started) / feed.steps

    def _pays(self, steps_left: int) -> bool:
        convs = sum(isinstance(module, nn.Conv2d) for module in self.network.modules())
        return worth_compiling(steps_left, self.step_seconds, convs)

    def close(self) -> None:
        """Compiled code is one architecture's: from the ninth on, torch would silently go without."""
        if self.forward is not self.network:
            self.forward = self.network
            torch._dynamo.reset()


def images_like(feed: Feed) -> Tensor:
    """Black images, laid out as those of a step: what is compiled for one layout is not used for another."""
    _, height, width, channels = feed.data.train_NHWC.shape
    return torch.zeros(feed.size, height, width, channels, device=feed.data.device).permute(0, 3, 1, 2)


def compiled(
    network: nn.Module, images_BCHW: Tensor, autocast: torch.autocast, backend: str = "inductor"
) -> Callable[[Tensor], Tensor] | None:
    """Its forward and backward, compiled and tried out here, where a failure is no harm: weights, gradients
    and statistics stay as they were. None after one, the reason being told. Never inside a capture."""
    network.train()
    before = [buffer.clone() for buffer in network.buffers()]
    try:
        forward: Callable[[Tensor], Tensor] = torch.compile(network, dynamic=False, backend=backend)
        with autocast:
            total = forward(images_BCHW).float().sum()
        torch.autograd.grad(total, list(network.parameters()))
    except Exception as error:
        if isinstance(error, torch.AcceleratorError) and not isinstance(error, torch.OutOfMemoryError):
            raise  # the GPU is ill
        tell_once(f"steps are not compiled, training goes on without: {_short(error)}")
        torch._dynamo.reset()
        return None
    finally:
        with torch.no_grad():
            for buffer, value in zip(network.buffers(), before, strict=True):
                buffer.copy_(value)
    return forward


def _short(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
