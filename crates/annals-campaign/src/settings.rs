//! What is run, and for how long.

/// From the arguments.
#[derive(Clone)]
pub struct Settings {
    pub seed: u64,
    pub threads: usize,
    /// Longest workloads of the exhaustive harnesses.
    pub steps: u64,
    /// For the random schedules.
    pub minutes: f64,
    /// Images of random schedules, instead of a time.
    pub images: Option<u64>,
    /// One in this many cases of damage is run.
    pub sample: u64,
    pub only: Vec<String>,
    /// A random schedule to be run again.
    pub case: Option<u64>,
}

const HELP: &str = "\
--only NAME,…    of: deaths, recoveries, calls, syncs, full, unsynced, schedules, holds, pages, stale, bits, bytes, lengths, salvage-bits, salvage-bytes
--seed N         where the random numbers begin (1)
--threads N      (as many as there are processors)
--steps N        longest workloads of the exhaustive harnesses (2; 3 takes half an hour)
--minutes N      how long schedules, holds and pages are run, each (1)
--images N       how many cases of each of them, instead of a time
--sample N       one in N of the bits, bytes and lengths, salvaged or not (1: all of them)
--case N         runs one random schedule again and shows it; with --only holds or pages, one of those";

impl Settings {
    pub fn from_arguments(mut arguments: impl Iterator<Item = String>) -> Result<Settings, String> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let mut settings = Settings {
            seed: 1,
            threads,
            steps: 2,
            minutes: 1.0,
            images: None,
            sample: 1,
            only: Vec::new(),
            case: None,
        };
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{name} has no value\n{HELP}"))?;
            let number = || value.parse::<u64>().map_err(|e| format!("{name} {value}: {e}\n{HELP}"));
            match name.as_str() {
                "--seed" => settings.seed = number()?,
                "--threads" => settings.threads = number()?.max(1) as usize,
                "--steps" => settings.steps = number()?,
                "--minutes" => settings.minutes = value.parse().map_err(|e| format!("{name} {value}: {e}\n{HELP}"))?,
                "--images" => settings.images = Some(number()?),
                "--sample" => settings.sample = number()?.max(1),
                "--only" => settings.only.extend(value.split(',').map(str::to_owned)),
                "--case" => settings.case = Some(number()?),
                _ => return Err(format!("{name} is not known\n{HELP}")),
            }
        }
        Ok(settings)
    }

    /// Returns whether a harness is run.
    pub fn runs(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }

    /// The same with workloads of at most this many steps.
    pub fn up_to(&self, steps: u64) -> Settings {
        Settings { steps: self.steps.min(steps), ..self.clone() }
    }
}
