"""`python -m benchmarks.usual_way URL [THREADS]`: the trials of a study trained once more, the usual way."""

from __future__ import annotations

import sys
import tempfile
from typing import Any

import optuna
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from models.architecture import Architecture
from models.network import Network
from search.datasets import load
from search.storage import find, watch
from search.studyfile import find_study, load_spec

EPOCHS, BATCH = 5, 64


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
    url, threads = sys.argv[1], sys.argv[2]
    if threads:
        torch.set_num_threads(int(threads))
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    stored = find(watch(url, writes=False), "same").get_trials(deepcopy=False)
    parts = load(load_spec(find_study("digits")).data)
    train, val = Images(parts.train, 0.3, 0.38), Images(parts.val, 0.3, 0.38)

    def objective(trial: optuna.Trial) -> float:
        for name, distribution in stored[0].distributions.items():
            trial._suggest(name, distribution)
        original = stored[trial.number]
        network = Network(Architecture.from_json(original.user_attrs["architecture"]))
        kind = original.params["optimizer"]
        lr = original.params[f"lr_{kind}"]
        make = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[kind]
        optimizer = make(network.parameters(), lr=lr, **({"momentum": 0.9} if kind == "sgd" else {}))
        loader = DataLoader(train, batch_size=BATCH, shuffle=True, drop_last=True)
        for epoch in range(EPOCHS):
            network.train()
            for images, labels in loader:
                optimizer.zero_grad()
                F.cross_entropy(network(images), labels).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            network.eval()
            right = 0
            with torch.no_grad():
                for images, labels in DataLoader(val, batch_size=BATCH):
                    right += int((network(images).argmax(1) == labels).sum())
            accuracy = right / len(val)
            trial.report(accuracy, epoch)
        return accuracy

    with tempfile.TemporaryDirectory() as folder:
        study = optuna.create_study(
            direction="maximize", storage=f"sqlite:///{folder}/usual.db", pruner=optuna.pruners.NopPruner()
        )
        for trial in stored:
            study.enqueue_trial(trial.params)
        study.optimize(objective, n_trials=len(stored), n_jobs=2)


if __name__ == "__main__":
    main()
