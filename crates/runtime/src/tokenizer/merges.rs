//! What every BPE merge must be.

/// Checks that a merge has two halves, and that they and what they make are tokens.
pub(super) fn check_merge(pair: Option<(&str, &str)>, is_token: impl Fn(&str) -> bool) -> Result<(), String> {
    let Some((left, right)) = pair.filter(|(left, right)| !left.is_empty() && !right.is_empty()) else {
        return Err("found no two halves".to_owned());
    };
    let joined = format!("{left}{right}");
    match [left, right, &joined].into_iter().find(|part| !is_token(part)) {
        Some(part) => Err(format!("{left:?} and {right:?}, but {part:?} is no token")),
        None => Ok(()),
    }
}
