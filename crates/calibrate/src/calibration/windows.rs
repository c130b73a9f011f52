//! The windows of a text.

use crate::Error;
use pythia_runtime::TokenStream;

/// Checks the length of windows for a model with a context of `longest` tokens.
///
/// # Errors
/// If it is 0 or longer.
pub fn check_n_ctx(n_ctx: usize, longest: usize) -> Result<(), Error> {
    if (1..=longest).contains(&n_ctx) {
        return Ok(());
    }
    Err(Error::Setting { name: "ctx", problem: format!("found {n_ctx}, wanted 1 to {longest}, the model's context") })
}

/// The first windows of `n_ctx` tokens of a text, at most `max`, disjoint and in order. An incomplete last window is
/// dropped.
///
/// # Errors
/// If the text cannot be read or tokenized, has less than a window of tokens, or ids of `n_vocab` or more.
pub fn windows(tokens: &mut TokenStream<'_>, n_vocab: usize, n_ctx: usize, max: usize) -> Result<Vec<u32>, Error> {
    if n_ctx == 0 || max == 0 {
        let problem = "found 0, wanted at least 1".to_owned();
        return Err(Error::Setting { name: if n_ctx == 0 { "ctx" } else { "windows" }, problem });
    }
    tokens.require_below(n_vocab)?;
    tokens.reach_end_if_short()?;
    let found = tokens.reach(n_ctx.saturating_mul(max))?;
    if found < n_ctx {
        return Err(pythia_runtime::Error::TextTooShort { tokens: found, wanted: n_ctx, protocol: "calibrate" }.into());
    }
    Ok(tokens.slice(0..found / n_ctx * n_ctx).to_vec())
}
