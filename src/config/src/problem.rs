//! What is wrong with a configuration, said so that it can be put right: where, what, what is allowed.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::document::Origin;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("cannot read the configuration file {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    /// No file was named, none is where one is looked for, and the environment names no server.
    #[error(
        "no configuration: name a file with --config, or put one at {}; `meyrin config example` prints one",
        looked_at.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" or ")
    )]
    Missing { looked_at: Vec<PathBuf> },
    /// The file or the environment holds what is not allowed; every problem found is listed.
    #[error("{}", render(path.as_ref(), problems))]
    Invalid {
        path: Option<PathBuf>,
        problems: Vec<Problem>,
    },
}

/// One thing that is not allowed, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    pub(crate) origin: Origin,
    pub(crate) text: String,
}

impl Problem {
    pub(crate) fn new(origin: Origin, text: String) -> Self {
        Problem { origin, text }
    }

    /// The line in the file, when the problem stands in the file.
    pub fn line(&self) -> Option<usize> {
        match self.origin {
            Origin::Line(line) => Some(line),
            Origin::Environment(_) | Origin::Whole => None,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::Line(line) => write!(f, "line {line}: {}", self.text),
            Origin::Environment(name) => write!(f, "environment variable {name}: {}", self.text),
            Origin::Whole => write!(f, "{}", self.text),
        }
    }
}

fn render(path: Option<&PathBuf>, problems: &[Problem]) -> String {
    let file = path.map_or_else(
        || "configuration".to_owned(),
        |path| path.display().to_string(),
    );
    let mut lines = Vec::with_capacity(problems.len());
    for problem in problems {
        lines.push(match &problem.origin {
            Origin::Line(line) => format!("{file}:{line}: {}", problem.text),
            Origin::Whole => format!("{file}: {}", problem.text),
            Origin::Environment(_) => problem.to_string(),
        });
    }
    lines.join("\n")
}

/// The name among `known` that `given` most likely meant, when one is near enough to be worth saying.
pub(crate) fn nearest<'a>(given: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut best: Option<(usize, &'a str)> = None;
    for name in known {
        let distance = strsim::damerau_levenshtein(given, name);
        let near = distance <= 1.max(name.len() / 3);
        if near && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, name));
        }
    }
    best.map(|(_, name)| name)
}
