//! Which groups a runner computes: a shard of all, from the command line or from the variables of an array job.

use crate::Error;
use crate::manifest::Group;
use std::str::FromStr;

/// Part I of N of a sweep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Which, from 0.
    pub index: usize,
    /// Of how many.
    pub count: usize,
}

/// The shard of each group. The longest group goes first, to the shard with the least work so far, so the shards take
/// about the same time. This depends on the manifest alone.
pub fn assign(groups: &[Group], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..groups.len()).collect();
    let seconds = |i: usize| groups[i].estimate.core_seconds;
    order.sort_by(|&a, &b| seconds(b).total_cmp(&seconds(a)));
    let mut loads = vec![0.0; count.max(1)];
    let mut shards = vec![0; groups.len()];
    for i in order {
        let least = (0..loads.len()).min_by(|&a, &b| f64::total_cmp(&loads[a], &loads[b])).unwrap_or(0);
        shards[i] = least;
        // Groups without an estimate are spread too.
        loads[least] += seconds(i).max(f64::MIN_POSITIVE);
    }
    shards
}

impl FromStr for Shard {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let parsed = text.split_once('/').and_then(|(index, count)| Some((index.parse().ok()?, count.parse().ok()?)));
        match parsed {
            Some((index, count)) if index < count && count <= MAX_SHARDS => Ok(Self { index, count }),
            _ => {
                let found = pythia_text::quoted(text, '\'', 40);
                Err(Error::Request(format!("--shard: found {found}, wanted I/N with I from 0 to N-1, such as 0/16")))
            }
        }
    }
}

/// More shards than this are a mistake.
const MAX_SHARDS: usize = 1_000_000;

/// What an engine says of array jobs: the index, the first index, the distance of two, and how many there are.
struct Array {
    engine: &'static str,
    index: &'static str,
    first: Option<&'static str>,
    step: Option<&'static str>,
    last: Option<&'static str>,
    count: Option<&'static str>,
}

const ARRAYS: [Array; 8] = [
    Array {
        engine: "Slurm",
        index: "SLURM_ARRAY_TASK_ID",
        first: Some("SLURM_ARRAY_TASK_MIN"),
        step: Some("SLURM_ARRAY_TASK_STEP"),
        last: Some("SLURM_ARRAY_TASK_MAX"),
        count: Some("SLURM_ARRAY_TASK_COUNT"),
    },
    Array::indexed("Kubernetes", "JOB_COMPLETION_INDEX", None),
    Array::indexed("AWS Batch", "AWS_BATCH_JOB_ARRAY_INDEX", Some("AWS_BATCH_JOB_ARRAY_SIZE")),
    Array::indexed("PBS", "PBS_ARRAY_INDEX", None),
    Array::indexed("PBS", "PBS_ARRAYID", None),
    Array::indexed("HyperQueue", "HQ_TASK_ID", None),
    Array {
        engine: "SGE",
        index: "SGE_TASK_ID",
        first: Some("SGE_TASK_FIRST"),
        step: Some("SGE_TASK_STEPSIZE"),
        last: Some("SGE_TASK_LAST"),
        count: None,
    },
    Array {
        engine: "LSF",
        index: "LSB_JOBINDEX",
        first: None,
        step: Some("LSB_JOBINDEX_STEP"),
        last: Some("LSB_JOBINDEX_END"),
        count: None,
    },
];

impl Array {
    const fn indexed(engine: &'static str, index: &'static str, count: Option<&'static str>) -> Self {
        Self { engine, index, first: None, step: None, last: None, count }
    }

    /// The index from 0, and the count if the engine tells it. `None` if this is no such job.
    fn read(&self, number: impl Fn(&str) -> Option<usize>) -> Option<(usize, Option<usize>)> {
        let index = number(self.index)?;
        // LSF and SGE have 0 or a word where there is no array. LSF counts from 1.
        let is_lsf = self.engine == "LSF";
        if is_lsf && index == 0 {
            return None;
        }
        let named = |name: Option<&str>| name.and_then(&number);
        let step = named(self.step).filter(|&step| step > 0).unwrap_or(1);
        let first = named(self.first).unwrap_or(usize::from(is_lsf));
        let count = named(self.count).or_else(|| Some(named(self.last)?.checked_sub(first)? / step + 1));
        Some((index.checked_sub(first)? / step, count))
    }
}

impl Shard {
    /// The shard that the variables of an array job name; `None` outside of one. `count` is what the command line says.
    /// Under `srun`, the tasks of each job share its shard.
    ///
    /// # Errors
    /// If the variables do not tell how many shards there are, and `count` does not either, or they contradict.
    pub fn from_env(variable: impl Fn(&str) -> Option<String>, count: Option<usize>) -> Result<Option<Self>, Error> {
        let number = |name: &str| variable(name)?.trim().parse::<usize>().ok();
        for Array { engine, index, .. } in &ARRAYS {
            // Engines have words where there is no array.
            let is_word = |text: &str| text.is_empty() || text == "undefined" || text.parse::<usize>().is_ok();
            if let Some(found) = variable(index).filter(|text| !is_word(text.trim())) {
                let found = pythia_text::quoted(&found, '\'', 40);
                return Err(Error::Request(format!("{engine}: {index} is {found}, wanted the number of a job")));
            }
        }
        let asked = count;
        let count = count.or_else(|| number("PYTHIA_SHARDS"));
        let tasks = number("SLURM_STEP_NUM_TASKS").filter(|&n| n > 1).and_then(|n| Some((number("SLURM_PROCID")?, n)));
        let array = ARRAYS.iter().find_map(|array| Some((array, array.read(number)?)));
        let (engine, index, told) = match (array, tasks) {
            (None, None) if asked.is_some() => {
                let problem = "--shards: this is no array job; --shard I/N says which part of how many";
                return Err(Error::Request(problem.to_owned()));
            }
            (None, None) => return Ok(None),
            (None, Some((rank, n))) => ("Slurm", rank, Some(n)),
            (Some((array, (index, told))), None) => (array.engine, index, told),
            (Some((array, (index, told))), Some((rank, n))) => {
                (array.engine, index.saturating_mul(n).saturating_add(rank), told.map(|told| told.saturating_mul(n)))
            }
        };
        // An array may be longer than what is asked for, never shorter.
        let Some(count) = count.or(told) else {
            return Err(Error::Request(format!(
                "{engine} tells the index {index} of this job and not how many jobs there are; give --shards N"
            )));
        };
        if count > MAX_SHARDS {
            return Err(Error::Request(format!("{engine}: {count} shards, wanted at most {MAX_SHARDS}")));
        }
        if index >= count {
            return Err(Error::Request(format!(
                "{engine} tells the index {index}, wanted one below {count}, the shards"
            )));
        }
        Ok(Some(Self { index, count }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Estimate;

    fn group(core_seconds: f64) -> Group {
        let estimate = Estimate { core_seconds, ..Estimate::default() };
        Group { group: String::new(), checkpoints: Vec::new(), files: Vec::new(), estimate }
    }

    #[test]
    fn shards_take_about_the_same_time() {
        let groups = [9.0, 1.0, 5.0, 4.0, 1.0, 1.0].map(group);
        assert_eq!(assign(&groups, 2), [0, 0, 1, 1, 1, 0]);
        assert_eq!(assign(&groups, 1), [0; 6]);
        let zeros = [0.0; 4].map(group);
        assert_eq!(assign(&zeros, 2), [0, 1, 0, 1]);
        assert_eq!(assign(&[], 3), [0; 0]);
    }

    #[test]
    fn array_jobs_of_every_engine_are_known() {
        let shard = |variables: &[(&str, &str)], count| {
            let found = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
            Shard::from_env(found, count).map(|shard| shard.map(|shard| (shard.index, shard.count)))
        };
        let slurm = [
            ("SLURM_ARRAY_TASK_ID", "7"),
            ("SLURM_ARRAY_TASK_MIN", "1"),
            ("SLURM_ARRAY_TASK_MAX", "31"),
            ("SLURM_ARRAY_TASK_STEP", "2"),
            ("SLURM_ARRAY_TASK_COUNT", "16"),
        ];
        assert_eq!(shard(&slurm, None).unwrap(), Some((3, 16)));
        let with_srun = [&slurm[..], &[("SLURM_PROCID", "1"), ("SLURM_STEP_NUM_TASKS", "4")]].concat();
        assert_eq!(shard(&with_srun, None).unwrap(), Some((13, 64)));
        assert_eq!(shard(&with_srun[5..], None).unwrap(), Some((1, 4)));
        // A batch script or an interactive shell, without srun.
        assert_eq!(shard(&[("SLURM_NTASKS", "4"), ("SLURM_PROCID", "0")], None).unwrap(), None);
        assert_eq!(shard(&[("JOB_COMPLETION_INDEX", "2")], Some(5)).unwrap(), Some((2, 5)));
        assert_eq!(shard(&[("JOB_COMPLETION_INDEX", "2"), ("PYTHIA_SHARDS", "4")], None).unwrap(), Some((2, 4)));
        let aws = [("AWS_BATCH_JOB_ARRAY_INDEX", "0"), ("AWS_BATCH_JOB_ARRAY_SIZE", "9")];
        assert_eq!(shard(&aws, None).unwrap(), Some((0, 9)));
        let sge = [("SGE_TASK_ID", "3"), ("SGE_TASK_FIRST", "1"), ("SGE_TASK_LAST", "9"), ("SGE_TASK_STEPSIZE", "2")];
        assert_eq!(shard(&sge, None).unwrap(), Some((1, 5)));
        assert_eq!(shard(&[("SGE_TASK_ID", "undefined")], None).unwrap(), None);
        assert_eq!(shard(&[("LSB_JOBINDEX", "0"), ("LSB_JOBINDEX_END", "0")], None).unwrap(), None);
        assert_eq!(shard(&[("LSB_JOBINDEX", "4"), ("LSB_JOBINDEX_END", "4")], None).unwrap(), Some((3, 4)));
        assert!(shard(&[], Some(4)).unwrap_err().to_string().contains("no array job"));
        for wrong in ["abc", "-1", "18446744073709551616"] {
            assert!(shard(&[("SLURM_ARRAY_TASK_ID", wrong)], None).unwrap_err().to_string().contains(wrong));
        }
        let huge = [("SLURM_ARRAY_TASK_ID", "0"), ("SLURM_ARRAY_TASK_COUNT", "18446744073709551615")];
        assert!(shard(&huge, None).is_err());
        let error = shard(&[("HQ_TASK_ID", "2")], None).unwrap_err().to_string();
        assert!(error.contains("--shards N") && error.contains("HyperQueue"), "{error}");
        assert!(shard(&[("HQ_TASK_ID", "5")], Some(5)).is_err());
    }

    #[test]
    fn shards_are_written_as_fractions() {
        assert_eq!("3/16".parse::<Shard>().unwrap(), Shard { index: 3, count: 16 });
        for text in ["", "3", "16/16", "0/18446744073709551615", "-1/4", "0/0", "a/b", "1/2/3"] {
            assert!(text.parse::<Shard>().unwrap_err().to_string().contains("wanted I/N"), "{text}");
        }
    }
}
