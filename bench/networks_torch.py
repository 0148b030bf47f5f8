"""networks_torch.py - the published networks stated in PyTorch, for bench/networks. The names of the tensors are
those of the libkdas networks, so that both can have the same values (PEFNet's are not); tensors that no layer reads are left out.
Images are those that every libkdas network takes: RGB with ImageNet's mean and deviation. Each network gives the
list of its logit maps.
"""
import torch
from torch import nn
from torch.nn import functional as F

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Colours(nn.Module):
    """The images in a network's own colours: factor[c] x[source[c]] + offset[c]."""

    def __init__(self, source, factor, offset):
        super().__init__()
        self.source = list(source)
        self.factor, self.offset = (torch.tensor(v).view(1, 3, 1, 1) for v in (factor, offset))

    def forward(self, x):
        return x[:, self.source] * self.factor + self.offset


def bgr(scale=1.0):
    """Blue, green, red in 0 .. 1."""
    return Colours((2, 1, 0), DEVIATION[::-1], MEAN[::-1])


def rgb():
    return Colours((0, 1, 2), DEVIATION, MEAN)


def bgr_of_imagenet():
    """Blue, green, red, normalised by ImageNet's figures for red, green, blue, and divided by 255 once more."""
    factor = [DEVIATION[2 - c] / DEVIATION[c] / 255 for c in range(3)]
    offset = [(MEAN[2 - c] - MEAN[c]) / DEVIATION[c] / 255 for c in range(3)]
    return Colours((2, 1, 0), factor, offset)


def up(x, factor=2, align=True):
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=align)


def up_to(x, like):
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=False)


def conv_bn_relu(i, o, bias=True):
    return [nn.Conv2d(i, o, 3, padding=1, bias=bias), nn.BatchNorm2d(o), nn.ReLU(inplace=True)]


# ---- U-Net and UNet++ -----------------------------------------------------------------------------------

class Pair(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o)
        self.conv2, self.bn2 = nn.Conv2d(o, o, 3, padding=1), nn.BatchNorm2d(o)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(x)), inplace=True)


WIDTHS = (32, 64, 128, 256, 512)


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.colours = bgr_of_imagenet()
        for i in range(5):
            setattr(self, f"conv{i}_0", Pair(WIDTHS[i - 1] if i else 3, WIDTHS[i]))
        for i in range(3, -1, -1):
            setattr(self, f"conv{i}_{4 - i}", Pair(WIDTHS[i] + WIDTHS[i + 1], WIDTHS[i]))
        self.final = nn.Conv2d(32, 1, 1)

    def forward(self, x):
        x, skips = self.colours(x), []
        for i in range(5):
            x = getattr(self, f"conv{i}_0")(F.max_pool2d(x, 2) if i else x)
            skips.append(x)
        for i in range(3, -1, -1):
            x = getattr(self, f"conv{i}_{4 - i}")(torch.cat([skips[i], up(x)], 1))
        return [self.final(x)]


class UNetPP(nn.Module):
    def __init__(self, deep=False):
        super().__init__()
        self.colours, self.deep = bgr_of_imagenet(), deep
        for j in range(5):
            for i in range(5 - j):
                width = j * WIDTHS[i] + WIDTHS[i + 1] if j else WIDTHS[i - 1] if i else 3
                setattr(self, f"conv{i}_{j}", Pair(width, WIDTHS[i]))
        for name in ("final1", "final2", "final3", "final4") if deep else ("final",):
            setattr(self, name, nn.Conv2d(32, 1, 1))

    def forward(self, image):
        node = {}
        for j in range(5):
            for i in range(5 - j):
                if j:
                    x = torch.cat([node[i, k] for k in range(j)] + [up(node[i + 1, j - 1])], 1)
                else:
                    x = F.max_pool2d(node[i - 1, 0], 2) if i else self.colours(image)
                node[i, j] = getattr(self, f"conv{i}_{j}")(x)
        if self.deep:
            return [getattr(self, f"final{j}")(node[0, j]) for j in range(1, 5)]
        return [self.final(node[0, 4])]


class Double(nn.Module):
    def __init__(self, i, o, middle=None):
        super().__init__()
        middle = middle or o
        self.double_conv = nn.Sequential(*conv_bn_relu(i, middle, False), *conv_bn_relu(middle, o, False))

    def forward(self, x):
        return self.double_conv(x)


class Down(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.maxpool_conv = nn.Sequential(nn.MaxPool2d(2), Double(i, o))

    def forward(self, x):
        return self.maxpool_conv(x)


class Up(nn.Module):
    def __init__(self, i, o, bilinear):
        super().__init__()
        self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True) if bilinear else \
            nn.ConvTranspose2d(i, i // 2, 2, stride=2)
        self.conv = Double(i, o, i // 2) if bilinear else Double(i, o)

    def forward(self, x, skip):
        return self.conv(torch.cat([skip, self.up(x)], 1))


class UNetMilesial(nn.Module):
    def __init__(self, bilinear=False):
        super().__init__()
        half = 2 if bilinear else 1
        self.colours, self.inc = rgb(), Double(3, 64)
        self.down1, self.down2, self.down3 = Down(64, 128), Down(128, 256), Down(256, 512)
        self.down4 = Down(512, 1024 // half)
        self.up1, self.up2 = Up(1024, 512 // half, bilinear), Up(512, 256 // half, bilinear)
        self.up3, self.up4 = Up(256, 128 // half, bilinear), Up(128, 64, bilinear)
        self.outc = nn.ModuleDict({"conv": nn.Conv2d(64, 1, 1)})

    def forward(self, x):
        x1 = self.inc(self.colours(x))
        x2 = self.down1(x1)
        x3 = self.down2(x2)
        x4 = self.down3(x3)
        x = self.up1(self.down4(x4), x4)
        return [self.outc["conv"](self.up4(self.up3(self.up2(x, x3), x2), x1))]


# ---- Res2Net, PraNet, MSNet -----------------------------------------------------------------------------

class Bottle2neck(nn.Module):
    def __init__(self, i, planes, stride, first):
        super().__init__()
        w = planes * 26 // 64
        self.w, self.first = w, first
        self.conv1, self.bn1 = nn.Conv2d(i, 4 * w, 1, bias=False), nn.BatchNorm2d(4 * w)
        self.convs = nn.ModuleList(nn.Conv2d(w, w, 3, stride, 1, bias=False) for _ in range(3))
        self.bns = nn.ModuleList(nn.BatchNorm2d(w) for _ in range(3))
        self.conv3, self.bn3 = nn.Conv2d(4 * w, 4 * planes, 1, bias=False), nn.BatchNorm2d(4 * planes)
        if first:
            self.pool = nn.AvgPool2d(3, stride, 1)
            self.downsample = nn.Sequential(
                nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False),
                nn.Conv2d(i, 4 * planes, 1, bias=False), nn.BatchNorm2d(4 * planes))

    def forward(self, x):
        parts = torch.split(F.relu(self.bn1(self.conv1(x)), inplace=True), self.w, 1)
        out, y = [], None
        for k in range(3):
            y = parts[k] if self.first or k == 0 else y + parts[k]
            y = F.relu(self.bns[k](self.convs[k](y)), inplace=True)
            out.append(y)
        out.append(self.pool(parts[3]) if self.first else parts[3])
        y = self.bn3(self.conv3(torch.cat(out, 1)))
        return F.relu(y + (self.downsample(x) if self.first else x), inplace=True)


class Res2Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Sequential(
            nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU(inplace=True),
            nn.Conv2d(32, 32, 3, 1, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU(inplace=True),
            nn.Conv2d(32, 64, 3, 1, 1, bias=False))
        self.bn1, i = nn.BatchNorm2d(64), 64
        for k, (planes, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3))):
            layer = []
            for b in range(blocks):
                layer.append(Bottle2neck(i, planes, 2 if k and b == 0 else 1, b == 0))
                i = 4 * planes
            setattr(self, f"layer{k + 1}", nn.Sequential(*layer))

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x)), inplace=True), 3, 2, 1)
        maps = [x]
        for k in range(4):
            x = getattr(self, f"layer{k + 1}")(x)
            maps.append(x)
        return maps


class Basic(nn.Module):
    """A convolution and a batch norm."""

    def __init__(self, i, o, k=1, padding=0, dilation=1):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(i, o, k, 1, padding, dilation, bias=False), nn.BatchNorm2d(o)

    def forward(self, x):
        return self.bn(self.conv(x))


class RFB(nn.Module):
    def __init__(self, i, o=32):
        super().__init__()
        self.branch0 = nn.Sequential(Basic(i, o))
        for b, k in ((1, 3), (2, 5), (3, 7)):
            setattr(self, f"branch{b}", nn.Sequential(
                Basic(i, o), Basic(o, o, (1, k), (0, k // 2)), Basic(o, o, (k, 1), (k // 2, 0)),
                Basic(o, o, 3, k, k)))
        self.conv_cat, self.conv_res = Basic(4 * o, o, 3, 1), Basic(i, o)

    def forward(self, x):
        y = torch.cat([getattr(self, f"branch{b}")(x) for b in range(4)], 1)
        return F.relu(self.conv_cat(y) + self.conv_res(x), inplace=True)


class Aggregation(nn.Module):
    def __init__(self, c=32):
        super().__init__()
        for i in range(1, 5):
            setattr(self, f"conv_upsample{i}", Basic(c, c, 3, 1))
        self.conv_upsample5 = Basic(2 * c, 2 * c, 3, 1)
        self.conv_concat2, self.conv_concat3 = Basic(2 * c, 2 * c, 3, 1), Basic(3 * c, 3 * c, 3, 1)
        self.conv4, self.conv5 = Basic(3 * c, 3 * c, 3, 1), nn.Conv2d(3 * c, 1, 1)

    def forward(self, x1, x2, x3):
        a = self.conv_upsample1(up(x1)) * x2
        b = self.conv_upsample2(up(up(x1))) * self.conv_upsample3(up(x2)) * x3
        c = self.conv_concat2(torch.cat([a, self.conv_upsample4(up(x1))], 1))
        d = self.conv_concat3(torch.cat([b, self.conv_upsample5(up(c))], 1))
        return self.conv5(self.conv4(d))


class PraNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.resnet, self.agg1 = Res2Net(), Aggregation()
        self.rfb2_1, self.rfb3_1, self.rfb4_1 = RFB(512), RFB(1024), RFB(2048)
        for level, i, o, k, count in ((4, 2048, 256, 5, 5), (3, 1024, 64, 3, 4), (2, 512, 64, 3, 4)):
            for n in range(1, count + 1):
                last = n == count
                size = 1 if n == 1 or (last and level == 4) else k
                setattr(self, f"ra{level}_conv{n}", Basic(i if n == 1 else o, 1 if last else o, size, size // 2))

    def reverse(self, level, x, m):
        y, n = x * (1 - torch.sigmoid(m)), 1
        while hasattr(self, f"ra{level}_conv{n + 1}"):
            y = getattr(self, f"ra{level}_conv{n}")(y)
            y, n = F.relu(y, inplace=True) if n > 1 else y, n + 1
        return getattr(self, f"ra{level}_conv{n}")(y) + m

    def forward(self, x):
        _, _, x2, x3, x4 = self.resnet(x)
        s5 = self.agg1(self.rfb4_1(x4), self.rfb3_1(x3), self.rfb2_1(x2))
        s4 = self.reverse(4, x4, up(s5, 0.25, False))
        s3 = self.reverse(3, x3, up(s4, 2, False))
        s2 = self.reverse(2, x2, up(s3, 2, False))
        return [up(s5, 8, False), up(s4, 32, False), up(s3, 16, False), up(s2, 8, False)]


class MSNet(nn.Module):
    UNITS = ("x5_x4", "x4_x3", "x3_x2", "x2_x1", "x5_x4_x3", "x4_x3_x2", "x3_x2_x1", "x5_x4_x3_x2", "x4_x3_x2_x1",
             "x5_dem_4", "x5_x4_x3_x2_x1", "level3", "level2", "level1", "output4", "output3", "output2")

    def __init__(self):
        super().__init__()
        self.resnet = Res2Net()
        for name, i in (("x5_dem_1", 2048), ("x4_dem_1", 1024), ("x3_dem_1", 512), ("x2_dem_1", 256),
                        *((name, 64) for name in self.UNITS), ("x5_dem_5", 2048)):
            setattr(self, name, nn.Sequential(*conv_bn_relu(i, 64)))
        self.output1 = nn.Sequential(nn.Conv2d(64, 1, 3, padding=1))

    def forward(self, image):
        x1, x2, x3, x4, x5 = self.resnet(image)
        top, x5 = self.x5_dem_5(x5), self.x5_dem_1(x5)
        x4, x3, x2 = self.x4_dem_1(x4), self.x3_dem_1(x3), self.x2_dem_1(x2)

        def apart(a, b):
            return torch.abs(up_to(a, b) - b)
        x54, x43 = self.x5_x4(apart(x5, x4)), self.x4_x3(apart(x4, x3))
        x32, x21 = self.x3_x2(apart(x3, x2)), self.x2_x1(apart(x2, x1))
        x543, x432 = self.x5_x4_x3(apart(x54, x43)), self.x4_x3_x2(apart(x43, x32))
        x321 = self.x3_x2_x1(apart(x32, x21))
        x5432, x4321 = self.x5_x4_x3_x2(apart(x543, x432)), self.x4_x3_x2_x1(apart(x432, x321))
        x54321 = self.x5_x4_x3_x2_x1(apart(self.x5_dem_4(x5432), x4321))
        y = self.output4(up_to(top, x54) + x54)
        level = self.level3(x43 + x543)
        y = self.output3(up_to(y, level) + level)
        level = self.level2(x32 + x432 + x5432)
        y = self.output2(up_to(y, level) + level)
        level = self.level1(x21 + x321 + x4321 + x54321)
        return [up_to(self.output1(up_to(y, level) + level), image)]


# ---- HarDNet-MSEG ---------------------------------------------------------------------------------------

class ConvLayer(nn.Sequential):
    def __init__(self, i, o, k=3, stride=1):
        super().__init__()
        self.add_module("conv", nn.Conv2d(i, o, k, stride, k // 2, bias=False))
        self.add_module("norm", nn.BatchNorm2d(o))
        self.add_module("relu", nn.ReLU6(inplace=True))


def links(layer):
    """The layers that a layer reads."""
    k, read = 1, []
    while layer % k == 0 and k <= layer:
        read.append(layer - k)
        k *= 2
    return read


class HarDBlock(nn.Module):
    def __init__(self, i, growth, count):
        super().__init__()
        width, layers = [i], []
        for n in range(1, count + 1):
            read = links(n)
            width.append(int(int(growth * 1.7 ** (len(read) - 1) + 1) / 2) * 2)
            layers.append(ConvLayer(sum(width[k] for k in read), width[n]))
        self.layers, self.count = nn.ModuleList(layers), count
        self.kept = [n for n in range(1, count + 1) if n % 2 or n == count]
        self.out = sum(width[n] for n in self.kept)

    def forward(self, x):
        y = [x]
        for n in range(1, self.count + 1):
            y.append(self.layers[n - 1](torch.cat([y[k] for k in links(n)], 1)))
        return torch.cat([y[n] for n in self.kept], 1)


class HarDNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.base, i = nn.ModuleList([ConvLayer(3, 32, 3, 2), ConvLayer(32, 64), nn.MaxPool2d(3, 2, 1)]), 64
        for growth, count, o, pool in ((14, 8, 128, True), (16, 16, 256, False), (20, 16, 320, True),
                                       (40, 16, 640, True), (160, 4, 1024, False)):
            block = HarDBlock(i, growth, count)
            self.base.extend([block, ConvLayer(block.out, o, 1)] + [nn.MaxPool2d(2)] * pool)
            i = o

    def forward(self, x):
        maps = []
        for n, layer in enumerate(self.base):
            x = layer(x)
            if n in (9, 12, 15):
                maps.append(x)
        return maps


class HarDNetMSEG(nn.Module):
    def __init__(self):
        super().__init__()
        self.hardnet, self.agg1 = HarDNet(), Aggregation()
        self.rfb2_1, self.rfb3_1, self.rfb4_1 = RFB(320), RFB(640), RFB(1024)

    def forward(self, x):
        x2, x3, x4 = self.hardnet(x)
        return [up(self.agg1(self.rfb4_1(x4), self.rfb3_1(x3), self.rfb2_1(x2)), 8, False)]


# ---- ColonSegNet ----------------------------------------------------------------------------------------

class SE(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.fc = nn.Sequential(nn.Linear(c, c // 16, bias=False), nn.ReLU(inplace=True),
                                nn.Linear(c // 16, c, bias=False), nn.Sigmoid())

    def forward(self, x):
        return x * self.fc(x.mean((2, 3)))[:, :, None, None]


class Residual(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o)
        self.conv2, self.bn2 = nn.Conv2d(o, o, 3, padding=1), nn.BatchNorm2d(o)
        self.conv3, self.bn3, self.se = nn.Conv2d(i, o, 1), nn.BatchNorm2d(o), SE(o)

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)), inplace=True)))
        return F.relu(y + self.se(self.bn3(self.conv3(x))), inplace=True)


class Strided(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(c, c, 3, 2, 1), nn.BatchNorm2d(c)

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)), inplace=True)


class Encoder(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.residual_block1, self.strided_conv, self.residual_block2 = Residual(i, o), Strided(o), Residual(o, o)

    def forward(self, x):
        first = self.residual_block1(x)
        return first, self.residual_block2(self.strided_conv(first))


class ColonSegNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.colours, self.e1, self.e2 = bgr(), Encoder(3, 64), Encoder(64, 256)
        self.t1, self.r1 = nn.ConvTranspose2d(256, 128, 4, 4), Residual(192, 128)
        self.t2, self.r2 = nn.ConvTranspose2d(256, 128, 4, 2, 1), Residual(256, 128)
        self.t3, self.r3 = nn.ConvTranspose2d(128, 64, 4, 2, 1), Residual(128, 64)
        self.t4, self.r4 = nn.ConvTranspose2d(64, 32, 4, 2, 1), Residual(96, 32)
        self.output = nn.Conv2d(32, 1, 1)

    def forward(self, x):
        s11, s12 = self.e1(self.colours(x))
        s21, s22 = self.e2(F.max_pool2d(s12, 2))
        y = self.r1(torch.cat([self.t1(s22), s12], 1))
        y = self.r2(torch.cat([y, self.t2(s21)], 1))
        y = self.r3(torch.cat([self.t3(y), s11], 1))
        return [self.output(self.r4(torch.cat([y, self.t4(s12)], 1)))]
