"""The paper's way: one configuration after the other in one process, with an ordinary DataLoader."""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Subset
from torchvision import datasets, models, transforms


def train(config: dict[str, Any], options: argparse.Namespace) -> float:
    """Train one configuration and return its last validation accuracy."""
    preprocess = transforms.Compose(
        [
            transforms.Resize(round(options.image_size * 256 / 224)),
            transforms.CenterCrop(options.image_size),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    folder = datasets.ImageFolder(options.folder, preprocess)
    order = torch.randperm(len(folder), generator=torch.Generator().manual_seed(0)).tolist()
    cut = len(order) // 4
    validation = DataLoader(Subset(folder, order[:cut]), batch_size=64)
    training = DataLoader(Subset(folder, order[cut:]), batch_size=config["batch_size"], shuffle=True, drop_last=True)
    model = models.squeezenet1_1()
    model.load_state_dict(torch.load(options.weights, weights_only=True))
    frozen = config["freeze_mode"] == "backbone"
    model.requires_grad_(not frozen)
    model.classifier[1] = nn.Conv2d(512, len(folder.classes), kernel_size=1)
    optimizer = torch.optim.Adam((p for p in model.parameters() if p.requires_grad), lr=config["learning_rate"])
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
    loss_function = nn.CrossEntropyLoss()
    accuracy = 0.0
    for _ in range(config["epochs"]):
        model.train(not frozen)
        for images, labels in training:
            optimizer.zero_grad()
            loss_function(model(images), labels).backward()
            optimizer.step()
        model.eval()
        loss, right = 0.0, 0
        with torch.no_grad():
            for images, labels in validation:
                logits = model(images)
                loss += loss_function(logits, labels).item() * len(labels)
                right += int((logits.argmax(1) == labels).sum())
        schedule.step(loss / cut)
        accuracy = right / cut
    return accuracy


def main() -> None:
    """Run the configurations of a file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("configs", type=Path)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--image-size", type=int, required=True)
    options = parser.parse_args()
    for config in json.loads(options.configs.read_text(encoding="utf-8")):
        train(config, options)


if __name__ == "__main__":
    main()
