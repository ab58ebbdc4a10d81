"""torch's Adam, without torch's compiler: it would be imported at the first step, which takes longer than many a trial.

torch wraps an optimiser's methods so that a compiler, if there is one, leaves them alone; the wrappers import it to say
so. Networks that are compiled still are; the optimiser is not part of them.
"""

import inspect
from typing import Any

import torch


class EagerAdam(torch.optim.Adam):
    """Adam (Kingma & Ba 2015) as torch has it, number for number, never compiled."""

    add_param_group: Any = inspect.unwrap(torch.optim.Adam.add_param_group)
    zero_grad: Any = inspect.unwrap(torch.optim.Adam.zero_grad)
    state_dict: Any = inspect.unwrap(torch.optim.Adam.state_dict)
    load_state_dict: Any = inspect.unwrap(torch.optim.Adam.load_state_dict)
    # The wrapper of `step` turns gradients off, too.
    step: Any = torch.no_grad()(inspect.unwrap(torch.optim.Adam.step))
