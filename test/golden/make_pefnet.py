"""make_pefnet.py - golden values of the network pefnet, in float64: python3 make_pefnet.py DIR

Writes forward_pefnet_<N>x<H>x<W>.tsv and .safetensors into DIR; their lines in manifest.tsv are printed. Needs PyTorch. The
network is stated here from the published Keras code, apart from src/model/pefnet.c. Weights and images are draws by name.
"""
import json
import struct
import sys

import numpy as np
import torch
import torch.nn.functional as F

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CASES = ((2, 64, 64, 1), (1, 96, 160, 1), (1, 256, 256, 4))
FILL = "golden.pefnet"


def unit(name, n):
    """Draws of the stream called `name`, as kd_test_unit() of test/support/check_util.c makes them."""
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = ((h ^ byte) * 0x100000001B3) & ((1 << 64) - 1)
    with np.errstate(over="ignore"):
        z = np.uint64(h) + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return 2.0 * (z >> np.uint64(11)).astype(np.float64) / 2.0**53 - 1.0


def draw(name, shape, scale, shift=0.0):
    values = shift + scale * unit(name, int(np.prod(shape)))
    return torch.from_numpy(values.astype(np.float32).astype(np.float64).reshape(shape))


# ---- Layers, by name ---------------------------------------------------------------------------------------------


def weight(name, shape):
    scale = 0.5 if name.endswith("embedding") else (3.0 / np.prod(shape[1:]))**0.5
    return draw(f"{FILL}.{name}", shape, scale)


def bias(name, n):
    return draw(f"{FILL}.{name}.bias", (n,), 0.1)


def same(x, k, stride):
    """Zeros as TensorFlow's SAME has them: the odd one comes last."""
    pads = []
    for size in (x.shape[3], x.shape[2]):
        need = max((-(-size // stride) - 1) * stride + k - size, 0)
        pads += [need // 2, need - need // 2]
    return F.pad(x, pads)


def conv(x, name, out, k, stride=1, has_bias=False):
    w = weight(f"{name}.weight", (out, x.shape[1], k, k))
    return F.conv2d(same(x, k, stride), w, bias(name, out) if has_bias else None, stride)


def depthwise(x, name, stride):
    c = x.shape[1]
    return F.conv2d(same(x, 3, stride), weight(f"{name}.weight", (c, 1, 3, 3)), None, stride, groups=c)


def norm(x, name):
    c, full = x.shape[1], f"{FILL}.{name}"
    return F.batch_norm(x, draw(f"{full}.running_mean", (c,), 0.1), draw(f"{full}.running_var", (c,), 0.2, 1.0),
                        draw(f"{full}.weight", (c,), 0.1, 1.0), bias(name, c), False, 0, 1e-3)


# ---- EfficientNetV2-B0 -------------------------------------------------------------------------------------------


def fused_block(x, name, expand, out, stride):
    if expand == 1:
        return F.silu(norm(conv(x, f"{name}_fu_conv", out, 3, stride), f"{name}_fu_bn"))
    y = F.silu(norm(conv(x, f"{name}_sortcut_conv", expand * x.shape[1], 3, stride), f"{name}_sortcut_bn"))
    return norm(conv(y, f"{name}_MB_pw_conv", out, 1), f"{name}_MB_pw_bn")


def mb_block(x, name, expand, out, stride):
    y = F.silu(norm(conv(x, f"{name}_sortcut_conv", expand * x.shape[1], 1), f"{name}_sortcut_bn"))
    y = F.silu(norm(depthwise(y, f"{name}_MB_dw_", stride), f"{name}_MB_dw_bn"))
    s = F.silu(conv(y.mean((2, 3), keepdim=True), f"{name}_se_1_conv", x.shape[1] // 4, 1, 1, True))
    y = y * torch.sigmoid(conv(s, f"{name}_se_2_conv", y.shape[1], 1, 1, True))
    return norm(conv(y, f"{name}_MB_pw_conv", out, 1), f"{name}_MB_pw_bn")


def encoder(x):
    expands, outs, depths = (1, 4, 4, 4, 6, 6), (16, 32, 48, 96, 112, 192), (1, 2, 2, 3, 5, 8)
    maps, x = [], F.silu(norm(conv(x, "backbone.stem_conv", 32, 3, 2), "backbone.stem_bn"))
    for s, (expand, out, depth, stride) in enumerate(zip(expands, outs, depths, (1, 2, 2, 2, 1, 2))):
        for i in range(depth):
            step = stride if i == 0 else 1
            y = (fused_block if s < 3 else mb_block)(x, f"backbone.stack_{s}_block{i}", expand, out, step)
            x = x + y if step == 1 and x.shape[1] == out else y
        maps.append(x)
    post = F.silu(norm(conv(x, "backbone.post_conv", 1280, 1), "backbone.post_bn"))
    return [maps[0], maps[1], maps[2], maps[4], post]


# ---- The decoder; Keras numbers its layers -----------------------------------------------------------------------


class Names:
    def __init__(self):
        self.count = {}

    def __call__(self, kind):
        i = self.count.get(kind, 0)
        self.count[kind] = i + 1
        return f"{kind}_{i}" if i else kind


def multi_kernel(x, names):
    total = 0
    for k in (1, 3, 5):
        y = conv(x, names("conv2d"), x.shape[1], k, 1, True)
        total = total + F.silu(norm(y, names("batch_normalization")))
    return total


def enlarge(x, c, names):
    name = names("conv2d_transpose")
    x = F.conv_transpose2d(x, weight(f"{name}.weight", (x.shape[1], c, 4, 4)), bias(name, c), 2, 1)
    return F.silu(norm(x, names("batch_normalization")))


def positioned(x, names, width):
    side = 256 * x.shape[3] // width
    name = f"{names('positional_embedding')}.positional_embedding"
    table = weight(name, (1, side, side, x.shape[1])).permute(0, 3, 1, 2)
    return x + F.interpolate(table, x.shape[2:], mode="bilinear", align_corners=False)


def network(image):
    mean, deviation = (torch.tensor(v, dtype=torch.float64).reshape(1, 3, 1, 1) for v in (MEAN, DEVIATION))
    names, width = Names(), image.shape[3]
    maps = encoder((image * deviation + mean) * 255 / 128 - 1)
    values = dict(zip(("s2", "s4", "s8", "s16", "s32"), maps))
    x = maps[4]
    for level, key in ((3, "d16"), (2, "d8"), (1, "d4"), (0, "d2")):
        x = multi_kernel(enlarge(x, maps[level].shape[1], names) + maps[level], names)
        x = values[key] = positioned(multi_kernel(x, names), names, width)
    x = positioned(multi_kernel(enlarge(x, 8, names), names), names, width)
    values["P1"] = conv(x, names("conv2d"), 1, 1, 1, True)
    return values


# ---- Files -------------------------------------------------------------------------------------------------------


def write_map(path, p1):
    data = p1.numpy().astype("<f4").tobytes()
    head = json.dumps({"P1": {"dtype": "F32", "shape": list(p1.shape), "data_offsets": [0, len(data)]}}).encode()
    head += b" " * (-len(head) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(head)) + head + data)


def write_table(path, values):
    with open(path, "w", encoding="ascii") as f:
        f.write("# key\tshape\tsum\tl2\tprobe\n")
        for key, x in values.items():
            v = x.numpy().reshape(-1)
            figures = (v.sum(), np.sqrt((v * v).sum()), v @ unit(f"probe.{key}", v.size))
            f.write("\t".join([key, "x".join(map(str, x.shape))] + ["%.17g" % n for n in figures]) + "\n")


for n, h, w, stride in CASES:
    case, image = f"forward_pefnet_{n}x{h}x{w}", f"golden.image.{n}x{h}x{w}"
    result = network(draw(image, (n, 3, h, w), 2.0))
    write_table(f"{sys.argv[1]}/{case}.tsv", result)
    write_map(f"{sys.argv[1]}/{case}.safetensors", result["P1"][:, :, ::stride, ::stride].contiguous())
    print(f"forward\t{case}\tmodel=pefnet\tfill={FILL}\timage={image}\tbatch={n}\theight={h}\twidth={w}\tstride={stride}")
