//! Rules for BPE merges: a merge joins two pieces, and both pieces and the result are tokens.

/// The two pieces of a merge written as text, with one space between.
pub(crate) fn halves(merge: &str) -> Option<(&str, &str)> {
    merge.split_once(' ').filter(|(left, right)| is_piece(left) && is_piece(right))
}

/// Whether a text can be one of the pieces: byte-level ones hold no space.
pub(crate) fn is_piece(text: &str) -> bool {
    !text.is_empty() && !text.contains(' ')
}

/// The first of both pieces and what they make that is no token. A merge that makes a longer text than any token makes
/// the `tokenizers` crate panic. `whole` is a buffer in any state, so that thousands of merges need one allocation.
pub(crate) fn no_token(left: &str, right: &str, whole: &mut String, is_token: impl Fn(&str) -> bool) -> Option<String> {
    whole.clear();
    whole.push_str(left);
    whole.push_str(right);
    [left, right, whole].into_iter().find(|piece| !is_token(piece)).map(str::to_owned)
}
