"""int8_peers.py - the part of bench/int8 that runs and times; see there.

Each peer is a process of its own, which is this file again with --one PEER:DTYPE. It loads its network once and then waits. In
every round each one runs in turn, while the others sleep: first runs that do not count, then those that are timed. So a slow
phase of the machine meets all of them. Weights are random, and so are the ranges of grids: neither changes the work.
Rows are tab-separated: peer, dtype, median ms, p99 ms, how many times as long as libkdas in int8 (median, p99).
"""
import argparse
import ctypes as c
import os
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
OURS = ("libkdas", "int8")
# In the order of a round. int8: the file that libkdas exports; int8-own: the peer's quantisation of the float file.
PEERS = (
    ("libkdas", "f32"), ("libkdas", "bf16"), OURS,
    ("onnxruntime", "f32"), ("onnxruntime", "int8"), ("onnxruntime", "int8-own"),
    ("openvino", "f32"), ("openvino", "bf16"), ("openvino", "int8"), ("openvino", "int8-own"),
    ("torch", "f32"),
)
PRECISION = {"f32": 0, "bf16": 1, "int8": 6}  # kdas_precision
INFER, TRAIN = 0, 2                            # kdas_mode
IMAGES = 16                                    # that the peers' own quantisation sees


def options():
    a = argparse.ArgumentParser(prog="int8", add_help=False, usage="int8 [OPTION...]", allow_abbrev=False)
    a.add_argument("--student", default="lite_fpn0", metavar="MODEL", help="default lite_fpn0")
    a.add_argument("--rounds", type=int, default=10, metavar="N", help="how often all run in turn (default 10)")
    a.add_argument("--reps", type=int, default=30, metavar="N", help="timed frames of a round (default 30)")
    a.add_argument("--warm-up", type=int, default=5, metavar="N", help="frames before them (default 5)")
    a.add_argument("--threads", type=int, default=2, metavar="N", help="default 2")
    a.add_argument("--size", type=int, default=352, metavar="N", help="pixels, a multiple of 32 (default 352)")
    a.add_argument("--only", metavar="NAMES", help="of peers and types, with commas: libkdas,openvino,int8")
    a.add_argument("--library", default=os.path.join(HERE, "..", "lib", "libkdas.so"), metavar="FILE",
                   help="default: that of this tree")
    a.add_argument("--reference", default=os.path.join(HERE, "..", "..", "shared", "reference"), metavar="DIR",
                   help="folder of PyTorch's networks\n(default: ../shared/reference beside this tree)")
    for hidden in ("--cache", "--one"):
        a.add_argument(hidden, help=argparse.SUPPRESS)
    for hidden in ("--check", "--options"):
        a.add_argument(hidden, action="store_true", help=argparse.SUPPRESS)
    o = a.parse_args()
    if o.options:
        print(a.format_help().split("\n\n", 1)[1].split("\n", 1)[1], end="")
        sys.exit(0)
    if not os.path.exists(o.library):
        a.error(f"there is no {o.library}; build it by make")
    if min(o.rounds, o.reps, o.threads) < 1 or o.warm_up < 0 or o.size < 32 or o.size % 32:
        a.error("--rounds, --reps and --threads want 1 or more, --size a multiple of 32")
    known = {name for peer in PEERS for name in peer}
    for name in (o.only or "").split(",") if o.only else []:
        if name not in known:
            a.error(f"--only: there is no '{name}'; there are {', '.join(sorted(known))}")
    return o


# ---- libkdas, by its C functions --------------------------------------------------------------------------

class ContextOptions(c.Structure):
    _fields_ = [("size", c.c_size_t), *((name, c.c_void_p) for name in (
        "device", "isa", "log", "log_user", "alloc", "free", "alloc_user", "plugin_path")),
                *((name, c.c_int32) for name in ("threads", "precision", "deterministic", "reserved"))]


class ModelOptions(c.Structure):
    _fields_ = [("size", c.c_size_t), ("seed", c.c_uint64), ("drop_path", c.c_float), ("trainable", c.c_int32),
                ("quantize", c.c_int32), ("range_momentum", c.c_float), ("wide", c.c_char_p)]


class OnnxOptions(c.Structure):
    _fields_ = [("size", c.c_size_t), *((name, c.c_int64) for name in ("batch", "height", "width")),
                *((name, c.c_int32) for name in ("input", "layout", "maps", "sigmoid", "floats", "reserved"))]


class Kdas:
    """A student in a context of a type."""

    def __init__(self, o, dtype, grids, trainable=False):
        self.lib, self.context, self.model, self.batch = c.CDLL(o.library), c.c_void_p(), c.c_void_p(), c.c_void_p()
        self.lib.kdas_last_error.restype = c.c_char_p
        self.lib.kdas_batch_images.restype, self.lib.kdas_batch_images.argtypes = c.c_void_p, [c.c_void_p]
        how = self.options(ContextOptions, "kdas_context_options_init")
        how.threads, how.precision = o.threads, PRECISION[dtype]
        self.call("kdas_context_create", c.byref(self.context), c.byref(how))
        how = self.options(ModelOptions, "kdas_model_options_init")
        how.quantize, how.trainable, how.range_momentum, how.drop_path = int(grids), int(trainable), 1, 0
        self.call("kdas_model_create", c.byref(self.model), self.context, o.student.encode(), c.byref(how))
        self.call("kdas_batch_create", c.byref(self.batch), self.context, c.c_int64(1), c.c_int64(o.size), c.c_int64(o.size))
        image = image_of(o).transpose(0, 2, 3, 1).copy()
        c.memmove(self.lib.kdas_batch_images(self.batch), image.ctypes.data, image.nbytes)

    def options(self, kind, init):
        made = kind()
        getattr(self.lib, init)(c.byref(made), c.c_size_t(c.sizeof(made)))
        return made

    def call(self, name, *args):
        if getattr(self.lib, name)(*args):
            raise RuntimeError(self.lib.kdas_last_error().decode())

    def forward(self, mode=INFER):
        self.call("kdas_model_forward", self.model, mode, self.batch)
        self.call("kdas_context_wait", self.context)

    def load(self, path):
        self.call("kdas_model_load", self.model, path.encode(), None)

    def save(self, path):
        self.call("kdas_model_save", self.model, path.encode())

    def export(self, o, path):
        how = self.options(OnnxOptions, "kdas_onnx_options_init")
        how.height = how.width = o.size
        self.call("kdas_model_export_onnx", self.model, path.encode(), c.byref(how))


# ---- what the peers read ----------------------------------------------------------------------------------

def file_of(o, what):
    return os.path.join(o.cache, f"{o.student}-{o.size}-{what}")


def image_of(o, seed=0):
    import numpy
    return numpy.random.default_rng(seed).standard_normal((1, 3, o.size, o.size), dtype=numpy.float32)


def make_ours(o):
    """The student with and without grids; ranges are those that a training forward finds."""
    floats, grids = Kdas(o, "f32", False), Kdas(o, "f32", True, trainable=True)
    floats.export(o, file_of(o, "f32.onnx"))
    grids.forward(TRAIN)
    grids.save(file_of(o, "int8.safetensors"))
    grids.export(o, file_of(o, "int8.onnx"))


def make_onnxruntime(o):
    from onnxruntime import quantization as q

    class Reader(q.CalibrationDataReader):
        def __init__(self):
            self.seeds = iter(range(IMAGES))

        def get_next(self):
            seed = next(self.seeds, None)
            return None if seed is None else {"image": image_of(o, seed)}
    ready = file_of(o, "ready.onnx")
    q.shape_inference.quant_pre_process(file_of(o, "f32.onnx"), ready, skip_symbolic_shape=True)
    q.quantize_static(ready, file_of(o, "int8-own.onnx"), Reader(), quant_format=q.QuantFormat.QDQ, per_channel=True,
                      activation_type=q.QuantType.QUInt8, weight_type=q.QuantType.QInt8)


def make_openvino(o):
    import nncf
    import openvino
    model = openvino.Core().read_model(file_of(o, "f32.onnx"))
    kind = nncf.ModelType.TRANSFORMER if "pvt" in o.student else None
    small = nncf.quantize(model, nncf.Dataset([image_of(o, seed) for seed in range(IMAGES)]), model_type=kind,
                          subset_size=IMAGES)
    openvino.save_model(small, file_of(o, "int8-own.xml"), compress_to_fp16=False)


# ---- one peer: a function that computes a frame -----------------------------------------------------------

def libkdas(o, dtype):
    k = Kdas(o, dtype, dtype == "int8")
    if dtype == "int8":
        k.load(file_of(o, "int8.safetensors"))
    return k.forward


def onnxruntime(o, dtype):
    import onnxruntime as peer
    how = peer.SessionOptions()
    how.intra_op_num_threads, how.inter_op_num_threads, how.log_severity_level = o.threads, 1, 3
    session = peer.InferenceSession(file_of(o, dtype + ".onnx"), how, providers=["CPUExecutionProvider"])
    image = {"image": image_of(o)}
    return lambda: session.run(None, image)


def openvino(o, dtype):
    """Where its file has integers, the rest is in bf16, as in libkdas."""
    import openvino as peer
    path = file_of(o, {"int8": "int8.onnx", "int8-own": "int8-own.xml"}.get(dtype, "f32.onnx"))
    request = peer.Core().compile_model(path, "CPU", {
        "INFERENCE_PRECISION_HINT": "f32" if dtype == "f32" else "bf16", "INFERENCE_NUM_THREADS": o.threads,
        "PERFORMANCE_HINT": "LATENCY"}).create_infer_request()
    image = image_of(o)
    return lambda: request.infer([image], share_inputs=True, share_outputs=True)


def torch(o, dtype):
    sys.path.insert(0, os.path.abspath(o.reference))
    import torch as peer
    peer.set_num_threads(o.threads)
    if o.student.startswith("polyp_pvt_b"):
        from polyp_pvt import PolypPVT
        network = PolypPVT(o.student[len("polyp_pvt_"):])
    elif o.student.startswith("lite_fpn"):
        import lite_fpn
        network = lite_fpn.LiteFPN(int(o.student[len("lite_fpn"):]))
    else:
        raise RuntimeError(f"the folder of references has no {o.student}")
    network = network.eval().to(memory_format=peer.channels_last)
    image = peer.from_numpy(image_of(o)).to(memory_format=peer.channels_last)

    def run():
        with peer.inference_mode():
            network(image)
    return run


def one(o):
    """Say "ready", then answer each line with the seconds of the timed frames."""
    peer, dtype = o.one.split(":")
    if peer == "make":
        {"ours": make_ours, "onnxruntime": make_onnxruntime, "openvino": make_openvino}[dtype](o)
        return
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a peer prints is no answer
    run = globals()[peer](o, dtype)
    run()
    answers.write("ready\n")
    for _ in sys.stdin:
        seconds = []
        for i in range(-o.warm_up, o.reps):
            start = time.perf_counter()
            run()
            if i >= 0:
                seconds.append(time.perf_counter() - start)
        answers.write(" ".join(f"{s:.7f}" for s in seconds) + "\n")


# ---- all in turn ------------------------------------------------------------------------------------------

def start(o, name):
    env = dict(os.environ, OMP_NUM_THREADS=str(o.threads))
    with open(os.path.join(o.cache, name.replace(":", "-") + ".log"), "w", encoding="utf-8") as log:
        return subprocess.Popen([sys.executable, os.path.abspath(__file__), *sys.argv[1:], "--one", name], env=env, text=True,
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)


def why(o, name):
    with open(os.path.join(o.cache, name.replace(":", "-") + ".log"), encoding="utf-8", errors="replace") as log:
        said = [line.strip() for line in log if line.strip()]
    return said[-1] if said else "it ended without a word"


def make(o, what):
    process = start(o, "make:" + what)
    process.communicate()
    if process.returncode:
        print(f"# {what}: {why(o, 'make:' + what)}", flush=True)
    return process.returncode == 0


def chosen(o):
    names = (o.only or "").split(",") if o.only else []
    peers = [n for n in names if any(n == peer for peer, _ in PEERS)]
    types = [n for n in names if any(n == dtype for _, dtype in PEERS)]
    return [(p, d) for p, d in PEERS if (not peers or p in peers) and (not types or d in types)]


def open_all(o):
    """The processes that are ready, by peer and type."""
    ready, wanted = {}, chosen(o)
    if not make(o, "ours"):
        sys.exit(1)
    for peer, dtype in wanted:
        if dtype == "int8-own" and not make(o, peer):
            continue
        process = start(o, f"{peer}:{dtype}")
        if process.stdout.readline() == "ready\n":
            ready[peer, dtype] = process
        else:
            process.wait()
            print(f"# {peer} {dtype}: {why(o, f'{peer}:{dtype}')}", flush=True)
    return ready


def measure(o, ready):
    """Seconds of every frame, by peer and type."""
    seconds = {key: [] for key in ready}
    for number in range(1, o.rounds + 1):
        for key, process in list(ready.items()):
            process.stdin.write("go\n")
            process.stdin.flush()
            answer = process.stdout.readline().split()
            if len(answer) != o.reps:
                print(f"# {' '.join(key)}: {why(o, ':'.join(key))}", flush=True)
                del ready[key], seconds[key]
                continue
            seconds[key] += [float(s) for s in answer]
        print(f"# round {number} of {o.rounds}", flush=True)
    return seconds


def quantile(values, share):
    """The smallest value that this share of them does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


def table(seconds):
    print("# peer\tdtype\tmedian ms\tp99 ms\ttimes libkdas int8, median\tp99")
    ours = seconds.get(OURS)
    for (peer, dtype), taken in seconds.items():
        row = [peer, dtype, *(f"{1e3 * quantile(taken, share):.2f}" for share in (0.5, 0.99))]
        if ours:
            row += [f"{quantile(taken, share) / quantile(ours, share):.2f}" for share in (0.5, 0.99)]
        print("\t".join(row))


def head(o):
    from importlib.metadata import PackageNotFoundError, version

    def known(package):
        try:
            return f"{package} {version(package)}"
        except PackageNotFoundError:
            return f"no {package}"
    print("# " + ", ".join(known(p) for p in ("onnxruntime", "openvino", "nncf", "torch")))
    print(f"# student={o.student} size={o.size} batch=1 threads={o.threads} rounds={o.rounds} reps={o.reps} "
          f"warm-up={o.warm_up}\n# inside the timer: forward of one image in memory. int8: the file that libkdas exports; "
          f"int8-own: the peer's own quantisation of the float file", flush=True)


def main():
    o = options()
    if o.check:
        return
    if o.one:
        one(o)
        return
    os.makedirs(o.cache, exist_ok=True)
    head(o)
    ready = open_all(o)
    seconds = measure(o, ready)
    for process in ready.values():
        process.stdin.close()
        process.wait()
    table(seconds)


if __name__ == "__main__":
    main()
