"""make_guidance.py - golden values of guidance beyond the paper, in float64: python3 make_guidance.py DIR

Writes guidance_<N>x<H>x<W>.tsv into DIR; their lines in manifest.tsv are printed. Needs numpy. Values follow the equations of
docs/objective.md; gradients are central differences of fourth order, whose error (about 1e-10 of the largest) is far
below what single precision is held to.
"""
import sys
import numpy as np

MASK = (1 << 64) - 1
EPS = 1e-6


def unit(name, n):
    """Draws of the stream called `name`, as kd_test_unit() of test/support/check_util.c makes them."""
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = ((h ^ byte) * 0x100000001B3) & MASK
    out = np.empty(n)
    for i in range(n):
        z = (h + (i + 1) * 0x9E3779B97F4A7C15) & MASK
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        out[i] = 2.0 * ((z ^ (z >> 31)) >> 11) / 2.0**53 - 1.0
    return out


def fill(name, shape, scale):
    return (scale * unit(name, int(np.prod(shape)))).astype(np.float32).astype(np.float64).reshape(shape)


# ---- The terms, of maps (N,H,W) ---------------------------------------------------------------------------------


def log_softmax(x):
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def rows_over_norm(x):
    return x / np.maximum(np.sqrt((x * x).sum(-1, keepdims=True)), EPS)


def centered(x):
    return x - x.mean(-1, keepdims=True)


def read(x, kind):
    if kind == "logits":
        return x
    if kind == "probability":
        return sigmoid(x)
    return (x - x.mean((1, 2), keepdims=True)) / x.std((1, 2), keepdims=True)


def attention(x, similarity):
    if similarity == "cosine":
        u = rows_over_norm(x)
        scores = 10 * u @ u.transpose(0, 2, 1)
    else:
        scores = x @ x.transpose(0, 2, 1) / np.sqrt(x.shape[2])
    return np.exp(log_softmax(scores)) @ x


def structure(a, sym):
    if sym == "sum":
        return a + a.transpose(0, 2, 1)
    c = centered(a)
    if sym == "correlation":
        c = rows_over_norm(c)
        return c @ c.transpose(0, 2, 1)
    return c @ c.transpose(0, 2, 1) / a.shape[2]


def bce(z, p):
    return (np.maximum(z, 0) - z * p + np.log1p(np.exp(-np.abs(z)))).mean()


def distance(s, t, kind, axis, tau):
    if kind == "squared":
        return ((s - t) ** 2).mean()
    if kind == "kl" and axis == "pixel":
        p = sigmoid(t / tau)
        return tau**2 * (bce(s / tau, p) - bce(t / tau, p))
    s, t = (v.reshape(-1, v.shape[2]) if axis == "row" else v.reshape(v.shape[0], -1) for v in (s, t))
    if kind == "pearson":
        return 1 - (rows_over_norm(centered(s)) * rows_over_norm(centered(t))).sum(1).mean()
    ls, lt = log_softmax(s / tau), log_softmax(t / tau)
    return tau**2 * (np.exp(lt) * (lt - ls)).sum(1).mean()


def terms(s, t, o, deepest):
    """kd and sgm of one map."""
    guidance, sym, axis, kind, similarity, dist, tau = o
    s, t = read(s, kind), read(t, kind)
    if guidance == "kl":
        return distance(s, t, dist, axis, tau), 0.0
    s, t = attention(s, similarity), attention(t, similarity)
    sgm = guidance == "attention+sgm" and deepest
    return distance(s, t, dist, axis, tau), distance(structure(s, sym), structure(t, sym), dist, axis, tau) if sgm else 0.0


def gradient(f, x, h=1e-3):
    g, flat = np.zeros(x.size), x.reshape(-1)
    for i in range(x.size):
        keep, values = flat[i], []
        for k in (-2, -1, 1, 2):
            flat[i] = keep + k * h
            values.append(f(x))
        flat[i] = keep
        g[i] = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * h)
    return g


ROWS = [  # guidance, sym, axis, input, similarity, distance, tau
    ("kl", "covariance", "spatial", "probability", "dot", "kl", 2),
    ("kl", "covariance", "spatial", "standardised", "dot", "kl", 2),
    ("kl", "covariance", "row", "standardised", "dot", "kl", 1),
    ("kl", "covariance", "pixel", "logits", "dot", "kl", 2),
    ("kl", "covariance", "pixel", "logits", "dot", "kl", 1),
    ("kl", "covariance", "spatial", "logits", "dot", "squared", 2),
    ("kl", "covariance", "spatial", "probability", "dot", "squared", 2),
    ("kl", "covariance", "spatial", "logits", "dot", "pearson", 2),
    ("kl", "covariance", "row", "logits", "dot", "pearson", 2),
    ("kl", "covariance", "spatial", "probability", "dot", "pearson", 2),
    ("attention", "covariance", "spatial", "logits", "cosine", "kl", 2),
    ("attention", "covariance", "pixel", "logits", "cosine", "kl", 4),
    ("attention", "covariance", "spatial", "logits", "cosine", "squared", 2),
    ("attention", "covariance", "spatial", "logits", "cosine", "pearson", 2),
    ("attention", "covariance", "spatial", "probability", "cosine", "kl", 2),
    ("attention", "covariance", "spatial", "standardised", "dot", "kl", 2),
    ("attention+sgm", "correlation", "spatial", "logits", "cosine", "kl", 2),
    ("attention+sgm", "correlation", "spatial", "logits", "cosine", "squared", 2),
    ("attention+sgm", "correlation", "row", "logits", "cosine", "pearson", 2),
    ("attention+sgm", "correlation", "spatial", "logits", "dot", "squared", 2),
    ("attention+sgm", "covariance", "spatial", "logits", "cosine", "kl", 2),
    ("attention+sgm", "covariance", "spatial", "standardised", "dot", "pearson", 2),
    ("attention+sgm", "correlation", "spatial", "standardised", "cosine", "squared", 2),
    ("attention+sgm", "sum", "spatial", "probability", "cosine", "squared", 2),
]


def write(folder, n, h, w, scale):
    name = f"guidance_{n}x{h}x{w}"
    s = [fill(f"{name}.s{i}", (n, h, w), scale) for i in (1, 2)]
    t = [fill(f"{name}.t{i}", (n, h, w), scale) for i in (1, 2)]
    with open(f"{folder}/{name}.tsv", "w", encoding="ascii") as file:
        file.write("# guidance|sym|axis|input|similarity|distance|tau\tkd\tsgm; gradN|...\tshape\tsum\tl2\tprobe\n")
        for o in ROWS:
            if o[1] == "sum" and h != w:
                continue
            key = "|".join(str(v) for v in o)
            both = [terms(s[i], t[i], o, i == 1) for i in (0, 1)]
            file.write(f"{key}\t{both[0][0] + both[1][0]:.17g}\t{both[1][1]:.17g}\n")
            for i in (0, 1):
                g = gradient(lambda x, i=i: sum(terms(x, t[i], o, i == 1)), s[i])
                probe = unit(f"probe.grad{i + 1}", g.size)
                file.write(
                    f"grad{i + 1}|{key}\t{n}x{h}x{w}\t{g.sum():.10g}\t{np.sqrt((g * g).sum()):.10g}\t{(g * probe).sum():.10g}\n"
                )
    print(f"guidance\t{name}\tbatch={n}\theight={h}\twidth={w}\tscale={scale}")


if __name__ == "__main__":
    write(sys.argv[1], 2, 6, 8, 2)
    write(sys.argv[1], 1, 32, 32, 4)
