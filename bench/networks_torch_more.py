"""networks_torch_more.py - TransNetR, PEFNet, ResUNet++ and DDANet stated in PyTorch; see networks_torch.py."""
import torch
from torch import nn
from torch.nn import functional as F

from networks_torch import Colours, DEVIATION, MEAN, Residual, bgr, up


# ---- TransNetR ------------------------------------------------------------------------------------------

class Bottleneck(nn.Module):
    def __init__(self, i, planes, stride, first):
        super().__init__()
        o = 4 * planes
        self.conv1, self.bn1 = nn.Conv2d(i, planes, 1, bias=False), nn.BatchNorm2d(planes)
        self.conv2, self.bn2 = nn.Conv2d(planes, planes, 3, stride, 1, bias=False), nn.BatchNorm2d(planes)
        self.conv3, self.bn3 = nn.Conv2d(planes, o, 1, bias=False), nn.BatchNorm2d(o)
        self.downsample = nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o)) if first else None

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        return F.relu(self.bn3(self.conv3(y)) + (self.downsample(x) if self.downsample else x), inplace=True)


def bottlenecks(i, planes, count, stride):
    return nn.Sequential(*(Bottleneck(i if b == 0 else 4 * planes, planes, stride if b == 0 else 1, b == 0)
                           for b in range(count)))


class Narrow(nn.Module):
    """A convolution, a batch norm and, if wanted, LeakyReLU."""

    def __init__(self, i, o, k, act=True):
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(i, o, k, padding=k // 2), nn.BatchNorm2d(o))
        self.act = act

    def forward(self, x):
        x = self.conv(x)
        return F.leaky_relu(x, 0.1, inplace=True) if self.act else x


class LeakyResidual(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.LeakyReLU(0.1, inplace=True),
                                  nn.Conv2d(o, o, 3, padding=1), nn.BatchNorm2d(o))
        self.shortcut = nn.Sequential(nn.Conv2d(i, o, 1), nn.BatchNorm2d(o))

    def forward(self, x):
        return F.leaky_relu(self.conv(x) + self.shortcut(x), 0.1, inplace=True)


class ResidualTransformer(nn.Module):
    def __init__(self, i, o, d):
        super().__init__()
        self.c1, self.c2, self.c3 = Narrow(i, o, 3), Narrow(o, o, 1, False), Narrow(i, o, 1, False)
        self.te = nn.TransformerEncoder(nn.TransformerEncoderLayer(d, 4), 2, enable_nested_tensor=False)
        self.r1 = LeakyResidual(o, o)

    def forward(self, x):
        y = self.c1(x).contiguous()
        y = self.te(y.view(y.shape[0], y.shape[1] * 16, -1)).reshape(y.shape)
        return self.r1(F.leaky_relu(self.c2(y) + self.c3(x), 0.1, inplace=True))


class TransNetR(nn.Module):
    def __init__(self):
        super().__init__()
        self.colours = bgr()
        self.layer0 = nn.Sequential(nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True))
        self.layer1 = nn.Sequential(nn.MaxPool2d(3, 2, 1), bottlenecks(64, 64, 3, 1))
        self.layer2, self.layer3 = bottlenecks(256, 128, 4, 2), bottlenecks(512, 256, 6, 2)
        self.e1, self.e2, self.e3, self.e4 = (Narrow(c, 64, 1) for c in (64, 256, 512, 1024))
        self.r1, self.r2 = ResidualTransformer(128, 64, 64), ResidualTransformer(128, 64, 256)
        self.r3, self.outputs = LeakyResidual(128, 64), nn.Conv2d(64, 1, 1)

    def forward(self, x):
        x1 = self.layer0(self.colours(x))
        x2 = self.layer1(x1)
        x3 = self.layer2(x2)
        y = self.r1(torch.cat([up(self.e4(self.layer3(x3))), self.e3(x3)], 1))
        y = self.r2(torch.cat([up(y), self.e2(x2)], 1))
        y = self.r3(torch.cat([up(y), self.e1(x1)], 1))
        return [self.outputs(up(y))]


# ---- ResUNet++ ------------------------------------------------------------------------------------------

def norm_conv(i, o, stride=1):
    return [nn.BatchNorm2d(i), nn.ReLU(inplace=False), nn.Conv2d(i, o, 3, stride, 1)]


class Excite(nn.Module):
    """Squeeze and excitation, its layers in a sequence called `name`."""

    def __init__(self, c, hidden, name):
        super().__init__()
        self.name = name
        setattr(self, name, nn.Sequential(nn.Linear(c, hidden, bias=False), nn.ReLU(inplace=True),
                                          nn.Linear(hidden, c, bias=False), nn.Sigmoid()))

    def forward(self, x):
        return x * getattr(self, self.name)(x.mean((2, 3)))[:, :, None, None]


class PlusBlock(nn.Module):
    def __init__(self, i, o, stride=1, first=False):
        super().__init__()
        begin = [nn.Conv2d(i, o, 3, 1, 1)] if first else norm_conv(i, o, stride)
        self.c1 = nn.Sequential(*begin, *norm_conv(o, o))
        self.c2 = nn.Sequential(nn.Conv2d(i, o, 1, stride), nn.BatchNorm2d(o))
        self.attn = Excite(o, o // 8, "net")

    def forward(self, x):
        return self.attn(self.c1(x) + self.c2(x))


class Pyramid(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        for k, rate in ((1, 1), (2, 6), (3, 12), (4, 18)):
            setattr(self, f"c{k}", nn.Sequential(nn.Conv2d(i, o, 3, 1, rate, rate), nn.BatchNorm2d(o)))
        self.c5 = nn.Conv2d(o, o, 1)

    def forward(self, x):
        return self.c5(self.c1(x) + self.c2(x) + self.c3(x) + self.c4(x))


class PlusAttention(nn.Module):
    def __init__(self, skip, c):
        super().__init__()
        self.g_conv = nn.Sequential(*norm_conv(skip, c), nn.MaxPool2d(2))
        self.x_conv, self.gc_conv = nn.Sequential(*norm_conv(c, c)), nn.Sequential(*norm_conv(c, c))

    def forward(self, skip, x):
        return x * self.gc_conv(self.g_conv(skip) + self.x_conv(x))


class PlusDecoder(nn.Module):
    def __init__(self, skip, c, o):
        super().__init__()
        self.a1, self.r1 = PlusAttention(skip, c), PlusBlock(skip + c, o)

    def forward(self, skip, x):
        return self.r1(torch.cat([F.interpolate(self.a1(skip, x), scale_factor=2), skip], 1))


class ResUNetPP(nn.Module):
    def __init__(self):
        super().__init__()
        self.colours, self.c1, self.c2 = bgr(), PlusBlock(3, 16, first=True), PlusBlock(16, 32, 2)
        self.c3, self.c4, self.b1 = PlusBlock(32, 64, 2), PlusBlock(64, 128, 2), Pyramid(128, 256)
        self.d1, self.d2, self.d3 = PlusDecoder(64, 256, 128), PlusDecoder(32, 128, 64), PlusDecoder(16, 64, 32)
        self.aspp, self.output = Pyramid(32, 16), nn.Conv2d(16, 1, 1)

    def forward(self, x):
        c1 = self.c1(self.colours(x))
        c2 = self.c2(c1)
        c3 = self.c3(c2)
        x = self.d1(c3, self.b1(self.c4(c3)))
        return [self.output(self.aspp(self.d3(c1, self.d2(c2, x))))]


# ---- DDANet ---------------------------------------------------------------------------------------------

class Two(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.r1, self.r2 = Residual(i, o), Residual(o, o)

    def forward(self, x):
        return self.r2(self.r1(x))


class Enlarging(Two):
    def __init__(self, i, o):
        super().__init__(i + o, o)
        self.upsample = nn.ConvTranspose2d(i, o, 4, 2, 1)

    def forward(self, x, skip):
        return super().forward(torch.cat([self.upsample(x), skip], 1))


class DDANet(nn.Module):
    def __init__(self):
        super().__init__()
        self.colours, widths = bgr(), (3, 32, 64, 128, 256)
        for k in range(4):
            setattr(self, f"e{k + 1}", Two(widths[k], widths[k + 1]))
        for k, (i, o) in enumerate(((256, 128), (128, 64), (64, 32), (32, 16))):
            setattr(self, f"s{k + 1}", Enlarging(i, o))
            setattr(self, f"a{k + 1}", Enlarging(i, o))
            setattr(self, f"m{k + 1}", nn.Sequential(nn.Conv2d(o, 1, 1)))
        self.output1 = nn.Conv2d(16, 1, 1)

    def forward(self, x):
        x, skips = self.colours(x), []
        for k in "1234":
            skips.append(getattr(self, "e" + k)(x))
            x = F.max_pool2d(skips[-1], 2)
        grey = x
        for k in "1234":
            skip = skips.pop()
            x, grey = getattr(self, "s" + k)(x, skip), getattr(self, "a" + k)(grey, skip)
            x = x * torch.sigmoid(getattr(self, "m" + k)(grey))
        return [self.output1(x)]


# ---- PEFNet ---------------------------------------------------------------------------------------------

class Same(nn.Conv2d):
    """Pads as TensorFlow's SAME: the odd zero comes last."""

    def __init__(self, i, o, k, stride=1, bias=False, groups=1):
        super().__init__(i, o, k, stride, 0 if stride > 1 else k // 2, bias=bias, groups=groups)
        self.before = (k - stride) // 2

    def forward(self, x):
        if self.stride[0] > 1:
            after = self.kernel_size[0] - self.stride[0] - self.before
            x = F.pad(x, (self.before, after, self.before, after))
        return super().forward(x)


def unit(i, o, k, stride=1, bias=False, groups=1, momentum=0.1, act=True):
    layers = [Same(i, o, k, stride, bias, groups), nn.BatchNorm2d(o, 1e-3, momentum)]
    return nn.Sequential(*layers, *([nn.SiLU(inplace=True)] if act else []))


class Squeeze(nn.Module):
    def __init__(self, c, hidden):
        super().__init__()
        self.narrow, self.wide = nn.Conv2d(c, hidden, 1), nn.Conv2d(hidden, c, 1)

    def forward(self, x):
        return x * torch.sigmoid(self.wide(F.silu(self.narrow(x.mean((2, 3), keepdim=True)))))


class MBConv(nn.Module):
    def __init__(self, stage, i, o, expand, stride):
        super().__init__()
        wide, self.add = expand * i, stride == 1 and i == o
        if expand == 1:
            parts = [unit(i, o, 3, stride)]
        elif stage < 3:
            parts = [unit(i, wide, 3, stride), unit(wide, o, 1, act=False)]
        else:
            parts = [unit(i, wide, 1), unit(wide, wide, 3, stride, groups=wide), Squeeze(wide, i // 4),
                     unit(wide, o, 1, act=False)]
        self.parts = nn.Sequential(*parts)

    def forward(self, x):
        return x + self.parts(x) if self.add else self.parts(x)


class MultiKernel(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.parts = nn.ModuleList(unit(c, c, k, bias=True, momentum=0.01) for k in (1, 3, 5))

    def forward(self, x):
        return self.parts[0](x) + self.parts[1](x) + self.parts[2](x)


class Level(nn.Module):
    def __init__(self, i, c, side, kernels):
        super().__init__()
        self.enlarge, self.norm = nn.ConvTranspose2d(i, c, 4, 2, 1), nn.BatchNorm2d(c, 1e-3, 0.01)
        self.kernels = nn.ModuleList(MultiKernel(c) for _ in range(kernels))
        self.table = nn.Parameter(torch.randn(1, c, side, side) * 0.2)

    def forward(self, x, skip=None):
        x = F.silu(self.norm(self.enlarge(x)), inplace=True)
        x = x if skip is None else x + skip
        for k in self.kernels:
            x = k(x)
        return x + F.interpolate(self.table, x.shape[2:], mode="bilinear", align_corners=False)


class PEFNet(nn.Module):
    """Its tensors have names of their own."""

    def __init__(self):
        super().__init__()
        self.colours = Colours((0, 1, 2), [255 / 128 * d for d in DEVIATION], [255 / 128 * m - 1 for m in MEAN])
        self.stem, self.stages, i = unit(3, 32, 3, 2), nn.ModuleList(), 32
        for s, (expand, o, depth, stride) in enumerate(zip((1, 4, 4, 4, 6, 6), (16, 32, 48, 96, 112, 192),
                                                           (1, 2, 2, 3, 5, 8), (1, 2, 2, 2, 1, 2))):
            stage = []
            for b in range(depth):
                stage.append(MBConv(s, i, o, expand, 1 if b else stride))
                i = o
            self.stages.append(nn.Sequential(*stage))
        self.post = unit(192, 1280, 1)
        self.levels = nn.ModuleList(Level(i, o, side, 2) for i, o, side in (
            (1280, 112, 16), (112, 48, 32), (48, 32, 64), (32, 16, 128)))
        self.last, self.out = Level(16, 8, 256, 1), nn.Conv2d(8, 1, 1)

    def forward(self, x):
        x, maps = self.stem(self.colours(x)), []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        x = self.post(x)
        for level, skip in zip(self.levels, (maps[4], maps[2], maps[1], maps[0])):
            x = level(x, skip)
        return [self.out(self.last(x))]
