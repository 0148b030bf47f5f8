"""compare.py LIBRARY [NETWORK...] - ONNX files of networks, run by ONNX Runtime and OpenVINO, against libkdas itself.

`make check-onnx` runs it. For each network, with random weights and running statistics, it exports a file for each of two
sizes and two batches, and files in which batch, size or both are free, and feeds the same images to all. A network that takes
one size has that one alone. Files are checked by onnx.checker (full_check). Formats of input and output change from file to
file; WHOLE goes through all of them.
An output passes if its largest difference is at most 1e-4 of the range of ours (maximum - minimum); a probability, also if that of
its logits would: a sigmoid's slope is at most 1/4.
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
SIZES = ((64, 96), (160, 128))
BATCHES = (1, 2)
INPUTS, LAYOUTS, MAPS = ("normalised", "unit", "bytes"), ("nchw", "nhwc"), ("sum", "each")
MEAN = np.array([0.485, 0.456, 0.406])
DEVIATION = np.array([0.229, 0.224, 0.225])
WHOLE = ("lite_fpn0", "pvt_v2_b0")  # through all formats


class Options(c.Structure):
    _fields_ = [("size", c.c_size_t), ("batch", c.c_int64), ("height", c.c_int64), ("width", c.c_int64),
                ("input", c.c_int32), ("layout", c.c_int32), ("maps", c.c_int32), ("sigmoid", c.c_int32)]


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
    def __init__(self, kdas, name):
        self.kdas, self.lib, self.model = kdas, kdas.lib, c.c_void_p()
        kdas.call("kdas_model_create", c.byref(self.model), kdas.context, name.encode(), None)
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
            if rank.value != 1:
                continue
            ones = name.endswith(("running_var", "weight"))
            value = random.uniform(0.5, 1.5, dims[0]) if ones else random.uniform(-0.3, 0.3, dims[0])
            value = np.ascontiguousarray(value, np.float32)
            self.kdas.call("kdas_model_write", self.model, i, value.ctypes.data_as(c.c_void_p))

    def forward(self, images):
        """Outputs by name, (N,H,W,C), for normalised (N,H,W,3)."""
        batch, found, dims = c.c_void_p(), {}, (c.c_int64 * 4)()
        n, h, w, _ = images.shape
        self.kdas.call("kdas_batch_create", c.byref(batch), self.kdas.context, c.c_int64(n), c.c_int64(h), c.c_int64(w))
        c.memmove(self.lib.kdas_batch_images(batch), images.ctypes.data, images.nbytes)
        self.kdas.call("kdas_model_forward", self.model, 0, batch)
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


def main():
    kdas, failed = Kdas(os.path.abspath(sys.argv[1])), 0
    names = sys.argv[2:] or kdas.networks()
    print(f"onnx {onnx.__version__}, onnxruntime {onnxruntime.__version__}, openvino {openvino.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            try:
                failed += not check(kdas, name, folder)
            except Exception as error:
                failed += 1
                print(f"{name}: {error}")
    print(f"{len(names) - failed} passed, {failed} failed")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
