//! Scores that outlive a run.

/// What is kept of a model's prediction of one token.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TokenScore {
    /// Negative log-likelihood of the correct token, in nats.
    pub nll: f64,
    /// Divergence of the base's prediction from this one, in nats; 0 for the base.
    pub kld: f64,
    /// Whether the base finds the same token most likely.
    pub same_top: bool,
}

/// Scores that an earlier run has left, and a place for those of this one: a comparison that was stopped goes on where
/// it was, with the same results to the bit. Models are numbered: 0 is the base, the levels follow. Windows are numbered
/// from the first of the text on.
pub trait Store {
    /// The scores of a window, one for each scored token, if they are there.
    fn read(&mut self, model: usize, window: usize) -> Option<Vec<TokenScore>>;

    /// Takes the scores of a window that was not there. Windows of a model come in order.
    fn write(&mut self, model: usize, window: usize, scores: &[TokenScore]);
}

/// A store that keeps nothing.
impl Store for () {
    fn read(&mut self, _model: usize, _window: usize) -> Option<Vec<TokenScore>> {
        None
    }

    fn write(&mut self, _model: usize, _window: usize, _scores: &[TokenScore]) {}
}
