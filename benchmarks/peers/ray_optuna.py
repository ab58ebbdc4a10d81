"""The usual way: Ray Tune with OptunaSearch and an ordinary DataLoader, as the documentation of the three shows it."""

import argparse
import json
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.search import ConcurrencyLimiter
from ray.tune.search.optuna import OptunaSearch


def train(config: dict[str, Any]) -> None:
    """Fine-tune, or train the head alone, and report every epoch."""
    # Ray sends a script's function by value, and torch cannot be sent.
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, Subset
    from torchvision import datasets, models, transforms

    size = config["image_size"]
    preprocess = transforms.Compose(
        [
            transforms.Resize(round(size * 256 / 224)),
            transforms.CenterCrop(size),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    folder = datasets.ImageFolder(config["folder"], preprocess)
    order = torch.randperm(len(folder), generator=torch.Generator().manual_seed(0)).tolist()
    cut = len(order) // 4
    loaders = {
        "validation": DataLoader(Subset(folder, order[:cut]), batch_size=64, num_workers=1),
        "train": DataLoader(
            Subset(folder, order[cut:]), batch_size=config["batch_size"], shuffle=True, drop_last=True, num_workers=1
        ),
    }
    model = models.squeezenet1_1()
    model.load_state_dict(torch.load(config["weights"], weights_only=True))
    frozen = config["freeze_mode"] == "backbone"
    model.requires_grad_(not frozen)
    model.classifier[1] = nn.Conv2d(512, len(folder.classes), kernel_size=1)
    optimizer = torch.optim.Adam((p for p in model.parameters() if p.requires_grad), lr=config["learning_rate"])
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
    loss_function = nn.CrossEntropyLoss()
    for _ in range(config["epochs"]):
        model.train(not frozen)
        for images, labels in loaders["train"]:
            optimizer.zero_grad()
            loss_function(model(images), labels).backward()
            optimizer.step()
        model.eval()
        loss, right = 0.0, 0
        with torch.no_grad():
            for images, labels in loaders["validation"]:
                logits = model(images)
                loss += loss_function(logits, labels).item() * len(labels)
                right += int((logits.argmax(1) == labels).sum())
        schedule.step(loss / cut)
        tune.report({"val_accuracy": right / cut, "val_loss": loss / cut})


def main() -> None:
    """Run the configurations of a file, two trials at a time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("configs", type=Path)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--image-size", type=int, required=True)
    parser.add_argument("--warm", action="store_true", help="reuse_actors=True")
    options = parser.parse_args()
    configs = json.loads(options.configs.read_text(encoding="utf-8"))
    ray.init(address="local", include_dashboard=False, log_to_driver=False)
    fixed = {"folder": options.folder, "weights": options.weights, "image_size": options.image_size}
    space = {
        **fixed,
        **{name: tune.choice(sorted({config[name] for config in configs})) for name in configs[0]},
    }
    search = OptunaSearch(points_to_evaluate=configs, metric="val_accuracy", mode="max")
    tuner = tune.Tuner(
        tune.with_resources(train, {"cpu": 1}),
        param_space=space,
        tune_config=tune.TuneConfig(
            search_alg=ConcurrencyLimiter(search, 2), num_samples=len(configs), reuse_actors=options.warm
        ),
    )
    results = tuner.fit()
    assert not results.errors


if __name__ == "__main__":
    main()
