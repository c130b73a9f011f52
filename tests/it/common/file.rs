//! GGUF files put together from parts.

use pythia_gguf::{Gguf, Layout, Metadata};
use pythia_tensor::TensorType;

/// Name, type and dimensions of a tensor, the length of a row first.
pub(crate) type Entry = (String, TensorType, Vec<u64>);

/// A file of these keys and tensors, in this order.
pub(crate) fn build(metadata: &Metadata, tensors: impl IntoIterator<Item = (Entry, Vec<u8>)>) -> Vec<u8> {
    let (entries, data): (Vec<_>, Vec<_>) = tensors.into_iter().unzip();
    let layout = Layout::new(metadata, entries).expect("a valid file");
    let mut file = layout.header().to_vec();
    for (tensor, data) in layout.tensors().iter().zip(data) {
        file.resize(tensor.offset as usize, 0);
        file.extend(data);
    }
    file.resize(layout.total_bytes() as usize, 0);
    file
}

/// A file whose tensors are all zeros.
pub(crate) fn zeros(metadata: &Metadata, tensors: Vec<Entry>) -> Vec<u8> {
    let layout = Layout::new(metadata, tensors).expect("a valid file");
    let mut file = layout.header().to_vec();
    file.resize(layout.total_bytes() as usize, 0);
    file
}

/// The tensors of a file, in its order.
pub(crate) fn tensors(gguf: &Gguf, file: &[u8]) -> Vec<(Entry, Vec<u8>)> {
    let known = |tensor: &pythia_gguf::TensorInfo| tensor.ty.known().expect("a type that can be written");
    let tensors = gguf.tensors().iter();
    tensors.map(|t| ((t.name.clone(), known(t), t.dims.clone()), gguf.data(file, t).to_vec())).collect()
}

/// The same tensors with the metadata that `change` leaves.
pub(crate) fn with_metadata(file: &[u8], change: impl FnOnce(&mut Metadata)) -> Vec<u8> {
    let mut header = Gguf::parse(file).expect("a valid file");
    change(&mut header.metadata);
    build(&header.metadata, tensors(&header, file))
}
