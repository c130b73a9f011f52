//! The table of tasks and groups: names, versions, datasets, splits and metrics as in lm-evaluation-harness 0.4.13.
//!
//! What is asked is in `form`. `mmlu_paper` is the task that the published Pythia results call `hendrycksTest`, version 0
//! of lm-evaluation-harness 0.3.

use super::examples::Sampler;
use super::form::Form;
use super::{Dataset, Group, Mean, Member, Task};
use crate::{Extract, Filter, Metric};
use std::sync::LazyLock;

/// A row of the table.
struct Entry {
    name: &'static str,
    version: f64,
    repo: &'static str,
    config: Option<&'static str>,
    /// The split that is asked, and the one that examples come from.
    splits: [&'static str; 2],
    /// Whether examples are drawn by chance, and then whether a document may be an example of itself.
    sampler: Sampler,
    metrics: &'static [Metric],
    form: Form,
}

const ACC: &[Metric] = &[Metric::Acc];
const ACC_NORM: &[Metric] = &[Metric::Acc, Metric::AccNorm];
const TEST: [&str; 2] = ["test", "train"];
const VALIDATION: [&str; 2] = ["validation", "train"];
/// The harness leaves a document out of its own examples only where no test split is named.
const ANY: Sampler = Sampler::Random { excludes_document: false };
const OTHERS: Sampler = Sampler::Random { excludes_document: true };

impl Entry {
    #[rustfmt::skip]
    fn all() -> Vec<Self> {
        let row = |name, version, repo, config, splits, sampler, metrics, form| {
            Self { name, version, repo, config, splits, sampler, metrics, form }
        };
        let perplexity = &[Metric::Perplexity, Metric::Acc];
        let rolling = &[Metric::WordPerplexity, Metric::BytePerplexity, Metric::BitsPerByte];
        vec![
            row("lambada_openai", 1.0, "EleutherAI/lambada_openai", Some("default"), ["test", "test"], ANY, perplexity, Form::Lambada),
            row("piqa", 1.0, "baber/piqa", None, VALIDATION, OTHERS, ACC_NORM, Form::Piqa),
            row("winogrande", 1.0, "allenai/winogrande", Some("winogrande_xl"), VALIDATION, OTHERS, ACC, Form::Winogrande),
            row("arc_easy", 1.0, "allenai/ai2_arc", Some("ARC-Easy"), TEST, ANY, ACC_NORM, Form::Arc),
            row("arc_challenge", 1.0, "allenai/ai2_arc", Some("ARC-Challenge"), TEST, ANY, ACC_NORM, Form::Arc),
            row("sciq", 1.0, "allenai/sciq", None, TEST, ANY, ACC_NORM, Form::Sciq),
            row("logiqa", 1.0, "EleutherAI/logiqa", Some("logiqa"), TEST, ANY, ACC_NORM, Form::Logiqa),
            row("wsc", 1.0, "aps/super_glue", Some("wsc.fixed"), VALIDATION, OTHERS, ACC, Form::Wsc),
            row("hellaswag", 1.0, "Rowan/hellaswag", None, VALIDATION, OTHERS, ACC_NORM, Form::HellaSwag),
            row("truthfulqa_mc1", 2.0, TRUTHFUL_QA, Some("multiple_choice"), ["validation"; 2], OTHERS, ACC, Form::TruthfulQa { targets: "mc1_targets" }),
            row("truthfulqa_mc2", 3.0, TRUTHFUL_QA, Some("multiple_choice"), ["validation"; 2], OTHERS, &[Metric::Mass], Form::TruthfulQa { targets: "mc2_targets" }),
            row("wikitext", 2.0, "EleutherAI/wikitext_document_level", Some("wikitext-2-raw-v1"), TEST, ANY, rolling, Form::Wikitext),
            row("gsm8k", 3.0, "openai/gsm8k", Some("main"), TEST, ANY, &[Metric::NumberMatch], Form::Gsm8k),
            row("drop", 3.0, "EleutherAI/drop", None, VALIDATION, OTHERS, &[Metric::Em, Metric::F1], Form::Drop),
        ]
    }

    fn task(self) -> Task {
        // The harness ignores --num_fewshot where a task says 0.
        let has_fixed_shots = matches!(self.form, Form::TruthfulQa { .. } | Form::Blimp);
        let is_gsm8k = self.form == Form::Gsm8k;
        Task {
            name: self.name.to_owned(),
            version: self.version,
            kind: self.form.kind(),
            metrics: self.metrics.to_vec(),
            filters: if is_gsm8k { gsm8k_filters() } else { vec![Filter::none()] },
            shots: if is_gsm8k { 5 } else { 0 },
            has_fixed_shots,
            dataset: Dataset {
                repo: self.repo.to_owned(),
                config: self.config.map(str::to_owned),
                split: self.splits[0].to_owned(),
                example_split: self.splits[1].to_owned(),
                files: None,
            },
            sampler: self.sampler,
            form: self.form,
        }
    }
}

const TRUTHFUL_QA: &str = "truthfulqa/truthful_qa";

fn gsm8k_filters() -> Vec<Filter> {
    let filter = |name: &str, pattern: &str, last| Filter {
        name: name.to_owned(),
        extract: Some(Extract { pattern: pattern.to_owned(), last }),
    };
    vec![
        filter("strict-match", r"#### (\-?[0-9\.\,]+)", false),
        filter("flexible-extract", r"(-?[$0-9.,]{2,})|(-?[0-9]+)", true),
    ]
}

/// All tasks.
pub(super) static TASKS: LazyLock<Vec<Task>> = LazyLock::new(|| {
    let mut tasks: Vec<Task> = Entry::all().into_iter().map(Entry::task).collect();
    let family =
        |prefix: &str, subject: &'static str, entry: Entry| Task { name: format!("{prefix}{subject}"), ..entry.task() };
    for (_, subjects) in MMLU {
        for &subject in subjects {
            let entry = Entry {
                name: "",
                version: 1.0,
                repo: "cais/mmlu",
                config: Some(subject),
                splits: ["test", "dev"],
                sampler: Sampler::First,
                metrics: ACC,
                form: Form::Mmlu { subject },
            };
            tasks.push(family("mmlu_", subject, entry));
        }
    }
    for subject in subjects() {
        let entry = Entry {
            name: "",
            version: 0.0,
            repo: "cais/mmlu",
            config: Some(subject),
            splits: ["test", "dev"],
            sampler: ANY,
            metrics: ACC_NORM,
            form: Form::MmluPaper,
        };
        tasks.push(family("hendrycksTest-", subject, entry));
    }
    for phenomenon in BLIMP {
        let entry = Entry {
            name: "",
            version: 1.0,
            repo: "nyu-mll/blimp",
            config: Some(phenomenon),
            splits: ["train", "train"],
            sampler: OTHERS,
            metrics: ACC,
            form: Form::Blimp,
        };
        tasks.push(family("blimp_", phenomenon, entry));
    }
    tasks
});

/// All groups.
pub(super) static GROUPS: LazyLock<Vec<Group>> = LazyLock::new(|| {
    let member = |name: &str, shots| Member { name: name.to_owned(), shots };
    let by_size = || vec![(Metric::Acc, Mean::BySize)];
    let group = |name: &str, version, members, means| Group { name: name.to_owned(), version, members, means };
    // The five plots of the model card, and the table at its end with its numbers of examples.
    let card = ["lambada_openai", "piqa", "winogrande", "arc_easy", "sciq"].map(|name| member(name, None));
    let leaderboard = [
        ("arc_challenge", 25),
        ("hellaswag", 10),
        ("mmlu", 5),
        ("truthfulqa_mc2", 0),
        ("winogrande", 5),
        ("gsm8k", 5),
        ("drop", 3),
    ];
    let leaderboard = leaderboard.map(|(name, shots)| member(name, Some(shots)));
    let mut groups = vec![
        group("pythia", None, card.into(), Vec::new()),
        group("leaderboard", None, leaderboard.into(), Vec::new()),
    ];
    let fields = MMLU.iter().map(|(field, _)| member(&format!("mmlu_{field}"), None));
    groups.push(group("mmlu", Some(2.0), fields.collect(), by_size()));
    for (field, subjects) in MMLU {
        let members = subjects.iter().map(|subject| member(&format!("mmlu_{subject}"), None));
        groups.push(group(&format!("mmlu_{field}"), Some(2.0), members.collect(), by_size()));
    }
    let members = subjects().map(|subject| member(&format!("hendrycksTest-{subject}"), None));
    let plain = vec![(Metric::Acc, Mean::Plain), (Metric::AccNorm, Mean::Plain)];
    groups.push(group("mmlu_paper", Some(0.0), members.collect(), plain));
    let members = BLIMP.iter().map(|phenomenon| member(&format!("blimp_{phenomenon}"), None));
    groups.push(group("blimp", Some(2.0), members.collect(), vec![(Metric::Acc, Mean::Plain)]));
    groups
});

/// The subjects of MMLU, by name.
fn subjects() -> impl Iterator<Item = &'static str> {
    let mut all: Vec<&str> = MMLU.iter().flat_map(|(_, subjects)| subjects.iter().copied()).collect();
    all.sort_unstable();
    all.into_iter()
}

/// The subjects of MMLU by field.
const MMLU: [(&str, &[&str]); 4] = [
    (
        "stem",
        &[
            "abstract_algebra",
            "anatomy",
            "astronomy",
            "college_biology",
            "college_chemistry",
            "college_computer_science",
            "college_mathematics",
            "college_physics",
            "computer_security",
            "conceptual_physics",
            "electrical_engineering",
            "elementary_mathematics",
            "high_school_biology",
            "high_school_chemistry",
            "high_school_computer_science",
            "high_school_mathematics",
            "high_school_physics",
            "high_school_statistics",
            "machine_learning",
        ],
    ),
    (
        "other",
        &[
            "business_ethics",
            "clinical_knowledge",
            "college_medicine",
            "global_facts",
            "human_aging",
            "management",
            "marketing",
            "medical_genetics",
            "miscellaneous",
            "nutrition",
            "professional_accounting",
            "professional_medicine",
            "virology",
        ],
    ),
    (
        "social_sciences",
        &[
            "econometrics",
            "high_school_geography",
            "high_school_government_and_politics",
            "high_school_macroeconomics",
            "high_school_microeconomics",
            "high_school_psychology",
            "human_sexuality",
            "professional_psychology",
            "public_relations",
            "security_studies",
            "sociology",
            "us_foreign_policy",
        ],
    ),
    (
        "humanities",
        &[
            "formal_logic",
            "high_school_european_history",
            "high_school_us_history",
            "high_school_world_history",
            "international_law",
            "jurisprudence",
            "logical_fallacies",
            "moral_disputes",
            "moral_scenarios",
            "philosophy",
            "prehistory",
            "professional_law",
            "world_religions",
        ],
    ),
];

/// The phenomena of BLiMP.
const BLIMP: [&str; 67] = [
    "adjunct_island",
    "anaphor_gender_agreement",
    "anaphor_number_agreement",
    "animate_subject_passive",
    "animate_subject_trans",
    "causative",
    "complex_NP_island",
    "coordinate_structure_constraint_complex_left_branch",
    "coordinate_structure_constraint_object_extraction",
    "determiner_noun_agreement_1",
    "determiner_noun_agreement_2",
    "determiner_noun_agreement_irregular_1",
    "determiner_noun_agreement_irregular_2",
    "determiner_noun_agreement_with_adj_2",
    "determiner_noun_agreement_with_adj_irregular_1",
    "determiner_noun_agreement_with_adj_irregular_2",
    "determiner_noun_agreement_with_adjective_1",
    "distractor_agreement_relational_noun",
    "distractor_agreement_relative_clause",
    "drop_argument",
    "ellipsis_n_bar_1",
    "ellipsis_n_bar_2",
    "existential_there_object_raising",
    "existential_there_quantifiers_1",
    "existential_there_quantifiers_2",
    "existential_there_subject_raising",
    "expletive_it_object_raising",
    "inchoative",
    "intransitive",
    "irregular_past_participle_adjectives",
    "irregular_past_participle_verbs",
    "irregular_plural_subject_verb_agreement_1",
    "irregular_plural_subject_verb_agreement_2",
    "left_branch_island_echo_question",
    "left_branch_island_simple_question",
    "matrix_question_npi_licensor_present",
    "npi_present_1",
    "npi_present_2",
    "only_npi_licensor_present",
    "only_npi_scope",
    "passive_1",
    "passive_2",
    "principle_A_c_command",
    "principle_A_case_1",
    "principle_A_case_2",
    "principle_A_domain_1",
    "principle_A_domain_2",
    "principle_A_domain_3",
    "principle_A_reconstruction",
    "regular_plural_subject_verb_agreement_1",
    "regular_plural_subject_verb_agreement_2",
    "sentential_negation_npi_licensor_present",
    "sentential_negation_npi_scope",
    "sentential_subject_island",
    "superlative_quantifiers_1",
    "superlative_quantifiers_2",
    "tough_vs_raising_1",
    "tough_vs_raising_2",
    "transitive",
    "wh_island",
    "wh_questions_object_gap",
    "wh_questions_subject_gap",
    "wh_questions_subject_gap_long_distance",
    "wh_vs_that_no_gap",
    "wh_vs_that_no_gap_long_distance",
    "wh_vs_that_with_gap",
    "wh_vs_that_with_gap_long_distance",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_groups_lead_to_tasks() {
        let mut names: Vec<&str> =
            TASKS.iter().map(|task| &*task.name).chain(GROUPS.iter().map(|g| &*g.name)).collect();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
        let sizes = ["pythia", "leaderboard", "mmlu", "mmlu_stem", "mmlu_paper", "blimp"];
        let sizes = sizes.map(|name| Group::find(name).unwrap().tasks().len());
        assert_eq!(sizes, [5, 57 + 6, 57, 19, 57, 67]);
        for group in GROUPS.iter() {
            for member in &group.members {
                assert!(Task::find(&member.name).is_some() || Group::find(&member.name).is_some(), "{}", member.name);
            }
        }
        let leaderboard = Group::find("leaderboard").unwrap().tasks();
        assert_eq!((leaderboard[0].1, leaderboard[2].1), (Some(25), Some(5)));
    }
}
