//! LoRA adapters as PEFT saves them: `adapter_config.json` and `adapter_model.safetensors` (or `.bin`).
//!
//! An adapter is a list of changes to a model: products of two small matrices to add, and whole tensors that replace
//! those of the base. [`Adapter::changes`] lists the changes for each tensor of a model.

mod name;
mod pattern;

use crate::checkpoint::{SourceTensor, source_tensor};
use crate::config::AdapterConfig;
use crate::error::{Error, Shown, excerpt};
use crate::weights::WeightFile;
use name::{Named, Role};
use pattern::Modules;
use pythia_schema::{Kind, TensorSpec, hf};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

const CONFIG: &str = "adapter_config.json";
/// In the order in which PEFT looks for them.
const WEIGHTS: [&str; 2] = ["adapter_model.safetensors", "adapter_model.bin"];

/// An opened LoRA adapter. Only headers are in memory; tensors are read by position, from any number of threads.
#[derive(Debug)]
pub struct Adapter {
    path: PathBuf,
    config_path: PathBuf,
    config: AdapterConfig,
    file: WeightFile,
    /// Pairs of matrices, by the name of their module.
    pairs: BTreeMap<String, Pair>,
    /// Tensors that replace those of the base, by the base's name.
    whole: BTreeMap<String, Whole>,
}

/// The tensors of an adapter for one module.
#[derive(Debug, Default)]
struct Pair {
    down: Option<SourceTensor>,
    up: Option<SourceTensor>,
    up_bias: Option<SourceTensor>,
    /// Whether the module is an embedding.
    of_tokens: bool,
}

#[derive(Debug)]
struct Whole {
    tensor: SourceTensor,
    wrapped: bool,
}

/// The changes of an adapter to one tensor of a model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Change {
    /// Replaces the base's tensor; has the same shape.
    pub replaced: Option<SourceTensor>,
    /// Added afterwards.
    pub added: Option<Addend>,
}

impl Change {
    /// Whether the tensor stays as it is.
    pub fn is_none(&self) -> bool {
        self.replaced.is_none() && self.added.is_none()
    }
}

/// An addend of a tensor.
#[derive(Clone, Debug, PartialEq)]
pub enum Addend {
    /// `scale * up * down`, of `up` `[rows, rank]` and `down` `[rank, columns]`.
    Product {
        /// `lora_A`.
        down: SourceTensor,
        /// `lora_B`.
        up: SourceTensor,
        /// The factor, from `lora_alpha` and the rank.
        scale: f64,
    },
    /// The same of an embedding, transposed: `scale * (up * down)^T`, of `up` `[columns, rank]` and `down`
    /// `[rank, rows]`.
    Transposed {
        /// `lora_embedding_A`.
        down: SourceTensor,
        /// `lora_embedding_B`.
        up: SourceTensor,
        /// The factor.
        scale: f64,
    },
    /// `scale * bias`, to the bias of a matrix.
    Bias {
        /// The bias of `lora_B`.
        bias: SourceTensor,
        /// The factor.
        scale: f64,
    },
}

impl Adapter {
    /// Opens the adapter in the folder at `path`, and checks everything but the tensor data.
    ///
    /// # Errors
    /// If a file cannot be read or is damaged, or the adapter is of an unsupported kind.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let metadata = std::fs::metadata(path).map_err(|e| Error::io(path, e))?;
        let config_path = path.join(CONFIG);
        if !metadata.is_dir() || !config_path.exists() {
            let reason = format!("wanted the folder of a LoRA adapter, with {CONFIG} and {}", WEIGHTS[0]);
            return Err(Error::layout(path, reason));
        }
        let config = AdapterConfig::open(&config_path)?;
        let weights = WEIGHTS.iter().map(|name| path.join(name)).find(|path| path.exists());
        let weights = weights.ok_or_else(|| Error::layout(path, format!("wanted {} here", WEIGHTS.join(" or "))))?;
        let mut file = WeightFile::open(&weights)?;
        let listed = std::mem::take(&mut file.tensors);
        let mut adapter =
            Self { path: path.to_owned(), config_path, config, file, pairs: BTreeMap::new(), whole: BTreeMap::new() };
        let mut name_of_adapter: Option<String> = None;
        let mut leftovers = Vec::new();
        for tensor in listed.into_iter().filter(|tensor| !hf::is_buffer(&tensor.name)) {
            let bad = |reason: &str| Error::tensor(&weights, &tensor.name, reason);
            let named = Named::parse(&tensor.name).map_err(bad)?;
            if let Some(adapter) = &named.adapter {
                let first = name_of_adapter.get_or_insert_with(|| adapter.clone());
                if first != adapter {
                    return Err(bad(&format!("of the adapter {}, others are of {}", excerpt(adapter), excerpt(first))));
                }
            }
            if named.role == Role::Leftover {
                leftovers.push((named.module, tensor.name));
                continue;
            }
            let tensor = source_tensor(tensor, 0).map_err(|(name, reason)| Error::tensor(&weights, &name, reason))?;
            adapter.enter(named, tensor)?;
        }
        let is_whole = |module: &str| {
            let mut names = adapter.whole.range(format!("{module}.")..);
            names.next().is_some_and(|(name, _)| name.strip_prefix(module).is_some_and(|rest| rest.starts_with('.')))
        };
        match leftovers.into_iter().find(|(module, _)| !is_whole(module)) {
            Some((_, name)) => Err(adapter.bad(&name, "of a module that is saved whole, but is not here")),
            None => Ok(adapter),
        }
    }

    fn enter(&mut self, named: Named, tensor: SourceTensor) -> Result<(), Error> {
        let name = tensor.name.clone();
        let place = match named.role {
            Role::Whole { wrapped } => {
                let earlier = self.whole.insert(named.module, Whole { tensor, wrapped });
                return match earlier {
                    Some(other) => Err(self
                        .bad(&name, format!("takes the place of the same tensor as {}", excerpt(&other.tensor.name)))),
                    None => Ok(()),
                };
            }
            role => {
                let of_tokens = matches!(role, Role::TokenDown | Role::TokenUp);
                let new = !self.pairs.contains_key(&named.module);
                let pair = self.pairs.entry(named.module).or_default();
                if !new && pair.of_tokens != of_tokens {
                    return Err(self.bad(&name, "its module also has matrices of the other kind (linear, embedding)"));
                }
                pair.of_tokens = of_tokens;
                match role {
                    Role::Down | Role::TokenDown => &mut pair.down,
                    Role::Up | Role::TokenUp => &mut pair.up,
                    _ => &mut pair.up_bias,
                }
            }
        };
        match place.replace(tensor) {
            Some(other) => {
                Err(self.bad(&name, format!("is the same part of the same module as {}", excerpt(&other.name))))
            }
            None => Ok(()),
        }
    }

    fn bad(&self, tensor: &str, reason: impl Into<String>) -> Error {
        Error::tensor(&self.file.path, tensor, reason)
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its config and its weights.
    pub fn files(&self) -> [&Path; 2] {
        [&self.config_path, &self.file.path]
    }

    /// The base that it was trained on, from its config: an id of the Hub, or a path on the machine that trained it.
    pub fn base_model(&self) -> Option<&str> {
        self.config.base_model.as_deref()
    }

    /// Whether its config says that matrices are stored transposed, which PEFT ignores for this architecture's layers.
    pub fn fan_in_fan_out(&self) -> bool {
        self.config.fan_in_fan_out
    }

    /// The changes to each tensor of a model, in the order of `model`. There, the weight and bias of a module must be
    /// adjacent.
    ///
    /// # Errors
    /// If a tensor of the adapter has no place in the model, or another shape than its place; if its config names a
    /// module that it has no matrices for, or has matrices of a module that its config does not name.
    pub fn changes(&self, model: &[TensorSpec]) -> Result<Vec<Change>, Error> {
        let mut at: HashMap<&str, usize> = HashMap::new();
        for (index, wanted) in model.iter().enumerate() {
            at.extend(wanted.hf.iter().map(|name| (name.as_str(), index)));
        }
        let mut changes = vec![Change::default(); model.len()];
        self.replace(model, &at, &mut changes)?;
        self.add(model, &at, &mut changes)?;
        self.check_complete(model, &changes)?;
        Ok(changes)
    }

    fn replace(&self, model: &[TensorSpec], at: &HashMap<&str, usize>, changes: &mut [Change]) -> Result<(), Error> {
        for (name, Whole { tensor, wrapped }) in &self.whole {
            let Some(&index) = at.get(name.as_str()) else {
                return Err(self.bad(&tensor.name, "no such tensor in the base model"));
            };
            let is_pair = module_of(name).is_some_and(|module| self.pairs.contains_key(module));
            // Older versions of PEFT saved biases of changed layers without the wrapper.
            if *wrapped != is_pair && !(is_pair && name.ends_with(".bias")) {
                let reason = match is_pair {
                    true => "a whole weight, of a module that has LoRA matrices too",
                    false => "a wrapped layer's, but there are no LoRA matrices of it",
                };
                return Err(self.bad(&tensor.name, reason));
            }
            check_shape(tensor, &model[index].shape, "as the base").map_err(|reason| {
                let resized = matches!(tensor.shape.as_slice(), [_, _]) && model[index].id.kind.is_vocab();
                let hint = if resized { ": a vocabulary of another size is not merged" } else { "" };
                self.bad(&tensor.name, format!("{reason}{hint}"))
            })?;
            if changes[index].replaced.replace(tensor.clone()).is_some() {
                return Err(self.bad(&tensor.name, "takes the place of a tensor that another one replaces too"));
            }
        }
        Ok(())
    }

    fn add(&self, model: &[TensorSpec], at: &HashMap<&str, usize>, changes: &mut [Change]) -> Result<(), Error> {
        let modules = Modules::new(&self.config, &self.config_path)?;
        let mut found = Vec::new();
        for (module, pair) in &self.pairs {
            let first = [&pair.down, &pair.up, &pair.up_bias].into_iter().flatten().next();
            let first = first.map_or(module.as_str(), |tensor| tensor.name.as_str());
            let index = at.get(format!("{module}.weight").as_str()).filter(|&&index| model[index].shape.len() == 2);
            let Some(&index) = index else { return Err(self.bad(first, "no such matrix in the base model")) };
            if !modules.is_target(module, model[index].id.kind.is_vocab()) {
                let reason = format!("not a module that {CONFIG} names (target_modules)");
                return Err(self.bad(first, reason));
            }
            found.push((module.as_str(), pair, index));
        }
        let names: Vec<&str> = found.iter().map(|&(module, ..)| module).collect();
        for ((module, pair, index), (rank, alpha)) in found.into_iter().zip(modules.ranks(&names)?) {
            let scale = self.config.scale(rank, alpha);
            if !(scale as f32).is_finite() {
                let reason = format!("{alpha} at rank {rank} makes no finite factor");
                return Err(Error::json(&self.config_path, "lora_alpha", reason));
            }
            let product = self.product(module, pair, &model[index], rank, scale)?;
            if changes[index].added.replace(product).is_some() {
                return Err(Error::layout(&self.path, format!("{} has matrices under two names", excerpt(module))));
            }
            if let Some(bias) = self.bias(module, pair)? {
                let Some(&index) = at.get(format!("{module}.bias").as_str()) else {
                    return Err(self.bad(&bias.name, "the base has no bias that it could be added to"));
                };
                check_shape(bias, &model[index].shape, "as the base").map_err(|reason| self.bad(&bias.name, reason))?;
                changes[index].added = Some(Addend::Bias { bias: bias.clone(), scale });
            }
        }
        Ok(())
    }

    /// The pair as an addend of a tensor, its shapes checked.
    fn product(
        &self,
        module: &str,
        pair: &Pair,
        wanted: &TensorSpec,
        rank: usize,
        scale: f64,
    ) -> Result<Addend, Error> {
        let missing = |what: &str| Error::layout(&self.file.path, format!("{} has no {what}", excerpt(module)));
        let is_embedding = wanted.id.kind == Kind::TokenEmbd;
        let (names, kind) = match is_embedding {
            true => (["lora_embedding_A", "lora_embedding_B"], "an embedding"),
            false => (["lora_A", "lora_B"], "a linear layer"),
        };
        let (Some(down), Some(up)) = (&pair.down, &pair.up) else {
            return Err(missing(names[usize::from(pair.down.is_some())]));
        };
        if pair.of_tokens != is_embedding {
            return Err(self.bad(&down.name, format!("its module is {kind}, wanted {}", names[0])));
        }
        let [rows, cols] = [wanted.shape[0], wanted.shape[1]];
        let [inner, outer] = if is_embedding { [rows, cols] } else { [cols, rows] };
        for (tensor, shape) in [(down, [rank, inner]), (up, [outer, rank])] {
            let why = format!("for rank {rank} and a matrix of {:?}", wanted.shape);
            check_shape(tensor, &shape, &why).map_err(|reason| self.bad(&tensor.name, reason))?;
        }
        let (down, up) = (down.clone(), up.clone());
        Ok(if is_embedding { Addend::Transposed { down, up, scale } } else { Addend::Product { down, up, scale } })
    }

    /// The bias of `lora_B`, if the config has one.
    fn bias<'p>(&self, module: &str, pair: &'p Pair) -> Result<Option<&'p SourceTensor>, Error> {
        match (&pair.up_bias, self.config.lora_bias) {
            (Some(bias), false) => Err(self.bad(&bias.name, format!("a bias, but {CONFIG} does not say lora_bias"))),
            (None, true) if pair.of_tokens => {
                Err(Error::json(&self.config_path, "lora_bias", "true, but an embedding is adapted, which has no bias"))
            }
            (None, true) => Err(Error::json(
                &self.config_path,
                "lora_bias",
                format!("true, but {} has no lora_B.bias", excerpt(module)),
            )),
            (bias, _) => Ok(bias.as_ref()),
        }
    }

    /// Refuses an adapter that lacks tensors which its config requires.
    fn check_complete(&self, model: &[TensorSpec], changes: &[Change]) -> Result<(), Error> {
        let modules = Modules::new(&self.config, &self.config_path)?;
        for (wanted, change) in model.iter().zip(changes) {
            let names = || wanted.hf.iter().filter_map(|name| module_of(name));
            let lacks = |key: &str, what: &str| {
                let module = names().next().unwrap_or_default();
                Error::json(&self.config_path, key, format!("names {}, of which there is no {what}", excerpt(module)))
            };
            if wanted.shape.len() == 2
                && change.added.is_none()
                && names().any(|module| modules.is_target(module, wanted.id.kind.is_vocab()))
            {
                return Err(lacks("target_modules", "lora_A"));
            }
            if change.replaced.is_none() && names().any(|module| modules.is_saved(module)) {
                return Err(lacks("modules_to_save", "weight"));
            }
        }
        Ok(())
    }

    /// Replaces `out` by `n_rows` rows of `tensor` from `first_row` on, as [`Checkpoint::read_rows`] does.
    ///
    /// # Errors
    /// As there.
    ///
    /// [`Checkpoint::read_rows`]: crate::Checkpoint::read_rows
    pub fn read_rows(
        &self,
        tensor: &SourceTensor,
        first_row: usize,
        n_rows: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        tensor.read_rows(&self.file, first_row, n_rows, out)
    }
}

/// The module of `MODULE.weight` or `MODULE.bias`.
fn module_of(name: &str) -> Option<&str> {
    name.rsplit_once('.').map(|(module, _)| module)
}

fn check_shape(tensor: &SourceTensor, wanted: &[usize], why: &str) -> Result<(), String> {
    match tensor.shape == wanted {
        true => Ok(()),
        false => Err(format!("shape {:?}, wanted {wanted:?} {why}", Shown(&tensor.shape))),
    }
}
