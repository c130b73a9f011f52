//! The names that a state dict needs. A pickle with any other name is refused, even if it does not call it.

use crate::dtype::Dtype;
use crate::error::excerpt;

/// A known name. Nothing is imported or executed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Global {
    /// `collections.OrderedDict`.
    OrderedDict,
    /// `torch._utils._rebuild_tensor`: storage, offset, size, stride.
    RebuildTensor,
    /// `torch._utils._rebuild_tensor_v2`: the same, then whether it needs gradients and its hooks.
    RebuildTensorV2,
    /// `torch._utils._rebuild_parameter`: a tensor, whether it needs gradients and its hooks.
    RebuildParameter,
    /// `torch.Size`: a tuple.
    Size,
    /// `torch.HalfStorage` and its like.
    Storage(&'static Element),
}

/// The elements of a storage.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Element {
    /// The class, in the module `torch`.
    class: &'static str,
    pub(crate) size: u64,
    /// The type as which it is read, if weights can have it (f64 is read as f32). Other types occur in buffers, which
    /// are not converted.
    pub(crate) dtype: Option<Dtype>,
}

impl Element {
    /// The part before `Storage` in the name of the class: `Half`.
    pub(crate) fn name(&self) -> &'static str {
        self.class.trim_end_matches("Storage")
    }
}

const fn element(class: &'static str, size: u64, dtype: Option<Dtype>) -> Element {
    Element { class, size, dtype }
}

static ELEMENTS: [Element; 10] = [
    element("HalfStorage", 2, Some(Dtype::F16)),
    element("BFloat16Storage", 2, Some(Dtype::BF16)),
    element("FloatStorage", 4, Some(Dtype::F32)),
    element("DoubleStorage", 8, Some(Dtype::F32)),
    element("ByteStorage", 1, None),
    element("CharStorage", 1, None),
    element("BoolStorage", 1, None),
    element("ShortStorage", 2, None),
    element("IntStorage", 4, None),
    element("LongStorage", 8, None),
];

const GLOBALS: [(&str, &str, Global); 5] = [
    ("collections", "OrderedDict", Global::OrderedDict),
    ("torch._utils", "_rebuild_tensor", Global::RebuildTensor),
    ("torch._utils", "_rebuild_tensor_v2", Global::RebuildTensorV2),
    ("torch._utils", "_rebuild_parameter", Global::RebuildParameter),
    ("torch", "Size", Global::Size),
];

/// Names in honest files that this crate does not read, and their meaning.
const REFUSED: [(&str, &str, &str); 19] = [
    ("torch", "ComplexFloatStorage", "complex numbers"),
    ("torch", "ComplexDoubleStorage", "complex numbers"),
    ("torch", "QInt8Storage", "quantized tensors"),
    ("torch", "QUInt8Storage", "quantized tensors"),
    ("torch", "QInt32Storage", "quantized tensors"),
    ("torch", "QUInt4x2Storage", "quantized tensors"),
    ("torch", "QUInt2x4Storage", "quantized tensors"),
    ("torch._utils", "_rebuild_qtensor", "quantized tensors"),
    ("torch._utils", "_rebuild_sparse_tensor", "sparse tensors"),
    ("torch._utils", "_rebuild_sparse_csr_tensor", "sparse tensors"),
    ("torch._utils", "_rebuild_nested_tensor", "nested tensors"),
    ("torch._utils", "_rebuild_meta_tensor_no_storage", "meta tensors, which have no data"),
    ("torch._utils", "_rebuild_tensor_v3", "tensors over untyped storages"),
    ("torch._utils", "_rebuild_wrapper_subclass", "subclasses of tensors"),
    ("torch._tensor", "_rebuild_from_type_v2", "subclasses of tensors"),
    ("torch.storage", "_load_from_bytes", "storages inside the pickle"),
    ("torch.storage", "UntypedStorage", "untyped storages"),
    ("torch.storage", "TypedStorage", "untyped storages"),
    ("torch", "UntypedStorage", "untyped storages"),
];

/// Whether a class is part of a model. Classes of a user's own script are in `__main__`.
fn is_model_class(module: &str, name: &str) -> bool {
    let is_in =
        |package: &str| module.strip_prefix(package).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    (is_in("transformers") && name.starts_with("GPTNeoX"))
        || is_in("transformers.models")
        || is_in("torch.nn")
        || is_in("peft")
}

impl Global {
    /// The global of this name, or the reason why it is refused.
    pub(super) fn find(module: &str, name: &str) -> Result<Self, String> {
        if let Some((_, _, global)) = GLOBALS.iter().find(|(m, n, _)| (*m, *n) == (module, name)) {
            return Ok(*global);
        }
        if let Some(element) = ELEMENTS.iter().find(|element| module == "torch" && element.class == name) {
            return Ok(Self::Storage(element));
        }
        let why = match REFUSED.iter().find(|(m, n, _)| (*m, *n) == (module, name)) {
            Some((_, _, what)) => format!("{what} are not read"),
            None if is_model_class(module, name) => {
                "a whole model, as torch.save(model) writes it: save torch.save(model.state_dict(), FILE)".to_owned()
            }
            None if name == "TrainingArguments" => "the settings of a training run, no weights".to_owned(),
            None => "weights have no need of it, and nothing in a pickle is run".to_owned(),
        };
        Err(format!("global {} is refused: {why}", excerpt(&format!("{module}.{name}"))))
    }

    /// Its arguments, for an error message.
    pub(super) fn signature(self) -> &'static str {
        match self {
            Self::OrderedDict => "OrderedDict without arguments",
            Self::RebuildTensor => "_rebuild_tensor of storage, offset, size and stride",
            Self::RebuildTensorV2 => {
                "_rebuild_tensor_v2 of storage, offset, size, stride, requires_grad, hooks and no metadata"
            }
            Self::RebuildParameter => "_rebuild_parameter of tensor, requires_grad and hooks",
            Self::Size => "torch.Size of a tuple",
            Self::Storage(_) => "no call of a storage's class",
        }
    }
}
