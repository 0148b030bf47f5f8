"""make_pytorch.py - small files as PyTorch writes them: python3 make_pytorch.py DIR

Writes the files that test/check_pytorch.c reads. Needs PyTorch (tried with 2.x). The tensors are in TENSORS; the
test has the same values. Files that PyTorch itself does not write any more (deflated entries, high byte first, the
tar form) are made of those that it does.
"""
import collections
import io
import os
import pickle
import sys
import tarfile
import zipfile

import numpy as np
import torch

ramp = torch.arange(6, dtype=torch.float32).reshape(2, 3) * 0.5 - 1  # -1, -0.5, 0, 0.5, 1, 1.5
base = torch.arange(24, dtype=torch.float32) * 0.25
TENSORS = collections.OrderedDict([
    ("f32", ramp),
    ("f64", ramp.double()),
    ("f16", ramp.half()),
    ("bf16", ramp.bfloat16()),
    ("i64", torch.tensor(7)),
    ("i32", torch.tensor([1, -2, 3], dtype=torch.int32)),
    ("i16", torch.tensor([1, -2, 3], dtype=torch.int16)),
    ("i8", torch.tensor([1, -2, 3], dtype=torch.int8)),
    ("u8", torch.tensor([1, 2, 255], dtype=torch.uint8)),
    ("bool", torch.tensor([True, False, True])),
    ("turned", ramp.t()),  # (3,2), strides 1 and 3
    ("steps", base[3::5]),  # 3, 8, 13, 18, 23 quarters
    ("block", base.reshape(2, 3, 4)[:, 1:, ::2]),  # (2,2,2) of the same storage
    ("wide", torch.tensor([[2.5]]).expand(2, 3)),  # strides 0
    ("parameter", torch.nn.Parameter(ramp.clone())),
    ("empty", torch.zeros(0, 3)),
])


def no_source(*_):
    raise OSError("files must not keep sources and their paths")


NET = """
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 2, 1)

    def forward(self, x):
        return self.conv(x)
"""
exec(NET)
torch.serialization.get_source_lines_and_file = no_source


def rewritten(source, target, how=zipfile.ZIP_STORED, change=lambda name, data: data):
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", how) as new:
        for entry in old.infolist():
            if entry.filename.endswith(".debug_pkl"):  # has the path of the source
                continue
            new.writestr(entry.filename, change(entry.filename, old.read(entry)))


def high_byte_first(sizes):
    def change(name, data):
        folder, _, key = name.rpartition("/")
        if name.endswith("byteorder"):
            return b"big"
        if not folder.endswith("/data"):
            return data
        return np.frombuffer(data, f"<u{sizes[key]}").byteswap().tobytes()
    return change


def element_sizes(path):
    """Bytes of an element, by the key of the storage."""
    sizes = {}

    class Reader(pickle.Unpickler):
        def persistent_load(self, saved):
            sizes[saved[2]] = saved[1].dtype.itemsize
            return torch.storage.TypedStorage(wrap_storage=torch.UntypedStorage(4096), dtype=saved[1].dtype,
                                              _internal=True)

    with zipfile.ZipFile(path) as z:
        name = next(n for n in z.namelist() if n.endswith("/data.pkl"))
        Reader(io.BytesIO(z.read(name))).load()
    return sizes


def main():
    out = sys.argv[1]

    def path(name):
        return os.path.join(out, name)

    old = {"_use_new_zipfile_serialization": False}
    torch.save(TENSORS, path("zip.pth"))
    torch.save(TENSORS, path("zip_protocol5.pth"), pickle_protocol=5)
    rewritten(path("zip.pth"), path("zip_deflated.pth"), zipfile.ZIP_DEFLATED)
    rewritten(path("zip.pth"), path("zip_big.pth"), change=high_byte_first(element_sizes(path("zip.pth"))))
    torch.save(TENSORS, path("old.pth"), **old)
    torch.save(TENSORS, path("old_protocol1.pth"), pickle_protocol=1, **old)
    torch.save(TENSORS, path("old_protocol4.pth"), pickle_protocol=4, **old)

    few = collections.OrderedDict([("a.weight", ramp), ("a.count", torch.tensor(3))])
    torch.save({"epoch": 3, "model": few, "ema": {"module": dict(few)}, "args": collections.Counter("ab"),
                "optimizer": {"state": {0: {"exp_avg": ramp}}}, "rng": torch.zeros(4, dtype=torch.uint8)}, path("sets.pth"))
    torch.save({"u16": torch.tensor([1, 65535], dtype=torch.uint16), "f8": ramp.to(torch.float8_e4m3fn), "ok": ramp},
               path("types.pth"))
    torch.save(Net(), path("module.pth"))
    torch.save({"net": Net(), "epoch": 1}, path("module_old.pth"), **old)
    torch.jit.trace(Net(), torch.zeros(1, 1, 2, 2)).save(path("script.pth"))
    rewritten(path("script.pth"), path("script.pth.small"), zipfile.ZIP_DEFLATED)
    os.replace(path("script.pth.small"), path("script.pth"))
    torch.save([1, "text", {"a": 2.5}], path("no_tensors.pth"))
    torch.save({"s": torch.eye(2).to_sparse(), "ok": ramp}, path("sparse.pth"))
    with open(path("bare.pkl"), "wb") as file:
        pickle.dump({"a": [1, 2]}, file)
    with tarfile.open(path("tar.pth"), "w") as tar:
        for name in ("sys_info", "pickle", "tensors", "storages"):
            entry = tarfile.TarInfo(name)
            entry.size = 1
            tar.addfile(entry, io.BytesIO(b"x"))
    with open(path("tar.pth"), "rb") as file:
        head = file.read(1024)
    with open(path("tar.pth"), "wb") as file:
        file.write(head)
    with zipfile.ZipFile(path("holds_one.zip"), "w") as z:
        z.writestr("package/models/net.safetensors", b"x")
    with zipfile.ZipFile(path("wheel.whl"), "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr("package/__init__.py", b"")
        z.write(path("old.pth"), "package/models/old.pth")
    with zipfile.ZipFile(path("holds_page.zip"), "w") as z:
        z.writestr("net.pth", b"<!DOCTYPE html><html>")
    np.savez(path("arrays.npz"), a=np.zeros(2))


if __name__ == "__main__":
    main()
