"""make_networks.py - golden values of ResUNet++ and DDANet, in float64: python3 make_networks.py DIR

Writes keys_resunetpp.tsv and keys_ddanet.tsv into DIR: the tensors of the published state_dict in its order. Prints the rows of
zoo.tsv, and what each network costs. test/support/zoo_golden.h has the rule of values. Needs
PyTorch, for convolutions in float64.

Each network is stated twice here, and the statements check each other: a list of its tensors, and a function of the image that asks
for tensors by name. It must ask for all on the list, except for those that never run, and for no others.
"""
import sys

import numpy
import torch
import torch.nn.functional as F

IMAGE_INDEX = 1 << 20
CASES = (("eval", 2, 64, 64), ("train", 2, 64, 64), ("eval", 1, 96, 160), ("train", 1, 96, 160))
HEADER = "# name\tshape\tkind: p trained, i registered but never run, b buffer, c counter\n"


# ---- Draws ---------------------------------------------------------------------------------------------------------------


def draws(index, count):
    """Numbers of [0,1) for tensor `index` of a network: 24 bits of splitmix64's finaliser."""
    with numpy.errstate(over="ignore"):
        z = numpy.uint64(index << 32) + numpy.arange(count, dtype=numpy.uint64) + numpy.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> numpy.uint64(31))) >> numpy.uint64(40)).astype(numpy.float64) / 2.0**24


def as_tensor(values, shape):
    """As a file of weights has them: rounded to single precision."""
    return torch.from_numpy(values.astype(numpy.float32).astype(numpy.float64)).reshape(shape)


def value_of(index, name, shape):
    count = int(numpy.prod(shape, dtype=numpy.int64))
    u = draws(index, count)
    if len(shape) >= 2:
        return as_tensor((2 * u - 1) * numpy.sqrt(3.0 * shape[0] / count), shape)
    if not shape:
        return as_tensor(0 * u, shape)
    if name.endswith(("weight", "running_var")):
        return as_tensor(0.5 + u, shape)
    return as_tensor(0.2 * (2 * u - 1), shape)


def image_of(n, h, w):
    return as_tensor(2 * (2 * draws(IMAGE_INDEX, n * 3 * h * w) - 1), (n, 3, h, w))


# ---- Lists of tensors: (name, shape, kind) -------------------------------------------------------------------------------


def conv(name, c, out, k, bias=True):
    rows = [(name + ".weight", (out, c, k, k), "p")]
    return rows + [(name + ".bias", (out,), "p")] if bias else rows


def norm(name, c):
    rows = [(name + ".weight", (c,), "p"), (name + ".bias", (c,), "p")]
    return rows + [(name + ".running_mean", (c,), "b"), (name + ".running_var", (c,), "b"),
                   (name + ".num_batches_tracked", (), "c")]


def excite(name, c, hidden):
    return [(name + ".0.weight", (hidden, c), "p"), (name + ".2.weight", (c, hidden), "p")]


def list_resunetpp():
    def sequence(name, at, c, out):
        return norm(f"{name}.{at}", c) + conv(f"{name}.{at + 2}", c, out, 3)

    def tail(name, c, out):
        return conv(name + ".c2.0", c, out, 1) + norm(name + ".c2.1", out) + excite(name + ".attn.net", out, out // 8)

    def block(name, c, out):
        return sequence(name + ".c1", 0, c, out) + sequence(name + ".c1", 3, out, out) + tail(name, c, out)

    def aspp(name, c, out):
        rows = []
        for i in "1234":
            rows += conv(f"{name}.c{i}.0", c, out, 3) + norm(f"{name}.c{i}.1", out)
        return rows + conv(name + ".c5", out, out, 1)

    def decoder(name, skip, c, out):
        rows = sequence(name + ".a1.g_conv", 0, skip, c) + sequence(name + ".a1.x_conv", 0, c, c)
        return rows + sequence(name + ".a1.gc_conv", 0, c, c) + block(name + ".r1", skip + c, out)

    rows = conv("c1.c1.0", 3, 16, 3) + sequence("c1.c1", 1, 16, 16) + tail("c1", 3, 16)
    rows += block("c2", 16, 32) + block("c3", 32, 64) + block("c4", 64, 128) + aspp("b1", 128, 256)
    rows += decoder("d1", 64, 256, 128) + decoder("d2", 32, 128, 64) + decoder("d3", 16, 64, 32)
    return rows + aspp("aspp", 32, 16) + conv("output", 16, 1, 1)


def list_ddanet():
    def block(name, c, out):
        rows = conv(name + ".conv1", c, out, 3) + norm(name + ".bn1", out)
        rows += conv(name + ".conv2", out, out, 3) + norm(name + ".bn2", out)
        rows += conv(name + ".conv3", c, out, 1) + norm(name + ".bn3", out)
        return rows + excite(name + ".se.fc", out, out // 16)

    def decoder(name, c, out):
        rows = [(name + ".upsample.weight", (c, out, 4, 4), "p"), (name + ".upsample.bias", (out,), "p")]
        return rows + block(name + ".r1", c + out, out) + block(name + ".r2", out, out)

    def idle(rows):
        return [(name, shape, "i") for name, shape, _ in rows]

    rows = []
    for i, (c, out) in enumerate(((3, 32), (32, 64), (64, 128), (128, 256))):
        rows += block(f"e{i + 1}.r1", c, out) + block(f"e{i + 1}.r2", out, out)
    for side in "sa":
        for i, (c, out) in enumerate(((256, 128), (128, 64), (64, 32), (32, 16))):
            rows += decoder(f"{side}{i + 1}", c, out)
    for i, c in enumerate((128, 64, 32, 16)):
        rows += conv(f"m{i + 1}.0", c, 1, 1)
    return rows + conv("output1", 16, 1, 1) + idle(conv("output2", 16, 1, 1))


# ---- Networks as functions -----------------------------------------------------------------------------------------------


class Run:
    """One run of a network: its tensors by name, the mode of its batch norms, and what it costs: multiply-accumulates, and
    what the counter thop 0.1 counts besides for one image."""

    def __init__(self, values, train):
        self.values, self.train, self.used = values, train, set()
        self.macs, self.besides = 0, 0

    def get(self, name):
        self.used.add(name)
        return self.values[name]

    def conv(self, name, x, stride=1, dilation=1):
        weight = self.get(name + ".weight")
        pad = dilation * (weight.shape[2] - 1) // 2
        y = F.conv2d(x, weight, self.get(name + ".bias"), stride, pad, dilation)
        self.macs += weight.numel() * y.shape[2] * y.shape[3]
        return y

    def deconv(self, name, x):
        weight = self.get(name + ".weight")
        self.macs += weight.numel() * x.shape[2] * x.shape[3]
        self.besides += weight.numel() * x.shape[2] * x.shape[3] * 3  # it counts them for each output pixel
        return F.conv_transpose2d(x, weight, self.get(name + ".bias"), 2, 1)

    def norm(self, name, x):
        mean, var = self.get(name + ".running_mean"), self.get(name + ".running_var")
        self.used.add(name + ".num_batches_tracked")
        if self.train:
            mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
        self.besides += 4 * x[0].numel()
        y = (x - mean.view(1, -1, 1, 1)) / torch.sqrt(var.view(1, -1, 1, 1) + 1e-5)
        return y * self.get(name + ".weight").view(1, -1, 1, 1) + self.get(name + ".bias").view(1, -1, 1, 1)

    def excite(self, name, x):
        first, second = self.get(name + ".0.weight"), self.get(name + ".2.weight")
        self.macs += first.numel() + second.numel()
        self.besides += x[0].numel() + x.shape[1]  # the pool's sums and quotients
        share = torch.sigmoid(F.relu(x.mean((2, 3)) @ first.T) @ second.T)
        return x * share[:, :, None, None]


def resunetpp(run, image):
    def sequence(name, at, x, stride=1):
        return run.conv(f"{name}.{at + 2}", F.relu(run.norm(f"{name}.{at}", x)), stride)

    def tail(name, x, y, stride=1):
        return run.excite(name + ".attn.net", y + run.norm(name + ".c2.1", run.conv(name + ".c2.0", x, stride)))

    def block(name, x, stride=1):
        return tail(name, x, sequence(name + ".c1", 3, sequence(name + ".c1", 0, x, stride)), stride)

    def aspp(name, x):
        y = 0
        for i, rate in ((1, 1), (2, 6), (3, 12), (4, 18)):
            y = y + run.norm(f"{name}.c{i}.1", run.conv(f"{name}.c{i}.0", x, 1, rate))
        return run.conv(name + ".c5", y)

    def decoder(name, skip, x):
        pooled = F.max_pool2d(sequence(name + ".a1.g_conv", 0, skip), 2)
        x = x * sequence(name + ".a1.gc_conv", 0, pooled + sequence(name + ".a1.x_conv", 0, x))
        return block(name + ".r1", torch.cat((x.repeat_interleave(2, 2).repeat_interleave(2, 3), skip), 1))

    c1 = tail("c1", image, sequence("c1.c1", 1, run.conv("c1.c1.0", image)))
    c2 = block("c2", c1, 2)
    c3 = block("c3", c2, 2)
    x = aspp("b1", block("c4", c3, 2))
    x = decoder("d3", c1, decoder("d2", c2, decoder("d1", c3, x)))
    return [run.conv("output", aspp("aspp", x))]


def ddanet(run, image):
    def block(name, x):
        y = run.norm(name + ".bn2", run.conv(name + ".conv2", F.relu(run.norm(name + ".bn1", run.conv(name + ".conv1", x)))))
        return F.relu(y + run.excite(name + ".se.fc", run.norm(name + ".bn3", run.conv(name + ".conv3", x))))

    def decoder(name, x, skip):
        return block(name + ".r2", block(name + ".r1", torch.cat((run.deconv(name + ".upsample", x), skip), 1)))

    skips, x = [], image
    for i in "1234":
        skips.append(block(f"e{i}.r2", block(f"e{i}.r1", x)))
        x = F.max_pool2d(skips[-1], 2)
    grey = x
    for i in "1234":
        skip = skips.pop()
        x, grey = decoder("s" + i, x, skip), decoder("a" + i, grey, skip)
        x = x * torch.sigmoid(run.conv(f"m{i}.0", grey))
    return [run.conv("output1", x)]  # output2 makes the grey image of `grey`; it is no map of polyps


NETWORKS = {
    "resunetpp": (list_resunetpp, resunetpp),
    "ddanet": (list_ddanet, ddanet),
}


# ---- Files ---------------------------------------------------------------------------------------------------------------


def write_keys(path, rows):
    with open(path, "w") as to:
        to.write(HEADER)
        for name, shape, kind in rows:
            to.write(f"{name}\t{'x'.join(map(str, shape))}\t{kind}\n")


def outputs(name, mode, image, dtype=torch.float64):
    list_of, network = NETWORKS[name]
    rows = list_of()
    values = {key: value_of(k, key, shape).to(dtype) for k, (key, shape, _) in enumerate(rows)}
    run = Run(values, mode == "train")
    maps = network(run, image.to(dtype))
    assert run.used == {key for key, _, kind in rows if kind != "i"}, run.used
    return maps, run


def figures(x):
    flat = x.reshape(-1)
    picked = [flat[i * flat.numel() // 7] for i in range(7)]
    return [flat.mean(), flat.std(unbiased=False), flat.min(), flat.max()] + picked


def main(folder):
    for name, (list_of, _) in NETWORKS.items():
        write_keys(f"{folder}/keys_{name}.tsv", list_of())
        for mode, n, h, w in CASES:
            image = image_of(n, h, w)
            maps, _ = outputs(name, mode, image)
            single, _ = outputs(name, mode, image, torch.float32)
            for i, x in enumerate(maps):
                row = [name, mode, n, h, w, i] + [f"{float(v):.10g}" for v in figures(x)]
                print("\t".join(map(str, row + [f"{float((single[i].double() - x).abs().max()):.3g}"])), flush=True)
        count = sum(int(numpy.prod(shape)) for _, shape, kind in list_of() if kind in "pi")
        _, run = outputs(name, "eval", torch.zeros(1, 3, 352, 352, dtype=torch.float64))
        thop = run.macs + run.besides
        print(f"# {name}: {count} parameters; at 352 {run.macs / 1e9:.4f} GMAC, {thop / 1e9:.4f} G by thop", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    with torch.no_grad():
        main(sys.argv[1])
