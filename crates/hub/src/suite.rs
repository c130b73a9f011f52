//! Facts about EleutherAI's Pythia suite that need no server: old names, published steps, and the steps that are
//! reported to have wrong weights.

use crate::id::ModelId;

/// Who published the suite.
pub(crate) const OWNER: &str = "EleutherAI";

/// Sizes of the suite, as in the names of the models. Each was also trained on the deduplicated Pile.
const SIZES: [&str; 8] = ["70m", "160m", "410m", "1b", "1.4b", "2.8b", "6.9b", "12b"];

/// Sizes that were added to the suite later.
const LATER_SIZES: [&str; 2] = ["14m", "31m"];

/// Sizes before and after 20 January 2023, when the count began to include both embedding matrices (same table in the
/// README of github.com/EleutherAI/pythia).
const RENAMED: [(&str, &str); 8] = [
    ("19m", "70m"),
    ("125m", "160m"),
    ("350m", "410m"),
    ("800m", "1b"),
    ("1.3b", "1.4b"),
    ("2.7b", "2.8b"),
    ("6.7b", "6.9b"),
    ("13b", "12b"),
];

/// Steps at which every model was saved: 0, powers of two, then every thousandth.
const LAST_POWER: u32 = 512;
const STRIDE: u32 = 1000;
const LAST_STEP: u32 = 143_000;

/// The 16 models of the suite, from 70m to 12b: each size, and after it the same trained on the deduplicated Pile.
pub fn suite() -> Vec<ModelId> {
    let names = SIZES.into_iter().flat_map(|size| ["", "-deduped"].map(|data| format!("pythia-{size}{data}")));
    names.map(ModelId::of_suite).collect()
}

/// The steps at which every model was saved, 154 of them, in their order.
pub fn published_steps() -> impl Iterator<Item = u32> {
    (0..=LAST_STEP).filter(|&step| is_published(step))
}

/// The present name for an old one: `pythia-125m-deduped` was renamed to `pythia-160m-deduped` in 2023.
pub(crate) fn renamed(name: &str) -> Option<String> {
    let rest = name.strip_prefix("pythia-")?;
    let size = rest.split('-').next()?;
    let (_, new) = RENAMED.iter().find(|(old, _)| *old == size)?;
    Some(format!("pythia-{new}{}", &rest[size.len()..]))
}

/// Whether `name` is a model whose published steps are known. False for the first version (`-v0`) and for other models
/// of the same owner.
fn has_known_steps(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("pythia-") else { return false };
    let (size, variant) = rest.split_once('-').unwrap_or((rest, ""));
    let seed = variant.strip_prefix("seed").is_some_and(|seed| seed.len() == 1 && ("1"..="9").contains(&seed));
    SIZES.iter().chain(&LATER_SIZES).any(|known| *known == size) && (variant.is_empty() || variant == "deduped" || seed)
}

/// `N` of `stepN`, as a branch is written: without leading zeros.
pub(crate) fn step(revision: &str) -> Option<u32> {
    let digits = revision.strip_prefix("step")?;
    let step: u32 = digits.parse().ok()?;
    (step.to_string() == digits).then_some(step)
}

fn is_published(step: u32) -> bool {
    let early = step == 0 || (step.is_power_of_two() && step <= LAST_POWER);
    early || (step.is_multiple_of(STRIDE) && step <= LAST_STEP)
}

/// An explanation, if `revision` is a step of the model `name` that was never saved.
pub(crate) fn missing_step(name: &str, revision: &str) -> Option<String> {
    if !has_known_steps(name) {
        return None;
    }
    let step = step(revision).filter(|&step| !is_published(step))?;
    let below = (0..step.min(LAST_STEP + 1)).rev().find(|&step| is_published(step))?;
    let nearest = match (step..=LAST_STEP).find(|&step| is_published(step)) {
        Some(above) => format!("the nearest are step{below} and step{above}"),
        None => format!("the last is step{below}"),
    };
    Some(format!("no checkpoint was saved at {revision}: {nearest}"))
}

/// The reported fault of the published weights of this revision, if there is one.
pub(crate) fn known_fault(name: &str, revision: &str) -> Option<&'static str> {
    if !has_known_steps(name) {
        return None;
    }
    match (name, step(revision)?) {
        (_, 1) => Some("step1 is reported to hold the same weights as step0 (EleutherAI/pythia issue 83)"),
        ("pythia-2.8b", 0..LAST_STEP) => Some(
            "many step branches of pythia-2.8b are reported to hold weights of the end of training (EleutherAI/pythia \
             issue 205)",
        ),
        ("pythia-12b", 50_000 | 58_000) => {
            Some("this branch is reported to hold the final first shard (EleutherAI/pythia issue 206)")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_names_are_known_with_any_suffix() {
        assert_eq!(renamed("pythia-125m").as_deref(), Some("pythia-160m"));
        assert_eq!(renamed("pythia-1.3b-deduped").as_deref(), Some("pythia-1.4b-deduped"));
        for name in SIZES.into_iter().chain(LATER_SIZES) {
            assert_eq!(renamed(&format!("pythia-{name}")), None);
        }
        assert_eq!(renamed("gpt-neo-125m"), None);
    }

    #[test]
    fn there_are_154_steps_and_16_models() {
        let steps = Vec::from_iter(published_steps());
        assert_eq!((steps.len(), &steps[..4], steps[153]), (154, &[0, 1, 2, 4][..], 143_000));
        assert!((LAST_STEP + 1..200_000).all(|step| !is_published(step)));
        let models = suite();
        assert_eq!((models.len(), models[1].name(), models[14].name()), (16, "pythia-70m-deduped", "pythia-12b"));
        assert!(models.iter().all(|id| has_known_steps(id.name()) && ModelId::parse(&id.repo()).unwrap().is_some()));
    }

    #[test]
    fn steps_that_were_never_saved_are_told_from_others() {
        let missing = |name, revision| missing_step(name, revision);
        let message = missing("pythia-70m", "step3001").unwrap();
        assert!(message.ends_with("the nearest are step3000 and step4000"), "{message}");
        assert!(missing("pythia-70m-deduped", "step513").unwrap().ends_with("step512 and step1000"));
        assert!(missing("pythia-14m-seed3", "step144000").unwrap().ends_with("the last is step143000"));
        assert!(missing("pythia-1b", "step4294967295").unwrap().ends_with("the last is step143000"));
        for (name, revision) in [
            ("pythia-70m", "step3000"),
            ("pythia-70m", "step0"),
            ("pythia-70m", "main"),
            ("pythia-70m", "step03001"),
            ("pythia-70m", "stepx"),
            ("pythia-70m-v0", "step3001"),
            ("pythia-70m-seed10", "step3001"),
            ("pythia-3b", "step3001"),
        ] {
            assert_eq!(missing(name, revision), None, "{name}@{revision}");
        }
    }

    #[test]
    fn faults_are_known_by_model_and_step() {
        assert!(known_fault("pythia-70m", "step1").is_some());
        assert!(known_fault("pythia-2.8b", "step3000").is_some());
        assert!(known_fault("pythia-12b", "step50000").is_some());
        for (name, revision) in [
            ("pythia-2.8b", "main"),
            ("pythia-2.8b", "step143000"),
            ("pythia-2.8b-deduped", "step3000"),
            ("x", "step1"),
        ] {
            assert_eq!(known_fault(name, revision), None, "{name}@{revision}");
        }
    }
}
