//! The tensors of a file, found by the table.

use crate::{ARCH, Hparams, TensorSpec, tensors};
use pythia_gguf::{AnyType, Error, Gguf, TensorInfo};
use pythia_tensor::TensorType;

/// The tensors of a file, one for each of [`tensors`]`(h)` and in that order.
///
/// # Errors
/// If one is missing, has another shape than the hyperparameters say, or a type that cannot be decoded; if a norm or
/// a bias is not F32; or if the file has further tensors, which a model of this architecture would have to use.
pub fn bind<'g>(h: &Hparams, gguf: &'g Gguf) -> Result<Vec<&'g TensorInfo>, Error> {
    let specs = tensors(h);
    let mut bound = Vec::with_capacity(specs.len());
    for spec in &specs {
        let info = gguf
            .tensor(&spec.gguf)
            .ok_or_else(|| Error::tensor(&spec.gguf, "no such tensor", format!("one of shape {:?}", spec.shape)))?;
        check_tensor(spec, info)?;
        bound.push(info);
    }
    if gguf.tensors().len() > specs.len() {
        let mut names: Vec<_> = specs.iter().map(|s| s.gguf.as_str()).collect();
        names.sort_unstable();
        let extra = gguf.tensors().iter().find(|t| names.binary_search(&t.name.as_str()).is_err());
        if let Some(extra) = extra {
            let wanted = format!("only the {} of {ARCH} with {} blocks", specs.len(), h.n_layer);
            return Err(Error::tensor(&extra.name, "an unknown tensor", wanted));
        }
    }
    Ok(bound)
}

fn check_tensor(spec: &TensorSpec, info: &TensorInfo) -> Result<(), Error> {
    if info.dims != spec.dims() {
        let found = format!("shape {:?}", info.shape());
        return Err(Error::tensor(&spec.gguf, found, format!("{:?} by the metadata", spec.shape)));
    }
    match info.ty {
        AnyType::Foreign(ty) => {
            let names: Vec<_> = TensorType::ALL.iter().map(|t| t.name()).collect();
            let found = format!("type {}, not supported yet", ty.name);
            Err(Error::tensor(&spec.gguf, found, format!("one of {}", names.join(", "))))
        }
        AnyType::Known(ty) if ty != TensorType::F32 && !spec.id.is_matrix() => {
            Err(Error::tensor(&spec.gguf, format!("type {ty}"), "F32, as norms and biases are"))
        }
        AnyType::Known(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensors::tests::tiny;
    use pythia_gguf::{Layout, Metadata};

    fn entries(h: &Hparams) -> Vec<(String, TensorType, Vec<u64>)> {
        let ty = |spec: &TensorSpec| if spec.id.is_matrix() { TensorType::Q8_0 } else { TensorType::F32 };
        tensors(h).iter().map(|s| (s.gguf.clone(), ty(s), s.dims())).collect()
    }

    fn bind_entries(entries: Vec<(String, TensorType, Vec<u64>)>) -> Result<(), String> {
        let layout = Layout::new(&Metadata::new(), entries).unwrap();
        let mut file = layout.header().to_vec();
        file.resize(layout.total_bytes() as usize, 0);
        bind(&tiny(), &Gguf::parse(&file).unwrap()).map(|_| ()).map_err(|e| e.to_string())
    }

    #[test]
    fn binds_in_table_order_whatever_the_file_order() {
        let mut shuffled = entries(&tiny());
        shuffled.reverse();
        assert_eq!(bind_entries(shuffled), Ok(()));
    }

    #[test]
    fn refuses_files_that_are_not_this_model() {
        type Change = fn(&mut Vec<(String, TensorType, Vec<u64>)>);
        let cases: [(&str, Change, &str); 7] = [
            (
                "missing",
                |e| drop(e.pop()),
                "tensor 'output.weight': found no such tensor, wanted one of shape [40, 64]",
            ),
            ("extra", |e| e.push(("output.bias".into(), TensorType::F32, vec![40])), "'output.bias': found an unknown"),
            ("transposed", |e| e[9].2.reverse(), "tensor 'blk.0.ffn_up.weight': found shape [64, 96], wanted [96, 64]"),
            ("qkv rows", |e| e[3].2[1] -= 1, "tensor 'blk.0.attn_qkv.weight': found shape [191, 64], wanted [192, 64]"),
            ("vocabulary", |e| e[0].2[1] += 1, "tensor 'token_embd.weight': found shape [41, 64], wanted [40, 64]"),
            ("half norm", |e| e[1].1 = TensorType::F16, "tensor 'blk.0.attn_norm.weight': found type F16, wanted F32"),
            ("quantized bias", |e| e[10].1 = TensorType::Q8_0, "'blk.0.ffn_up.bias': found type Q8_0, wanted F32"),
        ];
        for (name, change, wanted) in cases {
            let mut entries = entries(&tiny());
            change(&mut entries);
            let line = bind_entries(entries).unwrap_err();
            assert!(line.contains(wanted), "{name}: {line}");
        }
    }
}
