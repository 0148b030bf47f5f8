"""compare_peers.py - the part of bench/compare that runs and times; see there.

Each measurement is a process of its own, so that its peak memory is its own: bench/compare's process only starts them.
A peer's process is this file again with --one PEER:DTYPE:FIGURE; it prints the row that kdas-bench would print.
Rows are tab-separated: peer, dtype, figure, seconds (median of the runs), images/s, peak MiB.
"""
import argparse
import os
import re
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
KDAS = "libkdas"
TORCH = ("torch-eager", "torch-channels-last", "torch-compile")
EXPORTED = ("onnxruntime", "openvino")
FIGURES = ("step", "student", "frame", "share")
# What can be compared: a peer, its types, its figures. ONNX Runtime has no bf16 on x86.
PEERS = (
    [(KDAS, ("f32", "bf16"), FIGURES)]
    + [(name, ("f32", "bf16"), ("step", "student")) for name in TORCH]
    + [("onnxruntime", ("f32",), ("student",)), ("openvino", ("f32", "bf16"), ("student",))]
)
# PyTorch, oneDNN and MKL take their limit from the environment, OpenBLAS the processor to take this one for.
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "DNNL_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2", "OPENBLAS_CORETYPE": "Haswell", "KDAS_CPU_ISA": "avx2"}


def whole(low, high):
    def read(text):
        value = int(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{value} is not from {low} to {high}")
        return value
    return read


def side(text):
    value = whole(32, 4096)(text)
    if value % 32:
        raise argparse.ArgumentTypeError(f"{value} is not a multiple of 32")
    return value


def names(text):
    """What --only names, with commas: peers, types and figures."""
    known = {name for peer, dtypes, figures in PEERS for name in (peer, *dtypes, *figures)} | {"torch"}
    chosen = text.split(",")
    for name in chosen:
        if name not in known:
            raise argparse.ArgumentTypeError(f"there is no '{name}'; there are {', '.join(sorted(known))}")
    return chosen


def options():
    a = argparse.ArgumentParser(prog="compare", add_help=False, usage="compare [OPTION...]", allow_abbrev=False)
    a.add_argument("--rounds", type=whole(1, 100), metavar="N", help="how often all run in turn (default 3)")
    a.add_argument("--reps", type=whole(1, 1000), metavar="N", help="timed runs of a figure (default 3)")
    a.add_argument("--warm-up", type=whole(1, 1000), metavar="N", help="runs before them (default 2)")
    a.add_argument("--threads", type=whole(1, 1024), default=2, metavar="N", help="default 2")
    a.add_argument("--batch", type=whole(1, 1024), metavar="N", help="images in a step (default 16)")
    a.add_argument("--size", type=side, metavar="N", help="pixels, a multiple of 32 (default 352)")
    a.add_argument("--frame", default="1920x1080", metavar="WxH", help="of the whole frames (default 1920x1080)")
    a.add_argument("--isa", choices=("avx2",), help="limit libkdas and PyTorch to AVX2; 32-bit floats alone")
    a.add_argument("--quick", action="store_true", help="once, batch 2, 128 pixels: a look, no result")
    a.add_argument("--only", type=names, metavar="NAMES", help="of peers (torch: all of PyTorch), types and figures, "
                   "with commas: libkdas,torch,bf16,step")
    a.add_argument("--kdas-bench", default=os.path.join(HERE, "..", "bin", "kdas-bench"), metavar="FILE",
                   help="default: that of this tree")
    for hidden in ("--reference", "--cache", "--one"):
        a.add_argument(hidden, help=argparse.SUPPRESS)
    for hidden in ("--check", "--options"):
        a.add_argument(hidden, action="store_true", help=argparse.SUPPRESS)
    o = a.parse_args()
    if o.options:
        print(a.format_help().split("\n\n", 1)[1].split("\n", 1)[1], end="")
    if not os.access(o.kdas_bench, os.X_OK) and not o.options:
        a.error(f"there is no {o.kdas_bench}; build it by make")
    for name, quick, usual in (("rounds", 1, 3), ("reps", 1, 3), ("warm_up", 1, 2), ("batch", 2, 16), ("size", 128, 352)):
        if getattr(o, name) is None:
            setattr(o, name, quick if o.quick else usual)
    return o


# ---- one peer, in a process of its own ------------------------------------------------------------------

def timed(run, o, images):
    """Median seconds of the runs; prints the row's numbers."""
    import resource
    seconds = []
    for i in range(-o.warm_up, o.reps):
        start = time.perf_counter()
        run()
        if i >= 0:
            seconds.append(time.perf_counter() - start)
    middle = statistics.median(seconds)
    print(f"{middle:.6f}\t{images / middle:.3f}\t{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f}")


def torch_ready(o):
    import torch
    sys.path.insert(0, o.reference)
    torch.set_num_threads(o.threads)
    torch.manual_seed(0)
    if o.isa and hasattr(torch, "_inductor"):
        torch._inductor.config.cpp.simdlen = 256
    return torch


def torch_models(torch, o, peer, *variants):
    """The networks, and the images' layout, as the peer wants them."""
    from polyp_pvt import PolypPVT
    models, layout = [PolypPVT(v) for v in variants], torch.contiguous_format
    if peer == "torch-channels-last":
        layout = torch.channels_last
        models = [m.to(memory_format=layout) for m in models]
    calls = [torch.compile(m) for m in models] if peer == "torch-compile" else models
    return models, calls, layout


def torch_student(o, peer, dtype):
    torch = torch_ready(o)
    models, (student,), layout = torch_models(torch, o, peer, "b0")
    models[0].eval()
    image = torch.randn(1, 3, o.size, o.size).to(memory_format=layout)

    def run():
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16"):
            student(image)
    timed(run, o, 1)


def torch_step(o, peer, dtype):
    torch = torch_ready(o)
    import objective
    (student, teacher), (fs, ft), layout = torch_models(torch, o, peer, "b0", "b2")
    student.train()
    teacher.eval().requires_grad_(False)
    images = torch.randn(o.batch, 3, o.size, o.size).to(memory_format=layout)
    masks = (torch.rand(o.batch, 1, o.size, o.size) > 0.5).float()
    adamw = torch.optim.AdamW(student.parameters(), 1e-4, weight_decay=1e-4)

    def run():
        adamw.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16"):
            ours = fs(images)
            with torch.no_grad():
                theirs = ft(images)
        total, _ = objective.kdas([m.float() for m in ours], [m.float() for m in theirs], masks)
        total.backward()
        for p in student.parameters():
            p.grad.clamp_(-0.5, 0.5)
        adamw.step()
    timed(run, o, o.batch)


def exported(o):
    return os.path.join(o.cache, f"student-{o.size}.onnx")


def export(o):
    """The student as an ONNX file of one fixed size, made by PyTorch's current exporter."""
    torch = torch_ready(o)
    from polyp_pvt import PolypPVT
    os.makedirs(o.cache, exist_ok=True)
    part = exported(o) + ".part.onnx"
    torch.onnx.export(PolypPVT("b0").eval(), (torch.randn(1, 3, o.size, o.size),), part, dynamo=True,
                      input_names=["image"], external_data=False)
    os.replace(part, exported(o))


def image_of(o):
    import numpy
    return numpy.random.default_rng(0).standard_normal((1, 3, o.size, o.size), dtype=numpy.float32)


def onnxruntime_student(o, peer, dtype):
    import onnxruntime
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads, settings.inter_op_num_threads = o.threads, 1
    session = onnxruntime.InferenceSession(exported(o), settings, providers=["CPUExecutionProvider"])
    image = {session.get_inputs()[0].name: image_of(o)}
    timed(lambda: session.run(None, image), o, 1)


def openvino_student(o, peer, dtype):
    import openvino
    request = openvino.Core().compile_model(exported(o), "CPU", {
        "INFERENCE_PRECISION_HINT": dtype, "INFERENCE_NUM_THREADS": o.threads,
        "PERFORMANCE_HINT": "LATENCY"}).create_infer_request()
    image = image_of(o)
    timed(lambda: request.infer([image], share_inputs=True, share_outputs=True), o, 1)


def one(o):
    peer, dtype, figure = o.one.split(":")
    if peer == "export":
        export(o)
    elif peer in TORCH:
        (torch_step if figure == "step" else torch_student)(o, peer, dtype)
    else:
        {"onnxruntime": onnxruntime_student, "openvino": openvino_student}[peer](o, peer, dtype)


# ---- all in turn ----------------------------------------------------------------------------------------

def run_process(command, o):
    """What it printed; where it failed, the last line that it said as an error."""
    # One variable for every OpenMP in sight; nothing may choose more threads than asked for.
    env = dict(os.environ, OMP_NUM_THREADS=str(o.threads), **(AVX2 if o.isa else {}))
    try:
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=7200)
    except subprocess.TimeoutExpired:
        raise RuntimeError("it did not end within two hours")
    if done.returncode:
        said = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        raise RuntimeError(said[-1].strip() if said else f"exit status {done.returncode}")
    return done.stdout


def run_peer(name, o):
    return run_process([sys.executable, os.path.abspath(__file__), *sys.argv[1:], "--one", name], o)


def run_kdas(dtype, figure, o):
    """(seconds, images/s, peak) of libkdas; for a share, that of the measured rate; for a frame, times the network."""
    command = [o.kdas_bench, "--threads", str(o.threads), "--size", str(o.size), "--reps", str(o.reps),
               "--warm-up", str(o.warm_up), "--dtype", dtype, "--batch", "1" if figure == "student" else str(o.batch)]
    command += ["--isa", o.isa] if o.isa else []
    command += {"step": ["--only", "step"], "student": ["--only", "student"],
                "frame": ["--only", "frame", "--frame", o.frame], "share": ["--only", "step", "--profile"]}[figure]
    out = run_process(command, o)
    row = [line for line in out.splitlines() if line and line[0] != "#"][-1].split("\t")[1:]
    if figure == "share":
        row.append(re.search(r"([0-9.]+)% of the gemm rate", out).group(1) + "% of the measured gemm rate")
    if figure == "frame":
        row.append(re.search(r"takes ([0-9.]+) times", out).group(1) + " times the network alone")
    return row


def chosen(o):
    """The measurements of a round, in order."""
    only = o.only or []
    peers = [n for n in only if n == KDAS or n in EXPORTED or n.startswith("torch")]
    dtypes = ["f32"] if o.isa else [n for n in only if n in ("f32", "bf16")] or ["f32", "bf16"]
    figures = [n for n in only if n in FIGURES] or FIGURES
    for peer, theirs, can in PEERS:
        if peers and peer not in peers and not ("torch" in peers and peer in TORCH):
            continue
        if o.isa and peer in EXPORTED:  # they cannot be limited likewise
            continue
        for dtype in theirs:
            for figure in can:
                if dtype in dtypes and figure in figures and (figure != "share" or dtype == "f32"):
                    yield peer, dtype, figure


def run_rounds(o):
    """Rows of all rounds: {(peer, dtype, figure): [[seconds, images/s, peak, more...], ...]}."""
    rows, wanted = {}, list(chosen(o))
    if any(peer in EXPORTED for peer, _, _ in wanted) and not os.path.exists(exported(o)):
        run_peer("export::", o)
    for number in range(1, o.rounds + 1):
        print(f"# round {number} of {o.rounds}", flush=True)
        for peer, dtype, figure in wanted:
            try:
                row = run_kdas(dtype, figure, o) if peer == KDAS else \
                    run_peer(f"{peer}:{dtype}:{figure}", o).split("\n")[-2].split("\t")
                rows.setdefault((peer, dtype, figure), []).append(row)
            except RuntimeError as fault:
                row = ["failed", str(fault)]
            print("\t".join((peer, dtype, figure, *row)), flush=True)
    return rows


# ---- medians and ratios ---------------------------------------------------------------------------------

def medians(rows):
    """{(peer, dtype, figure): (seconds, peak)}; prints them."""
    result = {}
    print("#\n# medians of the rounds\n# peer\tdtype\tfigure\tseconds\tpeak MiB")
    for key, taken in rows.items():
        result[key] = tuple(statistics.median(float(row[k]) for row in taken) for k in (0, 2))
        print("\t".join((*key, f"{result[key][0]:.5f}", f"{result[key][1]:.0f}")))
        if len(taken[0]) > 3:
            values = [float(re.match(r"[0-9.]+", row[3]).group(0)) for row in taken]
            print(f"#   {statistics.median(values):g}{taken[0][3][len(re.match('[0-9.]+', taken[0][3]).group(0)):]}")
    return result


def ratio(text, ours, theirs, which, result):
    """One line: the best of the others over ours, or why there is none."""
    there = [key for key in theirs if key in result]
    if ours not in result or not there:
        print(f"{text}\t-\tnot measured")
        return
    best = min(there, key=lambda key: result[key][which])
    unit = "s" if which == 0 else "MiB"
    print(f"{text}\t{result[best][which] / result[ours][which]:.2f}\t{' '.join(best[:2])} {result[best][which]:.4g} {unit}, "
          f"libkdas {result[ours][which]:.4g} {unit}")


def ratios(result):
    torch = {dtype: {figure: [(peer, dtype, figure) for peer in TORCH] for figure in ("step", "student")}
             for dtype in ("f32", "bf16")}
    own = {(dtype, figure): (KDAS, dtype, figure) for dtype in ("f32", "bf16") for figure in FIGURES}
    print("#\n# how many times the best of the others is libkdas faster, or smaller\n# what\ttimes\tof")
    ratio("step f32, PyTorch", own["f32", "step"], torch["f32"]["step"], 0, result)
    ratio("step bf16, PyTorch", own["bf16", "step"], torch["bf16"]["step"], 0, result)
    ratio("step bf16, own f32", own["bf16", "step"], [own["f32", "step"]], 0, result)
    for dtype in ("f32", "bf16"):
        ratio(f"student b1 {dtype}, all", own[dtype, "student"],
              torch[dtype]["student"] + [(peer, dtype, "student") for peer in EXPORTED], 0, result)
    ratio("student b1 bf16, OpenVINO", own["bf16", "student"], [("openvino", "bf16", "student")], 0, result)
    for dtype in ("f32", "bf16"):
        ratio(f"peak memory of the step {dtype}, PyTorch", own[dtype, "step"], torch[dtype]["step"], 1, result)


def head(o):
    from importlib.metadata import version
    print("# " + ", ".join(f"{p} {version(p)}" for p in ("torch", "onnxruntime", "openvino")))
    print(f"# threads={o.threads} batch={o.batch} size={o.size} isa={o.isa or 'all'} rounds={o.rounds} reps={o.reps} "
          f"warm-up={o.warm_up}; every row is a process of its own")
    print("# inside the timer: step: student (training) and teacher forward, objective, backward, clamp, AdamW, gradients "
          "cleared; student: forward of one image\n# peer\tdtype\tfigure\tseconds\timages/s\tpeak MiB", flush=True)


def main():
    o = options()
    if o.check or o.options:
        return
    if o.one:
        one(o)
        return
    head(o)
    ratios(medians(run_rounds(o)))


if __name__ == "__main__":
    main()
