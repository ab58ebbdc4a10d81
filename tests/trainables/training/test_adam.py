"""Adam without the compiler's wrappers: the same numbers, and no compiler in a process that trains."""

import subprocess
import sys
from pathlib import Path

import torch
from torch import nn

from trainables.training.adam import EagerAdam

ROOT = Path(__file__).parents[3]


def trained(kind: type[torch.optim.Adam], halt: bool) -> tuple[list[torch.Tensor], list[str]]:
    """Train a layer for six steps, maybe through a state dict, and return its parameters and the optimiser's state."""
    torch.manual_seed(0)
    layer, images = nn.Linear(5, 3), torch.randn(8, 5)
    optimizer = kind([layer.weight], lr=0.1, fused=True)
    optimizer.add_param_group({"params": [layer.bias]})
    for step in range(6):
        if halt and step == 3:
            state = optimizer.state_dict()
            optimizer = kind([layer.weight], lr=9.9, fused=True)
            optimizer.add_param_group({"params": [layer.bias]})
            optimizer.load_state_dict(state)
        optimizer.zero_grad()
        layer(images).square().sum().backward()
        optimizer.step()
    return [one.detach() for one in layer.parameters()], [str(one) for one in optimizer.state.values()]


def test_it_gives_torchs_numbers_bit_for_bit() -> None:
    for halt in (False, True):
        parameters, state = trained(EagerAdam, halt)
        expected, expected_state = trained(torch.optim.Adam, halt)

        assert all(map(torch.equal, parameters, expected))
        assert state == expected_state


def test_a_trial_imports_no_compiler_and_a_compiled_network_does() -> None:
    script = (
        "import sys, torch\n"
        "from trainables import vision\n"
        "from trainables.config import DataConfig, ModelConfig, TrialConfig\n"
        "from trainables.training.trial import run_trial\n"
        "model = ModelConfig(backbone='tests.tiny_backbone:tiny', image_size=16)\n"
        "config = TrialConfig(data=DataConfig(dataset='digits'), model=model, learning_rate=1e-3, batch_size=512,"
        " epochs=1)\n"
        "assert len(list(run_trial(config, save=lambda state: None))) == 1\n"
        "loaded = {'torch._dynamo', 'torch._dynamo.utils', 'sympy'} & sys.modules.keys()\n"
        "assert not loaded, loaded\n"
        "from torch._dynamo.utils import is_compile_supported, counters\n"
        "from torchvision.ops import roi_align\n"
        "assert sys.modules['torchvision.ops.roi_align'].is_compile_supported('cpu') == is_compile_supported('cpu')\n"
        "assert torch.compile(lambda x: x + 1, backend='eager')(torch.ones(1)).item() == 2\n"
    )

    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)
