"""networks_peers.py - the part of bench/networks that runs and times; see there.

Each measurement is a process of its own, so that its peak memory is its own; this one, which starts them, stays small.
A peer's process is this file again with --one NETWORK:LAYOUT:FIGURE. Rows are tab-separated: network, peer, figure,
seconds (median of the runs), peak MiB.
"""
import argparse
import importlib
from importlib.metadata import version
import os
import resource
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
LAYOUTS = ("eager", "channels-last")
FIGURES = ("frame", "step")
ONLY_SIDE = {"transnetr": 256}
# Name: module, class, its arguments.
NETWORKS = {
    "unet": ("networks_torch", "UNet"),
    "unet_milesial": ("networks_torch", "UNetMilesial"),
    "unet_milesial_bilinear": ("networks_torch", "UNetMilesial", True),
    "unetpp": ("networks_torch", "UNetPP"),
    "unetpp_ds": ("networks_torch", "UNetPP", True),
    "pranet": ("networks_torch", "PraNet"),
    "msnet": ("networks_torch", "MSNet"),
    "hardnet_mseg": ("networks_torch", "HarDNetMSEG"),
    "colonsegnet": ("networks_torch", "ColonSegNet"),
    "transnetr": ("networks_torch_more", "TransNetR"),
    "pefnet": ("networks_torch_more", "PEFNet"),
    "resunetpp": ("networks_torch_more", "ResUNetPP"),
    "ddanet": ("networks_torch_more", "DDANet"),
}


def options():
    a = argparse.ArgumentParser(prog="networks", add_help=False, usage="networks [OPTION...]", allow_abbrev=False)
    a.add_argument("--only", metavar="NAMES", help="of networks, with commas (default: all)")
    a.add_argument("--rounds", type=int, default=2, metavar="N", help="how often all run in turn (default 2)")
    a.add_argument("--reps", type=int, default=2, metavar="N", help="timed runs of a figure (default 2)")
    a.add_argument("--threads", type=int, default=2, metavar="N", help="default 2")
    a.add_argument("--batch", type=int, default=2, metavar="N", help="images in a step (default 2)")
    a.add_argument("--size", type=int, default=352, metavar="N", help="pixels (default 352; transnetr: always 256)")
    a.add_argument("--kdas-bench", default=os.path.join(HERE, "..", "bin", "kdas-bench"), metavar="FILE",
                   help="default: that of this tree")
    a.add_argument("--one", help=argparse.SUPPRESS)
    a.add_argument("--options", action="store_true", help=argparse.SUPPRESS)
    o = a.parse_args()
    if o.options:
        print(a.format_help().split("\n\n", 1)[1].split("\n", 1)[1], end="")
        sys.exit(0)
    return o


def side(o, network):
    return ONLY_SIDE.get(network, o.size)


# ---- one peer, in a process of its own ------------------------------------------------------------------

def loss_of(F, p, y):
    """BCE and Dice, as libkdas's "bce_dice"."""
    s, t = p.sigmoid().flatten(1), y.flatten(1)
    dice = 1 - (2 * (s * t).sum(1) + 1) / (s.sum(1) + t.sum(1) + 1)
    return F.binary_cross_entropy_with_logits(p, y) + dice.mean()


def one(o):
    import torch
    network, layout, figure = o.one.split(":")
    module, name, *arguments = NETWORKS[network]
    torch.set_num_threads(o.threads)
    torch.manual_seed(0)
    form = torch.channels_last if layout == "channels-last" else torch.contiguous_format
    n, count = side(o, network), 1 if figure == "frame" else o.batch
    model = getattr(importlib.import_module(module), name)(*arguments).to(memory_format=form).train(figure == "step")
    images = torch.randn(count, 3, n, n).to(memory_format=form)
    masks = (torch.rand(count, 1, n, n) > 0.5).float()
    adamw = torch.optim.AdamW(model.parameters(), 1e-4, weight_decay=1e-4)

    def frame():
        with torch.inference_mode():
            model(images)

    def step():
        adamw.zero_grad(set_to_none=True)
        sum(loss_of(torch.nn.functional, p, masks) for p in model(images)).backward()
        for p in model.parameters():
            p.grad.clamp_(-0.5, 0.5)
        adamw.step()

    run, seconds = (frame if figure == "frame" else step), []
    for i in range(-1, o.reps):
        start = time.perf_counter()
        run()
        if i >= 0:
            seconds.append(time.perf_counter() - start)
    print(f"{statistics.median(seconds):.6f}\t{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f}")


# ---- all in turn ----------------------------------------------------------------------------------------

def run_process(command, o):
    env = dict(os.environ, OMP_NUM_THREADS=str(o.threads))
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=7200)
    if done.returncode:
        said = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        raise RuntimeError(said[-1].strip() if said else f"exit status {done.returncode}")
    return done.stdout


def measure(o, network, peer, figure):
    if peer != "libkdas":
        command = [sys.executable, os.path.abspath(__file__), *sys.argv[1:], "--one", f"{network}:{peer}:{figure}"]
        return [float(v) for v in run_process(command, o).split("\n")[-2].split("\t")]
    out = run_process([o.kdas_bench, "--student", network, "--teacher", "none", "--threads", str(o.threads),
                       "--size", str(side(o, network)), "--reps", str(o.reps), "--warm-up", "1", "--batch",
                       str(1 if figure == "frame" else o.batch),
                       "--only", "student" if figure == "frame" else "step"], o)
    row = [line for line in out.splitlines() if line and line[0] != "#"][-1].split("\t")
    return [float(row[1]), float(row[3])]


def main():
    o = options()
    if o.one:
        one(o)
        return
    names = o.only.split(",") if o.only else list(NETWORKS)
    print(f"# torch {version('torch')}, threads={o.threads} batch of a step={o.batch} size={o.size} rounds={o.rounds} "
          f"reps={o.reps}; f32; every row is a process of its own")
    print("# step: forward, BCE and Dice of every map, backward, clamp, AdamW; frame: forward of one image\n"
          "# network\tpeer\tfigure\tseconds\tpeak MiB", flush=True)
    rows = {}
    for _ in range(o.rounds):
        for key in [(n, p, f) for n in names for f in FIGURES for p in ("libkdas", *LAYOUTS)]:
            try:
                row = measure(o, *key)
                rows.setdefault(key, []).append(row)
                print("\t".join((*key, f"{row[0]:.5f}", f"{row[1]:.0f}")), flush=True)
            except RuntimeError as fault:
                print("\t".join((*key, "failed", str(fault))), flush=True)
    print("#\n# medians: network, figure, libkdas s, best PyTorch s, times faster, libkdas MiB, least PyTorch MiB, times smaller")
    for n in names:
        for f in FIGURES:
            middle = {p: [statistics.median(row[k] for row in rows[n, p, f]) for k in (0, 1)]
                      for p in ("libkdas", *LAYOUTS) if (n, p, f) in rows}
            theirs = [middle[p] for p in LAYOUTS if p in middle]
            if "libkdas" in middle and theirs:
                t, m = (min(row[k] for row in theirs) for k in (0, 1))
                ours = middle["libkdas"]
                print(f"{n}\t{f}\t{ours[0]:.4f}\t{t:.4f}\t{t / ours[0]:.2f}\t{ours[1]:.0f}\t{m:.0f}\t{m / ours[1]:.2f}")


if __name__ == "__main__":
    main()
