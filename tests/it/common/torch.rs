//! A writer of `.bin` files, for tests: the two containers of `torch.save`, and parts to put damaged ones together from.
//!
//! It writes what the files in `tests/data/torch` have, without the padding before a member's data.

use safetensors::{Dtype, SafeTensors};
use std::path::Path;

/// What tensors lie in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Container {
    /// PyTorch 1.6 and later.
    Zip,
    /// The same with all sizes in 64-bit fields, as members of more than 4 GiB have them.
    Zip64,
    /// Before 1.6.
    Legacy,
}

/// A contiguous tensor with a storage of its own.
#[derive(Clone, Debug)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    /// `Half`, `BFloat16`, `Float`, `Byte`.
    pub(crate) class: &'static str,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: Vec<u8>,
}

/// The tensors of a safetensors file.
pub(crate) fn tensors(path: &Path) -> Vec<Tensor> {
    let bytes = std::fs::read(path).expect("a file");
    let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let tensor = |(name, view): (String, safetensors::tensor::TensorView<'_>)| Tensor {
        name,
        class: match view.dtype() {
            Dtype::F16 => "Half",
            Dtype::BF16 => "BFloat16",
            _ => "Float",
        },
        shape: view.shape().to_vec(),
        bytes: view.data().to_vec(),
    };
    file.tensors().into_iter().map(tensor).collect()
}

/// A whole `.bin` file.
pub(crate) fn file(container: Container, tensors: &[Tensor]) -> Vec<u8> {
    let pickle = state_dict(container, tensors);
    match container {
        Container::Zip => archive(&members(pickle, tensors)),
        Container::Zip64 => {
            let members: Vec<_> = members(pickle, tensors).into_iter().map(|m| Member { wide: true, ..m }).collect();
            archive(&members)
        }
        Container::Legacy => legacy(&pickle, tensors),
    }
}

/// The members of the zip container.
pub(crate) fn members(pickle: Vec<u8>, tensors: &[Tensor]) -> Vec<Member> {
    let mut members = vec![Member::new("m/data.pkl", pickle), Member::new("m/byteorder", b"little".to_vec())];
    let storages = tensors.iter().enumerate();
    members.extend(storages.map(|(key, tensor)| Member::new(&format!("m/data/{key}"), tensor.bytes.clone())));
    members.push(Member::new("m/version", b"3\n".to_vec()));
    members
}

/// The legacy container around a state dict.
pub(crate) fn legacy(pickle: &[u8], tensors: &[Tensor]) -> Vec<u8> {
    let mut file = legacy_head();
    file.extend_from_slice(pickle);
    let mut keys = Pickle::new().op(b"](");
    for key in 0..tensors.len() {
        keys = keys.text(&key.to_string());
    }
    file.extend(keys.op(b"e.").0);
    for tensor in tensors {
        file.extend_from_slice(&(tensor.shape.iter().product::<usize>() as u64).to_le_bytes());
        file.extend_from_slice(&tensor.bytes);
    }
    file
}

/// The magic number, the protocol and the system.
pub(crate) fn legacy_head() -> Vec<u8> {
    let magic = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.".to_vec();
    let protocol = Pickle::new().int(1001).op(b".").0;
    let system = Pickle::new().op(b"}(").text("protocol_version").int(1001).text("little_endian").op(b"\x88u.").0;
    [magic, protocol, system].concat()
}

/// The pickle of a state dict whose tensors' storages are called `0`, `1` and so on.
pub(crate) fn state_dict(container: Container, tensors: &[Tensor]) -> Vec<u8> {
    let mut pickle = Pickle::new().global("collections", "OrderedDict").op(b")Rq\x01(");
    for (key, tensor) in tensors.iter().enumerate() {
        pickle = pickle.text(&tensor.name).tensor(container, key, tensor);
    }
    // `_metadata`, as the state dict of a module has it.
    pickle.op(b"u}").text("_metadata").op(b"}sb.").0
}

/// A pickle being written, protocol 2.
#[derive(Clone, Debug)]
pub(crate) struct Pickle(pub(crate) Vec<u8>);

impl Pickle {
    pub(crate) fn new() -> Self {
        Self(b"\x80\x02".to_vec())
    }

    /// Instructions as they are.
    pub(crate) fn op(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn text(self, text: &str) -> Self {
        let len = (text.len() as u32).to_le_bytes();
        self.op(b"X").op(&len).op(text.as_bytes())
    }

    pub(crate) fn int(self, int: i32) -> Self {
        self.op(b"J").op(&int.to_le_bytes())
    }

    pub(crate) fn global(self, module: &str, name: &str) -> Self {
        self.op(format!("c{module}\n{name}\n").as_bytes())
    }

    /// The reference to a storage.
    pub(crate) fn storage(self, container: Container, key: &str, class: &str, n_elems: usize) -> Self {
        let id = self.op(b"(").text("storage").global("torch", &format!("{class}Storage"));
        let id = id.text(key).text("cpu").int(n_elems as i32);
        id.op(if container == Container::Legacy { b"NtQ" } else { b"tQ" })
    }

    /// Offset, size and stride, and the rest of what a tensor is made from.
    pub(crate) fn view(mut self, offset: i32, shape: &[i32], strides: &[i32]) -> Self {
        self = self.int(offset);
        for dims in [shape, strides] {
            self = self.op(b"(");
            for dim in dims {
                self = self.int(*dim);
            }
            self = self.op(b"t");
        }
        self.op(b"\x89").global("collections", "OrderedDict").op(b")R")
    }

    fn tensor(self, container: Container, key: usize, tensor: &Tensor) -> Self {
        let shape: Vec<i32> = tensor.shape.iter().map(|&dim| dim as i32).collect();
        let mut strides = vec![1; shape.len()];
        for dim in (1..shape.len()).rev() {
            strides[dim - 1] = strides[dim] * shape[dim];
        }
        let n_elems = tensor.shape.iter().product();
        let args = self.global("torch._utils", "_rebuild_tensor_v2").op(b"(");
        args.storage(container, &key.to_string(), tensor.class, n_elems).view(0, &shape, &strides).op(b"tR")
    }
}

/// A member of a zip archive. What is not the data is written as it stands here, right or wrong.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    /// The name in the member's own header.
    pub(crate) local_name: String,
    pub(crate) data: Vec<u8>,
    pub(crate) crc: u32,
    pub(crate) method: u16,
    pub(crate) flags: u16,
    /// What the directory says beyond the size there is.
    pub(crate) more_bytes: u64,
    /// Whether sizes and place are in the field of 64-bit numbers.
    pub(crate) wide: bool,
}

impl Member {
    pub(crate) fn new(name: &str, data: Vec<u8>) -> Self {
        let crc = crc32fast::hash(&data);
        let name = name.to_owned();
        // UTF-8, and sizes after the data, as PyTorch has it.
        Self { local_name: name.clone(), name, data, crc, method: 0, flags: 0x0808, more_bytes: 0, wide: false }
    }
}

/// A zip archive.
pub(crate) fn archive(members: &[Member]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for member in members {
        let header = file.len() as u64;
        put(&mut file, &[0x0403_4b50], &[0, member.flags, member.method, 0, 0]);
        put(&mut file, &[0, 0, 0], &[member.local_name.len() as u16, 0]);
        file.extend_from_slice(member.local_name.as_bytes());
        file.extend_from_slice(&member.data);
        let n_bytes = member.data.len() as u64 + member.more_bytes;
        put(&mut file, &[0x0807_4b50, member.crc, n_bytes as u32, n_bytes as u32], &[]);

        let (extra, sizes, place): (Vec<u8>, _, _) = match member.wide {
            true => {
                let numbers = [n_bytes, n_bytes, header].into_iter().flat_map(u64::to_le_bytes);
                ([1, 0, 24, 0].into_iter().chain(numbers).collect(), u32::MAX, u32::MAX)
            }
            false => (Vec::new(), n_bytes as u32, header as u32),
        };
        put(&mut directory, &[0x0201_4b50], &[0, 0, member.flags, member.method, 0, 0]);
        let lens = [member.name.len() as u16, extra.len() as u16, 0, 0, 0];
        put(&mut directory, &[member.crc, sizes, sizes], &lens);
        put(&mut directory, &[0, place], &[]);
        directory.extend_from_slice(member.name.as_bytes());
        directory.extend(extra);
    }
    let (start, n_bytes, n) = (file.len() as u64, directory.len() as u64, members.len() as u64);
    file.extend(directory);
    let end64 = file.len() as u64;
    // The record of 64-bit numbers and its locator, which PyTorch always writes.
    put(&mut file, &[0x0606_4b50, 44, 0], &[0x31e, 45]);
    put(&mut file, &[0, 0], &[]);
    file.extend([n, n, n_bytes, start].iter().flat_map(|number| number.to_le_bytes()));
    put(&mut file, &[0x0706_4b50, 0], &[]);
    file.extend(end64.to_le_bytes());
    put(&mut file, &[1, 0x0605_4b50], &[0, 0, n as u16, n as u16]);
    put(&mut file, &[n_bytes as u32, start as u32], &[0]);
    file
}

fn put(out: &mut Vec<u8>, wide: &[u32], narrow: &[u16]) {
    out.extend(wide.iter().flat_map(|number| number.to_le_bytes()));
    out.extend(narrow.iter().flat_map(|number| number.to_le_bytes()));
}
