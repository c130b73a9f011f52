//! Reads the files of `torch.save` (`pytorch_model.bin`) without PyTorch and without executing anything.
//!
//! A file contains a pickle of the state dict, and the storages that its tensors are views of. There are two
//! containers, [`zip`] and [`legacy`], with the same pickle.

mod bytes;
mod legacy;
mod pickle;
mod state_dict;
mod zip;

use crate::error::{Error, excerpt};
use crate::weights::{Checksum, ListedTensor, Opened, View, WeightFile};
use legacy::Pickles;
use pickle::{Element, Part, Pickle, Storage, Tensor, TextId};
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use zip::Archive;

/// Limit for the size of all tensors together, as a multiple of the file size. Tensors may share storages, and a stride
/// of 0 repeats one element. A matrix that is both embedding and output needs a factor of at most 2.
const LIMIT_EXPANSION: u64 = 2;
/// Limit for the bytes read for all tensors, as a multiple of the file size, plus a fixed amount. Reading a strided
/// view also reads the bytes between its elements.
const LIMIT_READS: u64 = 8;
const FREE_READ_BYTES: u64 = 64 << 20;

/// Opens a `.bin` file and checks everything except the data.
pub(crate) fn open(opened: Opened<'_>) -> Result<WeightFile, Error> {
    if opened.start.starts_with(b"PK\x03\x04") {
        open_zip(opened)
    } else if opened.start.get(257..262) == Some(b"ustar") {
        Err(Error::layout(opened.path, "a tar archive, the first format of PyTorch, which is not read"))
    } else if legacy::is_pickle(&opened.start) {
        open_legacy(opened)
    } else {
        Err(Error::container(opened.path, 0, "neither a zip archive nor a pickle: not a PyTorch file?"))
    }
}

fn open_zip(opened: Opened<'_>) -> Result<WeightFile, Error> {
    let archive = Archive::open(&opened)?;
    if let Some(order) = archive.find(&opened, "byteorder")? {
        const LITTLE: &[u8] = b"little";
        let n_bytes = order.range.end - order.range.start;
        let found = opened.read(order.range.start..order.range.start + n_bytes.min(LITTLE.len() as u64))?;
        if found != LITTLE || n_bytes != LITTLE.len() as u64 {
            let reason = format!("byteorder is {}, wanted \"little\"", excerpt(&String::from_utf8_lossy(&found)));
            return Err(Error::container(opened.path, order.range.start, reason));
        }
    }
    let missing = |name: &str| Error::layout(opened.path, format!("no member {name} in the archive"));
    let stored = archive.find(&opened, "data.pkl")?.ok_or_else(|| missing("data.pkl"))?;
    let Range { start, end } = stored.range;
    if end - start > pickle::LIMIT_BYTES {
        let reason = format!("data.pkl has {} bytes, at most {} are read", end - start, pickle::LIMIT_BYTES);
        return Err(Error::container(opened.path, start, reason));
    }
    let bytes = opened.read(start..end)?;
    match (stored.crc, crc32fast::hash(&bytes)) {
        (Some(wanted), found) if found != wanted => {
            let reason = format!("damaged: data.pkl has CRC-32 {found:08x}, wanted {wanted:08x}");
            return Err(Error::container(opened.path, start, reason));
        }
        _ => {}
    }
    let pickle = Pickle::load(&bytes).map_err(|e| Error::container(opened.path, start + e.at as u64, e.reason))?;
    if pickle.n_bytes as u64 != end - start {
        let at = start + pickle.n_bytes as u64;
        return Err(Error::container(opened.path, at, format!("{} bytes follow the pickle", end - at)));
    }
    let mut places = BTreeMap::new();
    for (key, storage) in storages(&opened, &pickle, start)? {
        let name = format!("data/{}", pickle.text(key));
        let at = start + storage.at as u64;
        if storage.part.is_some() {
            return Err(Error::container(opened.path, at, "a part of a storage, which only the older container has"));
        }
        let Some(stored) = archive.find(&opened, &name)? else {
            return Err(Error::container(opened.path, at, format!("no member {} in the archive", excerpt(&name))));
        };
        let (n_bytes, Element { size, .. }) = (stored.range.end - stored.range.start, storage.element);
        if storage.n_elems.checked_mul(*size) != Some(n_bytes) {
            let reason = format!("{} has {n_bytes} bytes, wanted {} x {size}", excerpt(&name), storage.n_elems);
            return Err(Error::container(opened.path, at, reason));
        }
        places.insert(key, StorageRange { range: stored.range, crc: stored.crc });
    }
    listed(opened, &pickle, start, places)
}

fn open_legacy(opened: Opened<'_>) -> Result<WeightFile, Error> {
    let bytes = legacy::read_start(&opened)?;
    let mut pickles = Pickles::open(&opened, &bytes)?;
    let start = pickles.at();
    let pickle = pickles.next()?;
    let storages = storages(&opened, &pickle, start)?;
    check_parts(&opened, &pickle, start, &storages)?;
    let ranges = pickles.storages(|key| {
        let key = pickle.texts.find(key)?;
        storages.get(&key).map(|storage| (key, storage.element, storage.n_elems))
    })?;
    let places = ranges.into_iter().map(|(key, range)| (key, StorageRange { range, crc: None })).collect();
    listed(opened, &pickle, start, places)
}

/// Position of the bytes of a storage.
struct StorageRange {
    range: Range<u64>,
    crc: Option<u32>,
}

/// The storages that the pickle refers to, each once, sorted by key, so that errors are the same in every run.
fn storages(opened: &Opened<'_>, pickle: &Pickle<'_>, pickle_at: u64) -> Result<BTreeMap<TextId, Storage>, Error> {
    let mut storages: BTreeMap<TextId, Storage> = BTreeMap::new();
    for &storage in &pickle.heap.storages {
        let first = storages.entry(storage.key).or_insert(storage);
        if (first.element, first.n_elems) != (storage.element, storage.n_elems) {
            let shown = |storage: &Storage| format!("{} x {}", storage.n_elems, storage.element.name());
            let key = excerpt(pickle.text(storage.key));
            let reason = format!("storage {key} is {} here, {} before", shown(&storage), shown(first));
            return Err(Error::container(opened.path, pickle_at + storage.at as u64, reason));
        }
    }
    Ok(storages)
}

/// Refuses parts of storages that PyTorch would read differently. PyTorch keeps parts and storages by key in one dict,
/// and ignores the second entry with a key.
fn check_parts(
    opened: &Opened<'_>,
    pickle: &Pickle<'_>,
    pickle_at: u64,
    storages: &BTreeMap<TextId, Storage>,
) -> Result<(), Error> {
    let mut parts: HashMap<TextId, (TextId, Part)> = HashMap::new();
    for storage in &pickle.heap.storages {
        let Some(part) = storage.part else { continue };
        let first = *parts.entry(part.key).or_insert((storage.key, part));
        if storages.contains_key(&part.key) || first != (storage.key, part) {
            let key = excerpt(pickle.text(part.key));
            let reason = format!("the key {key} of a part of a storage stands for something else too");
            return Err(Error::container(opened.path, pickle_at + storage.at as u64, reason));
        }
    }
    Ok(())
}

/// The tensors of the state dict over storages at `places`.
fn listed(
    opened: Opened<'_>,
    pickle: &Pickle<'_>,
    pickle_at: u64,
    places: BTreeMap<TextId, StorageRange>,
) -> Result<WeightFile, Error> {
    let path = opened.path;
    let mut checksums = Vec::new();
    let mut located = BTreeMap::new();
    for (key, place) in places {
        let checksum = place.crc.map(|crc| {
            checksums.push(Checksum::new(place.range.clone(), crc));
            checksums.len() - 1
        });
        located.insert(key, (place.range, checksum));
    }
    let named = state_dict::tensors(pickle).map_err(|reason| Error::container(path, pickle_at, reason))?;
    let mut tensors = Vec::with_capacity(named.len());
    let (mut total_bytes, mut cost_bytes) = (0u64, 0u64);
    for (name, tensor) in named {
        let bad = |reason: String| Error::tensor(path, &name, reason);
        let storage = &pickle.heap.storages[tensor.storage];
        let (range, checksum) = located
            .get(&storage.key)
            .ok_or_else(|| bad(format!("its storage {} is not in the file", excerpt(pickle.text(storage.key)))))?;
        let first = first_element(tensor, storage).map_err(bad)?;
        let place = match storage.element.dtype {
            None => Err(format!("type {}, wanted Float, Half, BFloat16 or Double", storage.element.name())),
            Some(dtype) => view(tensor, range.start + first * storage.element.size, storage.element.size).map(|view| {
                total_bytes = total_bytes.saturating_add(view.n_bytes());
                cost_bytes = cost_bytes.saturating_add(view.cost_bytes());
                (dtype, View { checksum: *checksum, ..view })
            }),
        };
        tensors.push(ListedTensor { name, shape: tensor.shape.clone(), place });
    }
    if total_bytes > opened.n_bytes.saturating_mul(LIMIT_EXPANSION) {
        let reason = format!(
            "tensors of {total_bytes} bytes in a file of {}, at most {LIMIT_EXPANSION} times its size is believed",
            opened.n_bytes
        );
        return Err(Error::layout(path, reason));
    }
    let limit_bytes = opened.n_bytes.saturating_mul(LIMIT_READS).saturating_add(FREE_READ_BYTES);
    if cost_bytes > limit_bytes {
        let reason =
            format!("tensors of elements so far apart that {cost_bytes} bytes are read, at most {limit_bytes}");
        return Err(Error::layout(path, reason));
    }
    tensors.sort_by_key(|tensor| tensor.place.as_ref().map_or(0, |(_, view)| view.start));
    Ok(WeightFile { path: path.to_owned(), tensors, checksums, file: opened.file })
}

/// The first element of a tensor, in elements from the start of its storage. Checks that all elements are within the
/// storage.
fn first_element(tensor: &Tensor, storage: &Storage) -> Result<u64, String> {
    let (part_start, len) = storage.part.map_or((0, storage.n_elems), |part| (part.first, part.len));
    if part_start.checked_add(len).is_none_or(|end| end > storage.n_elems) {
        return Err(format!("elements {part_start} + {len} of a storage of {}", storage.n_elems));
    }
    // One past the last element, or the first if there are none.
    let is_empty = tensor.shape.contains(&0);
    let end = tensor.shape.iter().zip(&tensor.strides).filter(|_| !is_empty).try_fold(
        tensor.offset.checked_add(u64::from(!is_empty)),
        |end, (&dim, &stride)| {
            let last = (dim as u64 - 1).checked_mul(stride as u64);
            Some(end.and_then(|end| end.checked_add(last?)))
        },
    );
    match end.flatten() {
        Some(end) if end <= len => Ok(part_start + tensor.offset),
        _ => Err(format!(
            "shape {:?} with strides {:?} from element {} on, in a storage of {len} elements",
            tensor.shape, tensor.strides, tensor.offset
        )),
    }
}

/// The view of a tensor whose first element is at `start`, or the reason why it cannot be read.
fn view(tensor: &Tensor, start: u64, elem_bytes: u64) -> Result<View, String> {
    let elem_bytes = elem_bytes as usize;
    let Tensor { shape, strides, .. } = tensor;
    let too_large = || format!("shape {shape:?} is too large to be real");
    let n_elems = shape.iter().try_fold(1usize, |product, &dim| product.checked_mul(dim)).ok_or_else(too_large)?;
    n_elems.checked_mul(elem_bytes).ok_or_else(too_large)?;
    let cols = shape.last().copied().unwrap_or(1);
    let rows = shape.split_last().map_or(1, |(_, outer)| outer.iter().product());
    let contiguous = View { start, shape: [rows, cols], elem_bytes, strides: None, checksum: None };
    if n_elems == 0 || is_contiguous(shape, strides) {
        return Ok(contiguous);
    }
    // The stride of a single row or column can be any number. Other strides stay within the storage.
    let in_bytes = |dim: usize| if shape[dim] == 1 { 0 } else { strides[dim] as u64 * elem_bytes as u64 };
    match shape.len() {
        1 => Ok(View { strides: Some([0, in_bytes(0)]), ..contiguous }),
        2 => Ok(View { strides: Some([in_bytes(0), in_bytes(1)]), ..contiguous }),
        _ => Err(format!("shape {shape:?} with strides {strides:?}: only matrices are read in another order")),
    }
}

/// Whether elements are contiguous. There is at least one, and their number does not overflow.
fn is_contiguous(shape: &[usize], strides: &[usize]) -> bool {
    let mut wanted = 1;
    shape.iter().zip(strides).rev().all(|(&dim, &stride)| {
        let fits = dim == 1 || stride == wanted;
        wanted *= dim;
        fits
    })
}
