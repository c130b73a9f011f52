//! `pythia-run activations` and `pythia_inside::export`: the values are those of a pass over each text alone, and a run
//! that is stopped anywhere goes on to the same bytes.

mod cut;
mod folder;
mod npz;
mod program;
mod resume;
mod values;

use crate::common::{Outcome, gguf, names, run_model};
use pythia_inside::export::{Dtype, Format, Input, Kind, Options, Positions, Request, SHARD_BYTES, Summary, export};
use pythia_inside::{Error, Reach, Selection};
use pythia_model::Model;
use pythia_runtime::{Text, Tokenizer};
use pythia_task::{Cancel, Progress};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::sync::Arc;

const PROGRAM: &str = "pythia-run";

/// A model, its tokenizer and what a test asks of them.
struct Case {
    model: Arc<Model>,
    tokenizer: Tokenizer,
    options: Options,
}

impl Case {
    fn open(path: &Path, hooks: &[&str]) -> Self {
        let model = Model::open(path, &pythia_model::Options::default()).unwrap();
        let tokenizer = Tokenizer::from_gguf(&model.gguf().metadata).unwrap();
        let options = Options {
            selection: Selection::parse(hooks, model.hparams()).unwrap(),
            positions: Positions::all(),
            dtype: Dtype::F32,
            format: Format::Safetensors,
            window: model.hparams().n_ctx,
            bos: None,
            shard_bytes: SHARD_BYTES,
            max_sequences: None,
        };
        Self { model, tokenizer, options }
    }

    fn q8(hooks: &[&str]) -> Self {
        Self::open(&gguf("Q8_0"), hooks)
    }

    fn run(&self, text: &Text, kind: Kind, folder: &Path) -> Result<Summary, Error> {
        self.run_with(text, kind, folder, &Cancel::new(), &())
    }

    fn run_with(
        &self,
        text: &Text,
        kind: Kind,
        folder: &Path,
        cancel: &Cancel,
        progress: &dyn Progress,
    ) -> Result<Summary, Error> {
        let (options, program, reach) = (&self.options, "a test", &Reach::default());
        let request = Request { options, model_files: Vec::new(), program, reach, force: false, cancel };
        export(&self.model, &self.tokenizer, &Input { text, kind }, folder, &request, progress)
    }
}

/// A list of token ids per line.
fn ids(texts: &[Vec<u32>]) -> Text {
    let line = |ids: &Vec<u32>| ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
    Text::literal(&texts.iter().map(line).collect::<Vec<_>>().join("\n"), "ids")
}

/// Token ids without a meaning, `n` of them.
fn some_ids(n: usize, seed: u32) -> Vec<u32> {
    (0..n as u32).map(|i| i.wrapping_mul(2_654_435_761).wrapping_add(seed * 97) % 4090).collect()
}

/// The files of a folder.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    names(folder).into_iter().map(|name| (name.clone(), fs::read(folder.join(name)).unwrap())).collect()
}

fn manifest(folder: &Path) -> Value {
    serde_json::from_slice(&fs::read(folder.join("manifest.json")).unwrap()).unwrap()
}

/// Runs `activations` with these words after the model.
fn activations(folder: &Path, args: &[&str]) -> Outcome {
    let model = gguf("Q8_0");
    run_model(folder, ["activations", "-m", model.to_str().unwrap()].iter().chain(args))
}
