//! Scores that are kept after a run.

/// The score of a model for one token.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TokenScore {
    /// Negative log-likelihood of the correct token, in nats.
    pub nll: f64,
    /// Divergence of the base's prediction from this one, in nats; 0 for the base.
    pub kld: f64,
    /// Whether the base finds the same token most likely.
    pub same_top: bool,
}

/// A store for the scores of earlier runs and of this one. With it, a stopped comparison continues where it was, with
/// the same results to the bit. Models are numbered: 0 is the base, the levels follow. Windows are numbered from the
/// start of the text.
pub trait Store {
    /// The scores of a window, one for each scored token, if they are stored.
    fn read(&mut self, model: usize, window: usize) -> Option<Vec<TokenScore>>;

    /// Stores the scores of a new window. Windows of a model come in order.
    fn write(&mut self, model: usize, window: usize, scores: &[TokenScore]);
}

/// A store that keeps nothing.
impl Store for () {
    fn read(&mut self, _model: usize, _window: usize) -> Option<Vec<TokenScore>> {
        None
    }

    fn write(&mut self, _model: usize, _window: usize, _scores: &[TokenScore]) {}
}
