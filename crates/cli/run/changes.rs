//! Options that change what a model computes.

use super::beginning::locate;
use crate::exit::{self, Failure};
use crate::input::TextOptions;
use crate::outputs::name;
use pythia_inside::{
    Ablation, Change, Changes, Reach, Selection, control_vectors, mean_over, patches, steering_vectors,
};
use pythia_model::{Hook, Model};
use pythia_runtime::Tokenizer;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Of the options. Said for each, as `next_help_heading` would go on in the command that has them.
const HEADING: &str = "Changes of the model";

/// The options that name control vectors.
const CONTROL_VECTORS: &str = "control_vectors";

/// Changes, made in this order: values of another run are put in, heads and MLPs taken away, vectors added.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new(CONTROL_VECTORS).multiple(true))]
pub(super) struct ChangeArgs {
    /// Put activations of another run in the place of these: a file of `pythia-run activations` and hooks in it, where *
    /// stands for those that can change. Of several texts in the file the first is taken
    #[arg(long, help_heading = HEADING, value_name = "HOOKS=FILE", value_parser = parse_patch)]
    patch: Vec<(String, PathBuf)>,
    /// Positions to patch, with commas between them: of the prompt, or of each text or window [default: all that are in the
    /// file]
    #[arg(long, help_heading = HEADING, value_name = "LIST", value_delimiter = ',', requires = "patch")]
    patch_positions: Vec<usize>,
    /// Take away attention heads, such as 3.1,3.5: LAYER.HEAD, both counted from 0
    #[arg(long, help_heading = HEADING, value_name = "LIST", value_delimiter = ',', value_parser = parse_head)]
    ablate_head: Vec<(usize, usize)>,
    /// Take away the MLPs of these layers
    #[arg(long, help_heading = HEADING, value_name = "LIST", value_delimiter = ',')]
    ablate_mlp: Vec<usize>,
    /// Put the means over this text in their place, instead of zeros
    #[arg(long, help_heading = HEADING, value_name = "FILE")]
    ablate_to_mean: Option<PathBuf>,
    /// Add a vector of a safetensors file to the residual stream after a block
    #[arg(long, help_heading = HEADING, value_name = "FILE[:LAYER[:SCALE]]", value_parser = parse_steer)]
    steer: Vec<Steer>,
    /// Add the vectors of a llama.cpp control vector
    #[arg(long, help_heading = HEADING, value_name = "FILE", group = CONTROL_VECTORS)]
    control_vector: Vec<PathBuf>,
    /// The same, times a factor
    #[arg(long, help_heading = HEADING, value_name = "FILE:SCALE", value_parser = parse_scaled, group = CONTROL_VECTORS)]
    control_vector_scaled: Vec<(PathBuf, f32)>,
    /// First and last layer that control vectors are added to [default: 1 and the last one]
    #[arg(long, help_heading = HEADING, num_args = 2, value_names = ["START", "END"], requires = CONTROL_VECTORS)]
    control_vector_layer_range: Vec<usize>,
}

#[derive(Clone, Debug, PartialEq)]
struct Steer {
    path: PathBuf,
    layer: Option<usize>,
    scale: f32,
}

fn parse_patch(arg: &str) -> Result<(String, PathBuf), String> {
    let (hooks, file) =
        arg.split_once('=').ok_or("wanted HOOKS=FILE, such as blocks.3.hook_resid_post=other.safetensors")?;
    Ok((hooks.to_owned(), file.into()))
}

fn parse_head(arg: &str) -> Result<(usize, usize), String> {
    let parsed = arg.split_once('.').and_then(|(layer, head)| Some((layer.parse().ok()?, head.parse().ok()?)));
    parsed.ok_or_else(|| "wanted LAYER.HEAD, such as 3.1".to_owned())
}

fn parse_scale(arg: &str) -> Result<f32, String> {
    arg.parse()
        .ok()
        .filter(|scale: &f32| scale.is_finite())
        .ok_or_else(|| format!("found the factor '{arg}', wanted a number"))
}

/// From the end, as a path may have colons too.
fn parse_steer(arg: &str) -> Result<Steer, String> {
    let parts: Vec<&str> = arg.rsplitn(3, ':').collect();
    let layer = |part: &str| (!part.is_empty()).then(|| part.parse::<usize>()).transpose();
    if let &[scale, of, path] = parts.as_slice()
        && let Ok(layer) = layer(of)
        && !path.is_empty()
    {
        return Ok(Steer { path: path.into(), layer, scale: parse_scale(scale)? });
    }
    if let Some((path, of)) = arg.rsplit_once(':')
        && let Ok(layer) = of.parse()
        && !path.is_empty()
    {
        return Ok(Steer { path: path.into(), layer: Some(layer), scale: 1.0 });
    }
    Ok(Steer { path: arg.into(), layer: None, scale: 1.0 })
}

fn parse_scaled(arg: &str) -> Result<(PathBuf, f32), String> {
    let (path, scale) = arg.rsplit_once(':').ok_or("wanted FILE:SCALE")?;
    Ok((path.into(), parse_scale(scale)?))
}

impl ChangeArgs {
    /// The files that are read.
    pub(super) fn inputs(&self) -> impl Iterator<Item = &Path> {
        let steer = self.steer.iter().map(|steer| &steer.path);
        let scaled = self.control_vector_scaled.iter().map(|(path, _)| path);
        let paths = self.patch.iter().map(|(_, path)| path).chain(&self.ablate_to_mean).chain(steer);
        paths.chain(&self.control_vector).chain(scaled).map(PathBuf::as_path)
    }

    /// The model with these changes, and how far its patches reach.
    pub(super) fn apply(&self, model: &Arc<Model>, tokenizer: &Tokenizer) -> Result<(Arc<Model>, Reach), Failure> {
        let h = model.hparams();
        let mut changes = Vec::new();
        let positions = (!self.patch_positions.is_empty()).then_some(&*self.patch_positions);
        for (hooks, path) in &self.patch {
            changes.extend(patches(path, &Selection::to_change(&[hooks], h)?, positions, h)?);
        }
        self.ablate(model, tokenizer, &mut changes)?;
        for Steer { path, layer, scale } in &self.steer {
            let name = name(path);
            for (layer, vector) in steering_vectors(path, *layer, h)? {
                changes.push(Change::steer(h, layer, &vector, *scale, &name)?);
            }
        }
        let layers = match *self.control_vector_layer_range {
            [start, end] if start <= end => start..=end,
            [start, end] => {
                return Err(Failure::usage(format_args!("--control-vector-layer-range: {start} is after {end}")));
            }
            _ => 1..=usize::MAX,
        };
        let plain = self.control_vector.iter().map(|path| (path, 1.0));
        for (path, scale) in plain.chain(self.control_vector_scaled.iter().map(|(path, scale)| (path, *scale))) {
            for (layer, vector) in control_vectors(path, &layers, h)? {
                changes.push(Change::steer(h, layer, &vector, scale, &name(path))?);
            }
        }
        let changes = Changes::new(changes);
        let reach = changes.reach();
        Ok((changes.of(model), reach))
    }

    fn ablate(&self, model: &Arc<Model>, tokenizer: &Tokenizer, changes: &mut Vec<Change>) -> Result<(), Failure> {
        let h = model.hparams();
        // Checked before the means are computed.
        for &(layer, head) in &self.ablate_head {
            Change::ablate_head(h, layer, head, Ablation::Zero)?;
        }
        for &layer in &self.ablate_mlp {
            Change::ablate_mlp(h, layer, Ablation::Zero)?;
        }
        let mut hooks: Vec<Hook> = self.ablate_head.iter().map(|&(layer, _)| Change::hook_of_head(layer)).collect();
        hooks.extend(self.ablate_mlp.iter().map(|&layer| Change::hook_of_mlp(layer)));
        let mut means = None;
        if let Some(path) = &self.ablate_to_mean {
            if hooks.is_empty() {
                return Err(Failure::usage("--ablate-to-mean: needs --ablate-head or --ablate-mlp"));
            }
            let text = TextOptions::default().open(path)?;
            let found = mean_over(model, tokenizer, &text, &hooks, exit::catch_interrupts())
                .map_err(|error| locate(error, model.paths().first().map_or(path, |path| path)))?;
            means = Some((found, name(path)));
        }
        let ablation = |i: usize| match &means {
            Some((means, name)) => Ablation::Mean(&means[i], name),
            None => Ablation::Zero,
        };
        for (i, &(layer, head)) in self.ablate_head.iter().enumerate() {
            changes.push(Change::ablate_head(h, layer, head, ablation(i))?);
        }
        for (i, &layer) in self.ablate_mlp.iter().enumerate() {
            changes.push(Change::ablate_mlp(h, layer, ablation(self.ablate_head.len() + i))?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steering_is_read_from_the_end() {
        let steer = |path: &str, layer, scale| Ok(Steer { path: path.into(), layer, scale });
        assert_eq!(parse_steer("v.safetensors"), steer("v.safetensors", None, 1.0));
        assert_eq!(parse_steer("v.safetensors:3"), steer("v.safetensors", Some(3), 1.0));
        assert_eq!(parse_steer("v.safetensors:3:-4.5"), steer("v.safetensors", Some(3), -4.5));
        assert_eq!(parse_steer("v.safetensors::2"), steer("v.safetensors", None, 2.0));
        assert_eq!(parse_steer("a:b/v:7"), steer("a:b/v", Some(7), 1.0));
        assert_eq!(parse_steer("a:b/v"), steer("a:b/v", None, 1.0));
        assert!(parse_steer("v:3:x").is_err() && parse_steer("v:3:inf").is_err());
        assert_eq!(parse_head("3.10"), Ok((3, 10)));
        assert!(["3", "3.", "a.b", "3.1.2", ""].iter().all(|arg| parse_head(arg).is_err()));
        assert_eq!(parse_scaled("a:b:0.5"), Ok(("a:b".into(), 0.5)));
        assert!(parse_scaled("a").is_err() && parse_scaled("a:x").is_err() && parse_patch("x").is_err());
    }
}
