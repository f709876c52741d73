"""A trial of Ray Tune's, as somebody writes it who keeps the images as tensors: no DataLoader, one thread.
Ray's processes import it by name."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from models.architecture import Architecture
from models.network import Network
from search.data.batches import TrainingData
from search.design.space import make_architecture, make_config, suggest
from search.spec.study import StudySpec


def draw(trial: Any, spec: StudySpec) -> dict[str, Any]:
    """A configuration for `train`, drawn by OptunaSearch from the study's space."""
    return {"trial": {"values": suggest(trial, spec.space), "epochs": spec.train.epochs}}


def train(config: dict[str, Any], data: TrainingData, spec: StudySpec, shape: tuple[int, int, int]) -> None:
    from ray import tune

    began = time.time()
    torch.set_num_threads(1)
    recipe = config["trial"]
    settings = make_config(recipe["values"], spec, 0)
    if "architecture" in recipe:
        architecture = Architecture.from_json(recipe["architecture"])
    else:
        architecture = make_architecture(recipe["values"], spec.space, shape, data.classes)
    network = Network(architecture).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    make = {"sgd": partial(torch.optim.SGD, momentum=settings.momentum), "adamw": torch.optim.AdamW}
    optimizer = make[settings.optimizer](
        network.parameters(), lr=settings.lr, weight_decay=settings.weight_decay, fused=True
    )
    count, size = len(data.train_NHWC), settings.batch_size
    steps = settings.epochs * (count // size)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: settings.learning_rate(min(step, steps - 1), steps) / settings.lr
    )
    for _ in range(recipe["epochs"]):
        network.train()
        for index_B in torch.randperm(count)[: count // size * size].split(size):
            logits_BK = network(_images(data, data.train_NHWC[index_B]))
            optimizer.zero_grad()
            F.cross_entropy(logits_BK, data.train_labels_N[index_B]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        network.eval()
        with torch.no_grad():
            right = network(_images(data, data.val_NHWC)).argmax(1) == data.val_labels_N
        tune.report({"accuracy": right.float().mean().item(), "began": began, "ended": time.time()})


def _images(data: TrainingData, pixels_BHWC: Tensor) -> Tensor:
    return data.normalize(pixels_BHWC).permute(0, 3, 1, 2)
