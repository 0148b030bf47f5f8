"""make_feature.py - golden values of feature guidance, in float64: python3 make_feature.py DIR

Writes feature_<name>.tsv into DIR; their lines in manifest.tsv are printed. Needs nothing but Python. Values follow the equations
of docs/features.md; tensors are (N,H,W,C), the projection (teacher's channels, student's channels). Gradients are central
differences of fourth order, whose error (about 1e-10 of the largest) is far below what single precision is held to.
"""
import math
import struct
import sys

MASK = (1 << 64) - 1
KINDS = ("normalised", "cosine", "channel", "attention")
TAU = 4.0


def unit(name, n):
    """Draws of the stream called `name`, as kd_test_unit() of test/support/check_util.c makes them."""
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = ((h ^ byte) * 0x100000001B3) & MASK
    out = []
    for i in range(n):
        z = (h + (i + 1) * 0x9E3779B97F4A7C15) & MASK
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        out.append(2.0 * ((z ^ (z >> 31)) >> 11) / 2.0**53 - 1.0)
    return out


def fill(name, n, scale, shift):
    return [struct.unpack("f", struct.pack("f", shift + scale * u))[0] for u in unit(name, n)]


# ---- A tensor is a list of images, an image a list of positions in row order, a position a list of channels ------------


def tensor(flat, n, h, w, c):
    return [[flat[((i * h * w) + p) * c:((i * h * w) + p + 1) * c] for p in range(h * w)] for i in range(n)]


def project(x, weight, c_in):
    rows = [weight[o:o + c_in] for o in range(0, len(weight), c_in)]
    return [[[sum(a * b for a, b in zip(row, v)) for row in rows] for v in image] for image in x]


def mix(i, size, out):
    s = max((i + 0.5) * size / out - 0.5, 0.0)
    low = min(int(s), size - 1)
    return low, min(low + 1, size - 1), s - low


def resize(x, h, w, height, width):
    """Bilinear, half-pixel centres."""
    if (h, w) == (height, width):
        return x
    out = []
    for image in x:
        made = []
        for y in range(height):
            y0, y1, fy = mix(y, h, height)
            for z in range(width):
                x0, x1, fx = mix(z, w, width)
                corners = ((y0, x0, (1 - fy) * (1 - fx)), (y0, x1, (1 - fy) * fx), (y1, x0, fy * (1 - fx)), (y1, x1, fy * fx))
                made.append([sum(share * image[r * w + q][c] for r, q, share in corners) for c in range(len(image[0]))])
        out.append(made)
    return out


# ---- The kinds ---------------------------------------------------------------------------------------------------


def standardise(x):
    values = [v for image in x for v in image]
    out = []
    for column in zip(*values):
        mean = sum(column) / len(column)
        deviation = math.sqrt(sum((v - mean)**2 for v in column) / (len(column) - 1))
        out.append([(v - mean) / (deviation + 1e-4) for v in column])
    return out


def mean_square(a, b):
    pairs = [(p, q) for u, v in zip(a, b) for p, q in zip(u, v)]
    return sum((p - q)**2 for p, q in pairs) / len(pairs)


def over_norm(v):
    norm = max(math.sqrt(sum(x * x for x in v)), 1e-6)
    return [x / norm for x in v]


def cosine(s, t):
    pairs = [(u, v) for a, b in zip(s, t) for u, v in zip(a, b)]
    return 1 - sum(sum(p * q for p, q in zip(over_norm(u), over_norm(v))) for u, v in pairs) / len(pairs)


def log_softmax(v):
    top = max(v)
    total = top + math.log(sum(math.exp(x - top) for x in v))
    return [x - total for x in v]


def channel(s, t):
    sums = []
    for a, b in zip(s, t):
        for u, v in zip(zip(*a), zip(*b)):
            ls, lt = log_softmax([x / TAU for x in u]), log_softmax([x / TAU for x in v])
            sums.append(sum(math.exp(q) * (q - p) for p, q in zip(ls, lt)))
    return TAU**2 * sum(sums) / len(sums)


def energies(x):
    return [over_norm([sum(c * c for c in v) / len(v) for v in image]) for image in x]


def value(kind, s, t, weight, shape):
    n, sh, sw, sc, th, tw, tc = shape
    s, t = tensor(s, n, sh, sw, sc), tensor(t, n, th, tw, tc)
    if kind != "attention":
        s = project(s, weight, sc)
    s = resize(s, sh, sw, th, tw)
    if kind == "normalised":
        return mean_square(standardise(s), standardise(t))
    if kind == "cosine":
        return cosine(s, t)
    if kind == "channel":
        return channel(s, t)
    return mean_square(energies(s), energies(t))


def gradient(f, x, h=1e-3):
    out = []
    for i, keep in enumerate(x):
        values = []
        for k in (-2, -1, 1, 2):
            x[i] = keep + k * h
            values.append(f())
        x[i] = keep
        out.append((values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * h))
    return out


def digest(file, key, shape, g, stream):
    probe = unit(stream, len(g))
    file.write(f"{key}\t{shape}\t{sum(g):.10g}\t{math.sqrt(sum(x * x for x in g)):.10g}\t"
               f"{sum(x * p for x, p in zip(g, probe)):.10g}\n")


def write(folder, name, shape):
    n, sh, sw, sc, th, tw, tc = shape
    s = fill(f"{name}.s", n * sh * sw * sc, 2, 0.5)
    t = fill(f"{name}.t", n * th * tw * tc, 3, -0.5)
    weight = fill(f"{name}.w", tc * sc, 0.5, 0)
    with open(f"{folder}/{name}.tsv", "w", encoding="ascii") as file:
        file.write("# kind\tvalue; s|kind, w|kind: gradients\tshape\tsum\tl2\tprobe\n")
        for kind in KINDS:
            file.write(f"{kind}\t{value(kind, s, t, weight, shape):.17g}\n")
            digest(file, f"s|{kind}", f"{n}x{sh}x{sw}x{sc}", gradient(lambda: value(kind, s, t, weight, shape), s), "probe.s")
            if kind != "attention":
                g = gradient(lambda: value(kind, s, t, weight, shape), weight)
                digest(file, f"w|{kind}", f"{tc}x{sc}", g, "probe.w")
    print(f"feature\t{name}\tbatch={n}\tsh={sh}\tsw={sw}\tsc={sc}\tth={th}\ttw={tw}\ttc={tc}")


if __name__ == "__main__":
    write(sys.argv[1], "feature_same", (2, 4, 5, 6, 4, 5, 7))
    write(sys.argv[1], "feature_up", (2, 2, 3, 5, 5, 7, 9))
    write(sys.argv[1], "feature_down", (1, 6, 8, 3, 3, 4, 5))
