"""ranks_torch.py - the step of bench_ranks.c by PyTorch's DistributedDataParallel over gloo: the peer of bench/ranks.

Started once for each rank, with RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT in the environment. Rank 0 prints ranks, threads,
least and median seconds of a step.
"""
import argparse
import os
import statistics
import sys
import time

a = argparse.ArgumentParser()
a.add_argument("--reference", required=True)
a.add_argument("--threads", type=int, default=1)
a.add_argument("--batch", type=int, default=2)
a.add_argument("--side", type=int, default=352)
a.add_argument("--steps", type=int, default=10)
o = a.parse_args()
sys.path.insert(0, o.reference)

import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
import objective  # noqa: E402
from polyp_pvt import PolypPVT  # noqa: E402

torch.set_num_threads(o.threads)
torch.manual_seed(0)
world = int(os.environ.get("WORLD_SIZE", "1"))
rank = int(os.environ.get("RANK", "0"))
if world > 1:
    dist.init_process_group("gloo")
student = PolypPVT("b0").train()
# Layers that a step does not reach have no gradient.
net = torch.nn.parallel.DistributedDataParallel(student, find_unused_parameters=True) if world > 1 else student
images = torch.randn(o.batch, 3, o.side, o.side)
masks = (torch.rand(o.batch, 1, o.side, o.side) > 0.5).float()
adamw = torch.optim.AdamW(student.parameters(), 1e-4, weight_decay=1e-4)
seconds = []
for i in range(-2, o.steps):
    if world > 1:
        dist.barrier()
    start = time.perf_counter()
    adamw.zero_grad(set_to_none=True)
    sum(objective.bce(m, masks) + objective.dice(m, masks) for m in net(images)).backward()
    for p in student.parameters():
        if p.grad is not None:
            p.grad.clamp_(-0.5, 0.5)
    adamw.step()
    if i >= 0:
        seconds.append(time.perf_counter() - start)
if rank == 0:
    print(f"{world}\t{o.threads}\t{min(seconds):.4f}\t{statistics.median(seconds):.4f}")
if world > 1:
    dist.destroy_process_group()
