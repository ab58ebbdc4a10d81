"""Search spaces: TOML files, and the loader that turns them into Optuna distributions.

A file has a table ``parameters`` and any number of ``enqueue`` entries::

    [parameters]
    batch_size = { choices = [16, 32, 64] }       # choices
    epochs = { low = 10, high = 50, step = 10 }   # a range; low, high, and log or step where wanted
    freeze_mode = "none"                          # a constant

    [[parameters.learning_rate]]                  # alternatives, each under a condition
    low = 1e-5
    high = 1e-3
    log = true
    when = { freeze_mode = "none" }

    [[enqueue]]                                   # a configuration to try first; what it leaves out is sampled
    learning_rate = 1e-4
    batch_size = 64

The parameters are those of the trainable (`search_spaces.parameters`): of fine-tuning `learning_rate`, `batch_size`,
`epochs` and `freeze_mode`, all four in each file. A file without ``parameters`` takes those of the space that it is
laid over.
"""

from search_spaces.files import builtin, for_study, load
from search_spaces.grid import grid
from search_spaces.parameters import ParamValue
from search_spaces.sampling import suggest
from search_spaces.space import Alternative, SearchSpace, SpaceError, from_dict, to_dict

__all__ = [
    "Alternative",
    "ParamValue",
    "SearchSpace",
    "SpaceError",
    "builtin",
    "for_study",
    "from_dict",
    "grid",
    "load",
    "suggest",
    "to_dict",
]
