"""compare.py LIBRARY [NETWORK...] - ONNX files of networks, run by ONNX Runtime and OpenVINO, against libkdas itself.

`make check-onnx` runs it. For each network, with random weights and running statistics, it exports a file for each of two
sizes and two batches, and files in which batch, size or both are free, and feeds the same images to all. A network that takes
one size has that one alone. Files are checked by onnx.checker (full_check). Formats of input and output change from file to
file; WHOLE goes through all of them.
An output passes if its largest difference is at most 1e-4 of the range of ours (maximum - minimum); a probability, also if that of
its logits would: a sigmoid's slope is at most 1/4.
Networks on 8-bit grids (GRIDS) are made with the ranges that a training forward finds. There a value at the edge of two steps may
be rounded to either, and each such step changes many after it. So a runtime passes if the root mean square of its difference is at
most three times that of libkdas itself for images that differ by 1e-5, and 0.2% of the output's deviation. The row also says how
many layers have integer kernels in each runtime; too few are a failure.
Prints a row for each network, then "N passed, N failed".
"""
import ctypes as c
import itertools
import os
import sys
import tempfile

try:
    import numpy as np
    import onnx
    import onnxruntime
    import openvino
except ImportError as missing:
    print(f"SKIP: {missing}; install onnx, onnxruntime, openvino and numpy")
    sys.exit(0)

LIMIT = 1e-4
FREE = -1
INFER, TRAIN = 0, 2  # kdas_mode
SIZES = ((64, 96), (160, 128))
BATCHES = (1, 2)
INPUTS, LAYOUTS, MAPS = ("normalised", "unit", "bytes"), ("nchw", "nhwc"), ("sum", "each")
MEAN = np.array([0.485, 0.456, 0.406])
DEVIATION = np.array([0.229, 0.224, 0.225])
WHOLE = ("lite_fpn0", "pvt_v2_b0")  # through all formats
# On grids: layers that each runtime computes with integers, at least. ONNX Runtime has no integer convolution with a result in
# floats.
GRIDS = {"lite_fpn0": {"onnxruntime": 30, "openvino": 50}, "polyp_pvt_b0": {"onnxruntime": 45, "openvino": 70}}
INTEGER = ("QLinearConv", "QLinearMatMul", "MatMulIntegerToFloat", "QGemm")


class Options(c.Structure):
    _fields_ = [("size", c.c_size_t), ("batch", c.c_int64), ("height", c.c_int64), ("width", c.c_int64),
                ("input", c.c_int32), ("layout", c.c_int32), ("maps", c.c_int32), ("sigmoid", c.c_int32), ("floats", c.c_int32),
                ("reserved", c.c_int32)]


class ModelOptions(c.Structure):
    _fields_ = [("size", c.c_size_t), ("seed", c.c_uint64), ("drop_path", c.c_float), ("trainable", c.c_int32),
                ("quantize", c.c_int32), ("range_momentum", c.c_float), ("wide", c.c_char_p)]


class Network(c.Structure):
    _fields_ = [("size", c.c_size_t), ("name", c.c_char_p), ("height", c.c_int64), ("width", c.c_int64), ("fixed", c.c_int32),
                ("last", c.c_int32), ("colour", c.c_char_p), ("mean", c.c_float * 3), ("deviation", c.c_float * 3)]


class Kdas:
    """The library's functions; a failure is an exception with its sentence."""

    def __init__(self, path):
        self.lib = c.CDLL(path)
        for name in ("kdas_last_error", "kdas_model_name", "kdas_model_output", "kdas_model_tensor"):
            getattr(self.lib, name).restype = c.c_char_p
        self.lib.kdas_batch_images.restype = c.c_void_p
        self.lib.kdas_batch_images.argtypes = [c.c_void_p]
        self.context = c.c_void_p()
        self.call("kdas_context_create", c.byref(self.context), None)

    def call(self, name, *args):
        if getattr(self.lib, name)(*args) != 0:
            raise RuntimeError(f"{name}: {self.lib.kdas_last_error().decode()}")

    def networks(self):
        return [self.lib.kdas_model_name(i).decode() for i in range(100) if self.lib.kdas_model_name(i)]


class Model:
    def __init__(self, kdas, name, grids=False):
        self.kdas, self.lib, self.model = kdas, kdas.lib, c.c_void_p()
        o = ModelOptions()
        self.lib.kdas_model_options_init(c.byref(o), c.c_size_t(c.sizeof(o)))
        o.quantize, o.range_momentum, o.drop_path = int(grids), 1, 0
        kdas.call("kdas_model_create", c.byref(self.model), kdas.context, name.encode(), c.byref(o))
        self.maps, self.answer = self.lib.kdas_model_maps(self.model), self.lib.kdas_model_answer(self.model)
        facts = Network(size=c.sizeof(Network))
        kdas.call("kdas_network_describe", name.encode(), c.byref(facts))
        self.sizes = ((facts.height, facts.width),) if facts.fixed else SIZES
        self.stir(np.random.default_rng(len(name)))

    def stir(self, random):
        """Vectors begin as zeros and ones, which would hide an exchange."""
        dims, rank = (c.c_int64 * 4)(), c.c_int32()
        for i in range(self.lib.kdas_model_tensors(self.model)):
            name = self.lib.kdas_model_tensor(self.model, i, c.byref(rank), dims, None).decode()
            if rank.value != 1 or name.endswith("input_range"):
                continue
            ones = name.endswith(("running_var", "weight"))
            value = random.uniform(0.5, 1.5, dims[0]) if ones else random.uniform(-0.3, 0.3, dims[0])
            value = np.ascontiguousarray(value, np.float32)
            self.kdas.call("kdas_model_write", self.model, i, value.ctypes.data_as(c.c_void_p))

    def run(self, images, mode):
        """A forward of normalised (N,H,W,3); returns its batch."""
        batch = c.c_void_p()
        n, h, w, _ = images.shape
        self.kdas.call("kdas_batch_create", c.byref(batch), self.kdas.context, c.c_int64(n), c.c_int64(h), c.c_int64(w))
        c.memmove(self.lib.kdas_batch_images(batch), images.ctypes.data, images.nbytes)
        self.kdas.call("kdas_model_forward", self.model, mode, batch)
        return batch

    def find_ranges(self, images):
        self.lib.kdas_batch_destroy(self.run(images, TRAIN))

    def forward(self, images):
        """Outputs by name, (N,H,W,C), for normalised (N,H,W,3)."""
        found, dims = {}, (c.c_int64 * 4)()
        batch = self.run(images, INFER)
        for i in range(self.lib.kdas_model_outputs(self.model)):
            name = self.lib.kdas_model_output(self.model, i, dims)
            found[name.decode()] = np.empty(tuple(dims), np.float32)
            self.kdas.call("kdas_model_read_output", self.model, name, found[name.decode()].ctypes.data_as(c.c_void_p))
        self.lib.kdas_batch_destroy(batch)
        return found

    def export(self, path, **wanted):
        o = Options()
        self.lib.kdas_onnx_options_init(c.byref(o), c.c_size_t(c.sizeof(o)))
        for key, value in wanted.items():
            setattr(o, key, value)
        self.kdas.call("kdas_model_export_onnx", self.model, path.encode(), c.byref(o))

    def close(self):
        self.lib.kdas_model_destroy(self.model)


def expected(model, images, maps, sigmoid):
    """Our outputs as the file has them, in NHWC, each with the range that differences are measured by; a sum is that of the
    maps of the answer."""
    found = model.forward(images)
    if model.maps and not maps:
        found = {"probability" if sigmoid else "logits": sum(list(found.values())[model.answer:])}
    span = {name: max(float(np.ptp(x)), 1e-30) for name, x in found.items()}
    if model.maps and sigmoid:
        found = {name: 0.5 * (1 + np.tanh(0.5 * x)) for name, x in found.items()}
        span = {name: max(span[name] / 4, float(np.ptp(x))) for name, x in found.items()}
    return found, span


class Runtimes:
    """One file in both runtimes: name -> function from the image to outputs by name."""

    def __init__(self, path):
        onnx.checker.check_model(path, full_check=True)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        # f32 throughout: by default OpenVINO may compute in 16 bits
        self.compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(self, image):
        names = [o.name for o in self.session.get_outputs()]
        yield "onnxruntime", dict(zip(names, self.session.run(None, {"image": image})))
        found = self.compiled({"image": image})
        yield "openvino", {name: found[name] for name in names}


def difference(ours, theirs, span):
    if ours.shape != theirs.shape or not np.isfinite(theirs).all():
        return float("inf")
    return float(np.abs(ours - theirs).max() / span)


def compare(model, runtimes, size, batch, form, random):
    """The largest difference of each runtime."""
    unit = random.random((batch, *size, 3))
    fed = ((unit - MEAN) / DEVIATION, unit, unit * 255)[form["input"]].astype(np.float32)
    normal = np.ascontiguousarray((unit - MEAN) / DEVIATION, np.float32)
    ours, span = expected(model, normal, form["maps"], form["sigmoid"])
    nchw = form["layout"] == 0
    image = np.ascontiguousarray(fed.transpose(0, 3, 1, 2)) if nchw else fed
    worst = {}
    for runtime, found in runtimes.run(image):
        if set(found) != set(ours):
            raise RuntimeError(f"{runtime} has the outputs {sorted(found)}, not {sorted(ours)}")
        worst[runtime] = max(difference(ours[k].transpose(0, 3, 1, 2) if nchw else ours[k], found[k], span[k]) for k in ours)
    return worst


def files(model, name):
    """What is exported: sizes and batches that a file is run with, its size and batch, its format."""
    forms = [dict(zip(("input", "layout", "maps", "sigmoid"), f))
             for f in itertools.product(range(3), range(2), range(2 if model.maps else 1), range(2 if model.maps else 1))]
    turn = itertools.cycle(forms[i * 7 % len(forms)] for i in range(len(forms)))
    every = [(s, b) for s in model.sizes for b in BATCHES]
    for size, batch in every:
        yield [(size, batch)], size, batch, next(turn)
    yield [(model.sizes[0], b) for b in BATCHES], model.sizes[0], FREE, next(turn)
    if len(model.sizes) == 1:
        return
    for form in forms if name in WHOLE else [next(turn)]:
        yield every, (FREE, FREE), FREE, form
    yield [(s, 2) for s in model.sizes], (FREE, FREE), 2, next(turn)
    if name.endswith("0"):
        yield [((352, 352), 1)], (352, 352), 1, forms[0]


def check(kdas, name, folder):
    model, path, random, worst, count = Model(kdas, name), os.path.join(folder, name + ".onnx"), np.random.default_rng(1), {}, 0
    for runs, size, batch, form in files(model, name):
        model.export(path, height=size[0], width=size[1], batch=batch, **form)
        runtimes = Runtimes(path)
        for s, b in runs:
            count += 1
            for runtime, value in compare(model, runtimes, s, b, form, random).items():
                worst[runtime] = max(worst.get(runtime, 0), value)
                if value > LIMIT:
                    print(f"{name}: {runtime} differs by {value:.2g} at {s}, batch {b}, file of {size}, {batch}, {form}")
    model.close()
    print(f"{name:14} {count:3} runs, largest difference: " + ", ".join(f"{r} {v:.1e}" for r, v in worst.items()), flush=True)
    return max(worst.values()) <= LIMIT


def deviation(ours, theirs):
    """Root mean square of a difference, over the deviation of ours."""
    return float(np.sqrt(np.mean((ours - theirs) ** 2)) / np.std(ours))


def integer_layers(path, folder):
    """How many layers each runtime computes with integers."""
    optimised, options = os.path.join(folder, "optimised.onnx"), onnxruntime.SessionOptions()
    options.log_severity_level, options.optimized_model_filepath = 3, optimised
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    found = {"onnxruntime": sum(n.op_type in INTEGER for n in onnx.load(optimised).graph.node), "openvino": 0}
    for op in openvino.Core().compile_model(path, "CPU").get_runtime_model().get_ops():
        kind, precision = (str(op.get_rt_info()[key].astype(str)) for key in ("layerType", "runtimePrecision"))
        found["openvino"] += kind in ("Convolution", "FullyConnected") and precision in ("u8", "i8")
    return found


def check_grids(kdas, name, folder):
    model, path, random, worst = Model(kdas, name, grids=True), os.path.join(folder, name + ".onnx"), np.random.default_rng(1), {}
    unit = random.random((2, *SIZES[0], 3))
    images = np.ascontiguousarray((unit - MEAN) / DEVIATION, np.float32)
    model.find_ranges(images)
    ours = expected(model, images, 0, 0)[0]["logits"]
    limit = 3 * deviation(ours, expected(model, images * np.float32(1 + 1e-5), 0, 0)[0]["logits"]) + 0.002
    for size, batch in ((SIZES[0], 2), ((FREE, FREE), FREE)):
        model.export(path, height=size[0], width=size[1], batch=batch, layout=1)
        for runtime, found in Runtimes(path).run(images):
            worst[runtime] = max(worst.get(runtime, 0), deviation(ours, found["logits"]))
    model.close()
    layers = integer_layers(path, folder)
    few = [r for r in layers if layers[r] < GRIDS[name][r]]
    print(f"{name} on grids: " + ", ".join(f"{r} {worst[r]:.1e} of {limit:.1e}, {layers[r]} integer layers" for r in layers) +
          "".join(f"; {r} should have {GRIDS[name][r]}" for r in few), flush=True)
    return max(worst.values()) <= limit and not few


def main():
    kdas, failed = Kdas(os.path.abspath(sys.argv[1])), 0
    names = sys.argv[2:] or kdas.networks()
    print(f"onnx {onnx.__version__}, onnxruntime {onnxruntime.__version__}, openvino {openvino.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        checks = [(check, name) for name in names] + [(check_grids, name) for name in names if name in GRIDS]
        for run, name in checks:
            try:
                failed += not run(kdas, name, folder)
            except Exception as error:
                failed += 1
                print(f"{name}: {error}")
    print(f"{len(checks) - failed} passed, {failed} failed")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
