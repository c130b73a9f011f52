//! `pythia-quant sweep plan`: finds the checkpoints and writes the manifest.

use crate::exit::{self, Failure};
use crate::input::{TaskOptions, check_file};
use crate::progress::{Bar, Unit};
use pythia_convert::Level;
use pythia_convert::provenance::sha256_file;
use pythia_model::{Activations, Gelu, Options};
use pythia_runtime::{Arithmetic, parse_activations, parse_gelu};
use pythia_show::{Width, number};
use pythia_sweep::spec::{Measure, PLAIN, Recipe, Spec, TextFile};
use pythia_sweep::{Manifest, Model, Request, Steps, Sweep, plan, relative};
use pythia_task::Progress;
use pythia_text::counted;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Names all models of the card: 70m to 12b, standard and deduped.
#[cfg(feature = "hub")]
const SUITE: &str = "suite";
/// Bytes per token, about, of what tasks ask.
const TASK_BYTES_PER_TOKEN: u64 = 4;

/// Find checkpoints and list what is measured of each: a folder with a manifest
///
/// Nothing is downloaded but lists of files. Checkpoints with the same files, by their digests, are computed once.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Models: OWNER/NAME on the Hub, a folder with stepN subfolders, a folder with one checkpoint, or `suite` for the 16
    /// models of the Pythia card
    #[arg(required = true, value_name = "MODEL")]
    models: Vec<PathBuf>,
    /// Revisions: all, log (0, powers of two, 1000 times those, the last), 0..143000, 0..143000:1000, step512, main;
    /// several by commas
    #[arg(short, long, value_name = "STEPS", default_value = "all")]
    steps: Steps,
    /// Levels, which are compared with the checkpoint in its own type
    #[arg(
        short = 't',
        long = "type",
        value_delimiter = ',',
        value_name = "TYPE",
        default_value = "Q8_0,Q4_0,Q4_K_M,Q2_K"
    )]
    types: Vec<Level>,
    /// Text to measure perplexity and divergence on, UTF-8; may be repeated
    #[arg(short = 'f', long = "file", value_name = "TEXT", required = true)]
    texts: Vec<PathBuf>,
    /// Remove a byte order mark from texts, and read CR LF line ends as LF
    #[arg(long)]
    unix_text: bool,
    /// Tokens per chunk; several by commas
    #[arg(short = 'c', long = "ctx", visible_alias = "ctx-size", value_delimiter = ',', value_name = "N")]
    #[arg(default_value = "512", value_parser = clap::value_parser!(u32).range(4..))]
    n_ctx: Vec<u32>,
    /// Only the first N chunks of each text
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    chunks: Option<u32>,
    /// How levels are rounded; each level is made in each of these ways
    #[arg(long, value_enum, value_delimiter = ',', hide_possible_values = true, value_name = "plain,imatrix,feedback")]
    #[arg(default_value = "plain")]
    quantizer: Vec<Way>,
    /// Text for importances and calibrations, which are computed from the activations of each checkpoint
    #[arg(long, value_name = "TEXT")]
    calibrate: Option<PathBuf>,
    /// Level that the others are compared with [default: the type of the checkpoint]
    #[arg(long, value_name = "TYPE")]
    base: Option<Level>,
    #[command(flatten)]
    tasks: TaskOptions,
    /// Activations in products with quantized weights: int8 or f32, as in compare
    #[arg(long, value_name = "int8|f32", value_parser = parse_activations, default_value = "int8")]
    activations: Activations,
    /// Form of GELU [default: what the checkpoint says, or erf]
    #[arg(long, value_name = "erf|tanh", value_parser = parse_gelu)]
    gelu: Option<Gelu>,
    /// Keep the sums over each chunk of a text, for `collect --chunks`; some 40 bytes per chunk and cell
    #[arg(long)]
    chunk_sums: bool,
    /// Folder of the sweep
    #[arg(short, long, value_name = "DIR", default_value = "sweep")]
    output: PathBuf,
    /// Open no connection (same as HF_HUB_OFFLINE=1)
    #[arg(long)]
    offline: bool,
    /// Replace the manifest of an existing sweep; results of cells that are in both stay valid
    #[arg(long)]
    force: bool,
    /// Print only warnings and errors
    #[arg(short, long)]
    quiet: bool,
}

/// A way to round levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Way {
    Plain,
    Imatrix,
    Feedback,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Plain => PLAIN,
            Self::Imatrix => "imatrix",
            Self::Feedback => "feedback",
        }
    }
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let cancel = exit::catch_interrupts();
    let manifest_path = args.output.join(pythia_sweep::MANIFEST);
    pythia_convert::output::check_target(&manifest_path, &args.texts, args.force)?;
    let (spec, task_tokens) = args.spec()?;
    let program = format!("{} {}", super::super::PROGRAM, env!("CARGO_PKG_VERSION"));
    let models = args.models()?;
    let request = Request { models, steps: args.steps.clone(), spec, task_tokens, program, cancel: cancel.clone() };
    let bar: Arc<dyn Progress> = Arc::new(Bar::new(0, Unit::Items("checkpoints"), args.quiet));
    let manifest = plan(
        &request,
        &args.output,
        #[cfg(feature = "hub")]
        &super::hub_settings(args.offline)?,
        &bar,
    )?;
    drop(bar);
    let sweep = Sweep::create(&args.output, manifest, args.force, &exit::Notes { quiet: args.quiet })?;
    warn_of(sweep.manifest());
    if args.quiet { Ok(()) } else { exit::print(&summary(&sweep)) }
}

impl Args {
    fn models(&self) -> Result<Vec<Model>, Failure> {
        let mut models = Vec::new();
        for named in &self.models {
            if fs::metadata(named).is_ok() {
                models.push(Model::Folder(named.clone()));
                continue;
            }
            let text = named.to_string_lossy();
            #[cfg(feature = "hub")]
            if text == SUITE {
                models.extend(pythia_hub::suite().into_iter().map(Model::Hub));
                continue;
            } else if let Some(id) = pythia_hub::ModelId::parse(&text)? {
                if text.contains('@') {
                    let problem = "a model is named without revision here; --steps says which revisions";
                    return Err(Failure::usage(format_args!("{text}: {problem}")));
                }
                models.push(Model::Hub(id));
                continue;
            }
            return Err(Failure::io(format_args!("{text}: no such folder, and not OWNER/NAME of the Hub")));
        }
        Ok(models)
    }

    fn spec(&self) -> Result<(Spec, u64), Failure> {
        let mut measures = Vec::new();
        for path in &self.texts {
            let text = self.text(path)?;
            let mut lengths = self.n_ctx.clone();
            lengths.dedup();
            for n_ctx in lengths {
                let max_chunks = self.chunks.map(|n| n as usize);
                measures.push(Measure::Text { text: text.clone(), n_ctx: n_ctx as usize, max_chunks });
            }
        }
        let (tasks, task_tokens) = self.tasks()?.unzip();
        measures.extend(tasks);
        let mut names: Vec<String> = measures.iter().map(Measure::name).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            let name = &twice[0];
            return Err(Failure::usage(format_args!(
                "two texts are called {name}: texts of a sweep need different names"
            )));
        }
        let needs_text = self.quantizer.iter().any(|way| *way != Way::Plain);
        if needs_text != self.calibrate.is_some() {
            return Err(Failure::usage(if needs_text {
                "--quantizer imatrix and feedback need a text: --calibrate TEXT"
            } else {
                "--calibrate is for --quantizer imatrix or feedback"
            }));
        }
        let options = Options { activations: self.activations, gelu: self.gelu, ..Options::default() };
        let arithmetic = Arithmetic::of(&options);
        let spec = Spec {
            recipes: self.recipes()?,
            measures,
            calibration: self.calibrate.as_deref().map(|path| self.text(path)).transpose()?,
            base_level: self.base.map(|level| level.name().to_owned()),
            activations: arithmetic.activations.to_owned(),
            gelu: self.gelu.map(|_| arithmetic.gelu.to_owned()),
            keeps_chunks: self.chunk_sums,
        };
        Ok((spec, task_tokens.unwrap_or(0)))
    }

    /// The base, then every level in every way that can make it.
    fn recipes(&self) -> Result<Vec<Recipe>, Failure> {
        let mut recipes = vec![Recipe::base()];
        for &level in &self.types {
            if Some(level) == self.base {
                continue;
            }
            let ways: Vec<Way> =
                self.quantizer.iter().copied().filter(|way| *way != Way::Plain || !level.needs_importance()).collect();
            if ways.is_empty() {
                return Err(Failure::usage(format_args!(
                    "{level} needs importances: --quantizer imatrix or feedback, with --calibrate TEXT"
                )));
            }
            for way in ways {
                let recipe = Recipe { level: level.name().to_owned(), quantizer: way.name().to_owned() };
                if !recipes.contains(&recipe) {
                    recipes.push(recipe);
                }
            }
        }
        if recipes.len() == 1 {
            return Err(Failure::usage("there is only the base; wanted another level (--type)"));
        }
        Ok(recipes)
    }

    fn text(&self, path: &Path) -> Result<TextFile, Failure> {
        check_file(path)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let bytes = fs::metadata(path).map_err(|e| Failure::at(path, &e))?.len();
        let sha256 = sha256_file(path, exit::catch_interrupts())?;
        Ok(TextFile { name, path: relative(path, &self.output)?, sha256, bytes, unix_text: self.unix_text })
    }

    /// The tasks, and about how many tokens they have.
    fn tasks(&self) -> Result<Option<(Measure, u64)>, Failure> {
        if self.tasks.tasks.is_empty() {
            return Ok(None);
        }
        if self.tasks.names_samples() {
            return Err(Failure::usage("--samples: a sweep takes all documents of a task, or the first (--limit)"));
        }
        let works = self.tasks.load(&self.tasks.selection()?, self.offline, self.quiet)?;
        let digests: Vec<String> = works.iter().map(pythia_eval::Work::sha256).collect();
        let name = |name: &String| match super::is_own_task(name) {
            true => relative(Path::new(name), &self.output),
            false => Ok(name.clone()),
        };
        let measure = Measure::Tasks {
            names: self.tasks.tasks.iter().map(name).collect::<Result<_, _>>()?,
            shots: self.tasks.shots(),
            limit: self.tasks.n_documents(),
            data: self.tasks.data.as_deref().map(|path| relative(path, &self.output)).transpose()?,
            sha256: pythia_sweep::digest(&digests),
        };
        let bytes: u64 = works.iter().map(pythia_eval::Work::size).sum();
        Ok(Some((measure, bytes / TASK_BYTES_PER_TOKEN)))
    }
}

/// Warns of checkpoints that are missing or reported to be wrong.
fn warn_of(manifest: &Manifest) {
    const SHOWN: usize = 5;
    for missing in manifest.missing.iter().take(SHOWN) {
        super::super::warn(&format!("{}@{}: {}", missing.model, missing.revision, missing.reason));
    }
    if let Some(more) = manifest.missing.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        super::super::warn(&format!("{more} more checkpoints are missing; `sweep status` counts them"));
    }
    let checkpoints = manifest.groups.iter().flat_map(|group| &group.checkpoints);
    let mut warned: Vec<&str> = checkpoints.filter_map(|checkpoint| checkpoint.warning.as_deref()).collect();
    warned.sort_unstable();
    warned.dedup();
    warned.into_iter().for_each(super::super::warn);
}

fn summary(sweep: &Sweep) -> String {
    let manifest = sweep.manifest();
    let (groups, spec) = (&manifest.groups, &manifest.spec);
    let n_checkpoints: usize = groups.iter().map(|group| group.checkpoints.len()).sum();
    let mut same = Vec::new();
    for group in groups.iter().filter(|group| group.checkpoints.len() > 1) {
        let names: Vec<&str> = group.checkpoints.iter().map(|checkpoint| checkpoint.revision.as_str()).collect();
        same.push(format!("{}: {}", group.checkpoints[0].model, pythia_text::cut_middle(&names.join(", "), 60, 20)));
    }
    let core_seconds: f64 = groups.iter().map(|group| group.estimate.core_seconds).sum();
    let most = |of: fn(&pythia_sweep::manifest::Estimate) -> u64| groups.iter().map(|group| of(&group.estimate)).max();
    let download: u64 = groups
        .iter()
        .filter(|group| matches!(group.checkpoints[0].source, pythia_sweep::manifest::Source::Hub { .. }))
        .map(|group| group.estimate.download_bytes)
        .sum();
    let recipes: Vec<String> = spec.recipes.iter().map(Recipe::name).collect();
    let measures: Vec<String> = spec.measures.iter().map(Measure::name).collect();
    let mut rows = vec![
        ("sweep", sweep.folder().display().to_string()),
        ("checkpoints", format!("{n_checkpoints}, of which {} with different files", groups.len())),
    ];
    rows.extend(same.into_iter().map(|line| ("same files", line)));
    if !manifest.missing.is_empty() {
        rows.push(("missing", counted(manifest.missing.len(), "checkpoint")));
    }
    rows.extend([
        ("recipes", recipes.join(", ")),
        ("measures", measures.join(", ")),
        ("cells", manifest.cells.len().to_string()),
        ("time", format!("about {} of one core", super::duration(core_seconds))),
        (
            "memory",
            format!("about {} for the largest checkpoint", number::bytes(most(|e| e.memory_bytes).unwrap_or(0))),
        ),
        ("disk", format!("about {} at a time", number::bytes(most(|e| e.disk_bytes).unwrap_or(0)))),
    ]);
    if download > 0 {
        rows.push(("downloads", number::bytes(download)));
    }
    rows.push(("next", format!("pythia-quant sweep run {}", sweep.folder().display())));
    pythia_show::facts(&rows, 12, Width::of_stdout())
}
