"""What one trial runs: backbones, weights, data and the training loop.

It knows nothing of Ray, Optuna or the command line.
"""

import os

# OpenMP's threads wait for each other by spinning, 300,000 rounds by GNU's default, which a busy neighbour turns into
# minutes: beside as many busy programs as CPUs a step took 3.4 times its time alone, with 3,000 rounds 2.4 times
# (docs/performance.md). The library reads this when torch is imported, and a user's own setting wins.
if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
    os.environ["GOMP_SPINCOUNT"] = "3000"
