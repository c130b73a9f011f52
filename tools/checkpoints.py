"""Other forms of a checkpoint of one safetensors file: shards, and what PyTorch saves. Standard library only."""

import json
import shutil
import struct
import zipfile

INDEX = "model.safetensors.index.json"


def read(folder):
    """The tensors of `folder`'s weights: name to (entry of the header, bytes)."""
    data = (folder / "model.safetensors").read_bytes()
    begin = 8 + struct.unpack_from("<Q", data)[0]
    header = json.loads(data[8:begin])
    header.pop("__metadata__", None)
    at = lambda entry: data[begin + entry["data_offsets"][0] : begin + entry["data_offsets"][1]]
    return {name: (entry, at(entry)) for name, entry in header.items()}


def with_companions(source, folder):
    """Makes `folder` with everything of `source` but the weights."""
    folder.mkdir(parents=True)
    for name in ("README.md", "config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(source / name, folder / name)


def write_shards(source, folder, n_shards):
    """The weights of `source` in `n_shards` files of about one size, and their index."""
    with_companions(source, folder)
    tensors = read(source)
    share = sum(len(data) for _, data in tensors.values()) / n_shards
    shards, done = [{} for _ in range(n_shards)], 0
    for name, tensor in tensors.items():
        shards[min(int(done / share), n_shards - 1)][name] = tensor
        done += len(tensor[1])
    weight_map = {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05}-of-{n_shards:05}.safetensors"
        header, end = {"__metadata__": {"format": "pt"}}, 0
        for name, (entry, data) in shard.items():
            header[name] = {**entry, "data_offsets": [end, end + len(data)]}
            end += len(data)
            weight_map[name] = file
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        (folder / file).write_bytes(struct.pack("<Q", len(text)) + text + b"".join(d for _, d in shard.values()))
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": done}, "weight_map": weight_map}))


def write_bin(source, folder):
    """The weights of `source`, which are F16, as torch.save writes a state dict: a pickle and its storages in a zip."""
    with_companions(source, folder)
    pickle = b"\x80\x02}("
    with zipfile.ZipFile(folder / "pytorch_model.bin", "w", zipfile.ZIP_STORED) as archive:
        for key, (name, (entry, data)) in enumerate(read(source).items()):
            assert entry["dtype"] == "F16", entry
            pickle += text(name) + tensor(str(key), entry["shape"])
            archive.writestr(f"archive/data/{key}", data)
        archive.writestr("archive/data.pkl", pickle + b"u.")
        archive.writestr("archive/version", "3\n")


def tensor(key, shape):
    """A contiguous tensor that is the whole storage `key`, in the words of pickle's protocol 2."""
    strides, n = [], 1
    for size in reversed(shape):
        strides.insert(0, n)
        n *= size
    storage = b"(" + text("storage") + b"ctorch\nHalfStorage\n" + text(key) + text("cpu") + integer(n) + b"tQ"
    numbers = lambda values: b"(" + b"".join(map(integer, values)) + b"t"
    rest = integer(0) + numbers(shape) + numbers(strides) + b"\x89" + b"ccollections\nOrderedDict\n)R"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + rest + b"tR"


def text(value):
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def integer(value):
    return b"J" + struct.pack("<i", value)
