"""Training for long takes no more memory than training for short, but for its history."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

pytestmark = [
    pytest.mark.guarantee("memory"),
    pytest.mark.skipif(sys.platform != "linux", reason="what a process holds is read from /proc"),
]

GROWTH = """
import ctypes, gc, json, os, sys, tracemalloc
import numpy as np
import xpnet
from xpnet.runs.checkpoints import delete_old, write_checkpoint
from pathlib import Path

# NumPy asks for huge pages: one that the kernel grants between the two readings is 2 MiB that nobody allocated.
PR_SET_THP_DISABLE = 41
assert ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0
epochs, replicas, dtype, traced, checkpoints = json.loads(sys.argv[1])
rng = np.random.default_rng(0)
data = xpnet.data_from_arrays(rng.standard_normal((700, 200)), np.arange(700) % 4, split="500/100")
net = xpnet.Network(xpnet.NetworkConfig(inputs=200, hidden=(100, 20), classes=4), replicas=replicas, dtype=dtype)
config = xpnet.TrainConfig(epochs=epochs, batch_size=100, momentum=0.5, n_s=40)
held = {}

def bytes_held():
    gc.collect()
    if traced:
        return tracemalloc.get_traced_memory()[0]
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

class Watch(xpnet.Callback):
    def on_epoch_end(self, record):
        if record.epoch in (epochs // 10, epochs):
            held[record.epoch] = bytes_held()

    def on_checkpoint(self, point):
        if not checkpoints:
            return
        state = point.state()
        if state.epochs % 10 == 0:  # what is written is brought to the disk, which takes time
            write_checkpoint(Path("checkpoints"), state, {})
            delete_old(Path("checkpoints"), 2)

if traced:
    tracemalloc.start()
xpnet.train(net, data, config, callbacks=[Watch()])
first, last = held.values()
print(json.dumps([first, last - first]))
"""
# Of an epoch's record: eta and six figures for each network in float64, and what holds them.
A_RECORD, A_NETWORK = 1_700, 7 * 8
# The same as arrays, which double when they are full: step and wall times, and the figures of each network.
A_ROW, ROOM = 3 * 8, 2
NOISE = 2 * 2**20  # of the allocator


@pytest.mark.slow
@pytest.mark.parametrize(
    ("replicas", "dtype", "checkpoints", "traced", "epochs"),
    [
        (1, "float32", False, False, 1000),
        (4, "float32", False, False, 1000),
        (4, "float32", True, False, 300),
        (1, "float32", False, True, 300),
        (4, "float32", True, True, 300),
    ],
)
def test_a_long_training_holds_its_history_and_nothing_else(replicas, dtype, checkpoints, traced, epochs, harm):
    arguments = json.dumps([epochs, replicas, dtype, traced, checkpoints])
    # Each thread may get an arena of the allocator, which keeps a megabyte that was used once.
    environment = os.environ | {"MALLOC_ARENA_MAX": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", GROWTH, arguments],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, growth = json.loads(done.stdout)
    assert first > (2**20 if traced else 20 * 2**20)
    records = 0.9 * epochs * (A_RECORD + A_NETWORK * replicas) + ROOM * epochs * (A_ROW + A_NETWORK * replicas)
    assert growth < records + (0 if traced else NOISE), f"{growth:,} bytes in {0.9 * epochs:.0f} epochs"
    harm.did("epochs in which memory was watched", epochs)
