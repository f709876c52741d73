"""`python -m benchmarks.usual_way URL STUDY THREADS`: the trials of a study trained once more, each for as
many epochs as it was, as Optuna's own PyTorch example does it: DataLoader, torchvision's transforms on single
images, two threads of one process. THREADS: of torch; 0 leaves it its own choice."""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from typing import Any

import optuna
import torch
import torch.nn.functional as F
from optuna.trial import FrozenTrial
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from models.architecture import Architecture
from models.network import Network
from search.data.datasets import load
from search.design.space import make_config, values_of
from search.spec.study import StudySpec
from search.spec.train_config import TrainConfig
from search.storage.connections import watch
from search.storage.studies import find


class Images(Dataset[Any]):
    """One image at a time, through transforms."""

    def __init__(self, part: Any, mean: float, std: float) -> None:
        self.part = part
        self.transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((mean,), (std,))])

    def __len__(self) -> int:
        return len(self.part.labels_N)

    def __getitem__(self, index: int) -> Any:
        return self.transform(self.part.pixels_NHWC[index]), int(self.part.labels_N[index])


def main() -> None:
    url, name, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
    if threads:
        torch.set_num_threads(threads)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    source = find(watch(url, writes=False), name)
    stored = source.get_trials(deepcopy=False)
    spec = StudySpec.from_canonical(name, source.user_attrs["spec"])
    parts = load(spec.data)
    train, val = Images(parts.train, 0.3, 0.38), Images(parts.val, 0.3, 0.38)

    def objective(trial: optuna.Trial) -> float:
        original = stored[trial.number]
        for parameter, distribution in original.distributions.items():
            trial._suggest(parameter, distribution)
        accuracy = 0.0
        for epoch, accuracy in enumerate(_epochs(original, spec, train, val)):
            trial.report(accuracy, epoch)
        return accuracy

    with tempfile.TemporaryDirectory() as folder:
        study = optuna.create_study(
            direction="maximize", storage=f"sqlite:///{folder}/usual.db", pruner=optuna.pruners.NopPruner()
        )
        for trial in stored:
            study.enqueue_trial(trial.params)
        study.optimize(objective, n_trials=len(stored), n_jobs=2)


def _epochs(original: FrozenTrial, spec: StudySpec, train: Images, val: Images) -> Any:
    """Validation accuracy after each of the epochs that the original was trained for: none where it was
    refused before it was built."""
    epochs = original.user_attrs.get("epochs", 0)
    if not epochs:
        return
    config = make_config(values_of(original.params, spec.space), spec, 0)
    network = Network(Architecture.from_json(original.user_attrs["architecture"]))
    optimizer = _optimizer(network, config)
    loader = DataLoader(train, batch_size=config.batch_size, shuffle=True, drop_last=True)
    steps = config.epochs * len(loader)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, partial(_rate, steps=steps, config=config)
    )  # over all epochs, whether they are trained or not
    for _ in range(epochs):
        network.train()
        for images, labels in loader:
            optimizer.zero_grad()
            F.cross_entropy(network(images), labels).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        network.eval()
        right = 0
        with torch.no_grad():
            for images, labels in DataLoader(val, batch_size=config.batch_size):
                right += int((network(images).argmax(1) == labels).sum())
        yield right / len(val)


def _rate(step: int, steps: int, config: TrainConfig) -> float:
    return config.learning_rate(min(step, steps - 1), steps) / config.lr


def _optimizer(network: Network, config: TrainConfig) -> torch.optim.Optimizer:
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            network.parameters(), lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay
        )
    return torch.optim.AdamW(network.parameters(), lr=config.lr, weight_decay=config.weight_decay)


if __name__ == "__main__":
    main()
