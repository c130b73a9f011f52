//! The options of a calibration.

use pythia_calibrate::calibration::Settings;

/// Which part of a text is read, and how.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct SettingOptions {
    /// Tokens per window; 0 for the model's context length [default: 512, or the model's context if that is shorter]
    #[arg(short = 'c', long = "ctx", visible_alias = "ctx-size", value_name = "N")]
    n_ctx: Option<usize>,
    /// Use the first N windows of the text
    #[arg(long, visible_alias = "chunks", value_name = "N", default_value_t = Settings::WINDOWS as u64)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    windows: u64,
    /// Seed of the labels that are drawn from the model's predictions
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Collect the second moments of the inputs of every matrix too; several times larger for wide models
    #[arg(long)]
    pub(super) inputs: bool,
}

impl SettingOptions {
    /// The settings.
    pub(super) fn settings(&self) -> Settings {
        let windows = usize::try_from(self.windows).unwrap_or(usize::MAX);
        Settings { n_ctx: self.n_ctx, windows, seed: self.seed, inputs: self.inputs }
    }
}
