//! The types of the matrices of a file, chosen for the smallest divergence within a number of bytes.
//!
//! A first walk rounds the model at its level and estimates, for every matrix and type, what that would add to the
//! divergence. These sums have a best choice within the budget. Then this choice and some that are best if the estimates
//! of the embedding or of the output matrix are off are tried: the model is rounded, and the divergence measured on
//! held-out tokens.

use crate::error::Error;
use crate::feedback::{open, rounded_type};
use crate::knapsack::{self, Choice};
use crate::report::{MatrixReport, Report};
use crate::settings::Settings;
use crate::walk::{Target, Walk};
use pythia_calibrate::calibration::Calibration;
use pythia_calibrate::network::Network;
use pythia_convert::{Budget, FilePlan, Level, PassOptions, Plan, Request, Source, TypeRule, plan};
use pythia_schema::{Kind, TensorId};
use pythia_tensor::TensorType;
use regex::Regex;
use std::collections::HashMap;

/// Types that matrices can get. Those of two bits and a list are left out: they are slow to run.
const TYPES: [TensorType; 12] = [
    TensorType::Q2_K,
    TensorType::Q3_K,
    TensorType::IQ4_XS,
    TensorType::Q4_K,
    TensorType::IQ4_NL,
    TensorType::Q4_0,
    TensorType::Q4_1,
    TensorType::Q5_K,
    TensorType::Q5_0,
    TensorType::Q5_1,
    TensorType::Q6_K,
    TensorType::Q8_0,
];

/// By what the estimates of the embedding and of the output matrix are multiplied, to find choices next to the best.
const DOUBTS: [(f64, f64); 5] = [(1.0, 1.0), (1.0, 0.4), (1.0, 2.5), (0.5, 1.0), (2.0, 1.0)];

/// What is to be allocated.
#[derive(Clone, Debug)]
pub struct Allocate {
    /// The level that matrices have without an allocation.
    pub level: Level,
    /// How large the file may be.
    pub budget: Budget,
    /// No matrix gets more bits per weight than this type has.
    pub max_type: Option<TensorType>,
    /// Matrices whose GGUF names one of these matches anywhere keep the type of the level.
    pub keep: Vec<Regex>,
    /// How many choices are tried, at most. With 1, nothing is tried: the estimates decide.
    pub tries: usize,
}

/// The types that were chosen.
#[derive(Clone, Debug)]
pub struct Allocation {
    /// The types of all matrices, by their names in GGUF.
    pub types: Vec<(String, TensorType)>,
    /// The same as rules of a recipe: one for every matrix whose type is not the level's.
    pub rules: Vec<TypeRule>,
    /// The sum of the estimates.
    pub predicted: f64,
    /// The divergence on held-out tokens, if it was tried.
    pub divergence: Option<f64>,
    /// That of the types of the level, and the bytes of its file.
    pub level: (Option<f64>, u64),
    /// Bytes of the file.
    pub n_bytes: u64,
    /// Choices that were tried.
    pub tried: usize,
}

/// Chooses the types of one file. `request` is that of the conversion, whose recipe is that of the level; its files do
/// not count.
///
/// # Errors
/// If the model or the calibration cannot be used, not even the smallest types fit into the budget, or it is cancelled.
pub fn allocate(
    source: &dyn Source,
    calibration: &Calibration,
    settings: &Settings,
    request: &Request,
    allocate: &Allocate,
    options: PassOptions<'_>,
) -> Result<Allocation, Error> {
    let network = open(source, calibration, options.threads)?;
    let search = Search { source, network: &network, calibration, settings, request, allocate, options };
    search.run()
}

struct Search<'a> {
    source: &'a dyn Source,
    network: &'a Network<'a>,
    calibration: &'a Calibration,
    settings: &'a Settings,
    request: &'a Request,
    allocate: &'a Allocate,
    options: PassOptions<'a>,
}

/// Types by name.
type Types = HashMap<String, TensorType>;

impl Search<'_> {
    fn run(&self) -> Result<Allocation, Error> {
        let Allocate { level, budget, tries, .. } = self.allocate;
        let own = self.planned(Vec::new())?;
        let limit = budget.tensor_bytes(self.source, self.request, *level)?;
        let types = types_of(&own);
        self.options.progress.stage(&format!("measuring {level}"));
        let report = self.walk(&own, &types, &self.candidates())?;
        let mut tried: Vec<Types> = Vec::new();
        // The types of the level are a choice too, if they fit.
        let most = self.most_bits();
        let allowed = report.matrices.iter().all(|matrix| matrix.ty.bits_per_weight() <= most);
        let mut best = if allowed && file(&own).tensor_bytes() <= limit {
            let predicted = report.matrices.iter().map(|matrix| matrix.predicted).sum();
            Some(self.allocation(&own, &report, &types, &own, (predicted, report.divergence))?)
        } else {
            None
        };
        for (embedding, output) in DOUBTS {
            if tried.len() == *tries {
                break;
            }
            let (types, plan, predicted) = self.fitting(&own, &report, limit, (embedding, output))?;
            if tried.contains(&types) {
                continue;
            }
            tried.push(types.clone());
            let divergence = if *tries > 1 {
                self.options.progress.stage(&format!("trying choice {} of {tries}", tried.len()));
                self.walk(&own, &types, &[])?.divergence
            } else {
                None
            };
            // Where nothing is measured, the estimates decide.
            let better = |best: &Allocation| match divergence.zip(best.divergence) {
                Some((new, old)) => new < old,
                None => predicted < best.predicted,
            };
            if best.as_ref().is_none_or(better) {
                best = Some(self.allocation(&own, &report, &types, &plan, (predicted, divergence))?);
            }
        }
        let mut best = best.expect("at least one choice");
        best.tried = tried.len();
        Ok(best)
    }

    /// What becomes of a choice of types with this plan, whose loss was predicted and perhaps measured.
    fn allocation(
        &self,
        own: &Plan,
        report: &Report,
        types: &Types,
        plan: &Plan,
        (predicted, divergence): (f64, Option<f64>),
    ) -> Result<Allocation, Error> {
        let named = |matrix: &MatrixReport| (matrix.tensor.clone(), types[&matrix.tensor]);
        Ok(Allocation {
            types: report.matrices.iter().map(named).collect(),
            rules: self.rules(own, types)?,
            predicted,
            divergence,
            level: (report.divergence, file(own).n_bytes()),
            n_bytes: file(plan).n_bytes(),
            tried: 0,
        })
    }

    /// The plan of the file with these rules after those of the recipe.
    fn planned(&self, rules: Vec<TypeRule>) -> Result<Plan, Error> {
        let mut recipe = self.request.recipe.clone();
        recipe.rules.extend(rules);
        let files = vec![(self.allocate.level, "allocation.gguf".into())];
        let request = Request { files, recipe, ..self.request.clone() };
        Ok(plan(self.source, &request)?)
    }

    fn most_bits(&self) -> f64 {
        self.allocate.max_type.map_or(f64::INFINITY, TensorType::bits_per_weight)
    }

    fn candidates(&self) -> Vec<TensorType> {
        let most = self.most_bits();
        TYPES.into_iter().filter(|ty| ty.bits_per_weight() <= most).collect()
    }

    fn walk(&self, own: &Plan, types: &Types, alternatives: &[TensorType]) -> Result<Report, Error> {
        let stored = &own.tensors.iter().map(|tensor| (tensor.name.clone(), tensor.source.ty)).collect();
        let walk = Walk {
            network: self.network,
            calibration: self.calibration,
            settings: self.settings,
            target: &Dry { types, stored },
            alternatives,
            cancel: self.options.cancel,
            progress: self.options.progress,
        };
        walk.run()
    }

    /// The best choice whose tensors fit into `limit` bytes, its plan, and its predicted loss. The rules are written
    /// into the header too: what it grows by is taken from the tensors.
    fn fitting(
        &self,
        own: &Plan,
        report: &Report,
        limit: u64,
        doubts: (f64, f64),
    ) -> Result<(Types, Plan, f64), Error> {
        let mut left = limit;
        loop {
            let (types, predicted) = self.choose(own, report, left, doubts)?;
            let plan = self.planned(self.rules(own, &types)?)?;
            let allowed = (limit + file(own).header_bytes()).saturating_sub(file(&plan).header_bytes());
            let taken = file(&plan).tensor_bytes();
            if taken <= allowed {
                return Ok((types, plan, predicted));
            }
            left = left.saturating_sub(taken - allowed);
        }
    }

    fn choose(
        &self,
        own: &Plan,
        report: &Report,
        limit: u64,
        (embedding, output): (f64, f64),
    ) -> Result<(Types, f64), Error> {
        let kept = |name: &str| self.allocate.keep.iter().any(|keep| keep.is_match(name));
        let shapes: HashMap<&str, &[usize]> =
            own.tensors.iter().map(|tensor| (tensor.name.as_str(), &tensor.shape[..])).collect();
        let alignment = file(own).shards[0].layout.alignment();
        let bytes = |name: &str, ty: TensorType| {
            let shape = shapes[name];
            let bytes = shape[0] * ty.row_bytes(shape[1]).expect("whole blocks");
            (bytes as u64).next_multiple_of(alignment)
        };
        let (mut options, most) = (Vec::new(), self.most_bits());
        for matrix in &report.matrices {
            let others = matrix.alternatives.iter().filter(|_| !kept(&matrix.tensor)).map(|a| (a.ty, a.predicted));
            let mut types: Vec<_> = others.filter(|(ty, _)| *ty != matrix.ty).collect();
            if types.is_empty() || matrix.ty.bits_per_weight() <= most {
                types.push((matrix.ty, matrix.predicted));
            }
            // By type, so that ties do not depend on the level.
            types.sort_by_key(|(ty, _)| *ty);
            options.push(types);
        }
        let doubt = |name: &str| match TensorId::from_gguf(name).map(|id| id.kind) {
            Some(Kind::TokenEmbd) => embedding,
            Some(Kind::Output) => output,
            _ => 1.0,
        };
        let items = report.matrices.iter().zip(&options).map(|(matrix, types)| {
            let name = &matrix.tensor;
            let choice = |&(ty, loss): &(TensorType, f64)| Choice { bytes: bytes(name, ty), cost: loss * doubt(name) };
            types.iter().map(choice).collect()
        });
        let items: Vec<Vec<Choice>> = items.collect();
        let chosen_now: u64 = report.matrices.iter().map(|matrix| bytes(&matrix.tensor, matrix.ty)).sum();
        let fixed = file(own).tensor_bytes() - chosen_now;
        let too_small = || {
            let least: u64 = items.iter().filter_map(|item| item.iter().map(|option| option.bytes).min()).sum();
            let (limit, least) = (limit, least + fixed);
            Error::Budget(format!("tensors may take {limit} bytes, but take {least} in their smallest types"))
        };
        let chosen = limit.checked_sub(fixed).and_then(|left| knapsack::solve(&items, left)).ok_or_else(too_small)?;
        let mut types = types_of(own);
        let mut predicted = 0.0;
        for ((matrix, options), chosen) in report.matrices.iter().zip(&options).zip(chosen) {
            predicted += options[chosen].1;
            types.insert(matrix.tensor.clone(), options[chosen].0);
        }
        Ok((types, predicted))
    }

    /// A rule for every matrix whose type is not that of the level.
    fn rules(&self, own: &Plan, types: &Types) -> Result<Vec<TypeRule>, Error> {
        let tensors = own.tensors.iter().zip(&file(own).choices);
        let changed = tensors.filter(|(tensor, choice)| types[&tensor.name] != choice.ty);
        Ok(changed.map(|(tensor, _)| TypeRule::exact(&tensor.name, types[&tensor.name])).collect::<Result<_, _>>()?)
    }
}

/// The only file of a plan.
fn file(plan: &Plan) -> &FilePlan {
    &plan.files[0]
}

fn types_of(plan: &Plan) -> Types {
    plan.tensors.iter().zip(&file(plan).choices).map(|(tensor, choice)| (tensor.name.clone(), choice.ty)).collect()
}

/// A walk that keeps nothing.
struct Dry<'t> {
    types: &'t Types,
    /// The types that the source has.
    stored: &'t Types,
}

impl Target for Dry<'_> {
    fn ty(&self, id: TensorId) -> Option<TensorType> {
        let name = id.gguf();
        rounded_type(self.types[&name], self.stored[&name])
    }

    fn matrix(&self, _: TensorId, _: &[u8]) -> Result<(), Error> {
        Ok(())
    }

    fn vector(&self, _: TensorId, _: &[f32]) -> Result<(), Error> {
        Ok(())
    }
}
