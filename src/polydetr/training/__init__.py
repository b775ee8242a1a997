"""Training: one loop for every task and modality."""

from __future__ import annotations

import os
import sys

# Threads that wait for one another at every operation spin, unless told not to before PyTorch is loaded. Beside another
# program they then burn the very core that the last of them needs: training fell to a fifteenth with two such programs.
# A process that only answers keeps them spinning: one row at a time is answered sooner by threads that are awake.
if "torch" not in sys.modules and not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & os.environ.keys():
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
