//! Figures, their targets and the file they are kept in: an array of
//! `{name, value, unit, target, pass, runs}` in which every bench replaces its own entries only.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a figure has to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
    /// Only shown.
    None,
}

impl Goal {
    fn text(self) -> Option<String> {
        match self {
            Self::AtLeast(least) => Some(format!(">= {least}")),
            Self::AtMost(most) => Some(format!("<= {most}")),
            Self::None => None,
        }
    }

    fn met_by(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
            Self::None => true,
        }
    }
}

/// A figure, measured several times.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Entry {
    name: String,
    value: f64,
    unit: String,
    target: Option<String>,
    pass: bool,
    runs: Vec<f64>,
}

/// All figures, in the order they were first measured.
#[derive(Debug, Default)]
pub struct Board(Vec<(Entry, Goal)>);

impl Board {
    /// Adds a run's value to a figure; the figure is the median of its runs.
    pub fn add(&mut self, name: &str, unit: &str, goal: Goal, value: f64) {
        if !self.0.iter().any(|(entry, _)| entry.name == name) {
            let entry = Entry {
                name: name.to_owned(),
                value: 0.0,
                unit: unit.to_owned(),
                target: goal.text(),
                pass: false,
                runs: Vec::new(),
            };
            self.0.push((entry, goal));
        }
        for (entry, goal) in self.0.iter_mut().filter(|(entry, _)| entry.name == name) {
            entry.runs.push(round(value));
            entry.value = median(&entry.runs);
            entry.pass = goal.met_by(entry.value);
        }
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether every target is met.
    pub fn passes(&self) -> bool {
        self.0.iter().all(|(entry, _)| entry.pass)
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut table = String::new();
        let _ =
            writeln!(table, "{:<28} {:>10} {:<22} {:>9}        runs", "", "median", "", "target");
        for (entry, goal) in &self.0 {
            let verdict = match (goal, entry.pass) {
                (Goal::None, _) => "",
                (_, true) => "met",
                (_, false) => "MISSED",
            };
            let runs: Vec<String> = entry.runs.iter().map(|run| shown(*run)).collect();
            let _ = writeln!(
                table,
                "{:<28} {:>10} {:<22} {:>9} {verdict:<6} {}",
                entry.name,
                shown(entry.value),
                entry.unit,
                entry.target.as_deref().unwrap_or_default(),
                runs.join(" "),
            );
        }
        table
    }

    /// Writes the figures, keeping those of other benches.
    ///
    /// # Errors
    /// When the file cannot be read or written, or is not such an array.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let mut all: Vec<Value> = match std::fs::read_to_string(path) {
            Ok(text) => serde_json::from_str(&text).context("it holds something else")?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        for (entry, _) in &self.0 {
            let new = serde_json::to_value(entry)?;
            let named = |old: &Value| old.get("name").and_then(Value::as_str) == Some(&entry.name);
            match all.iter_mut().find(|old| named(old)) {
                Some(old) => *old = new,
                None => all.push(new),
            }
        }
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        // Aside and into place, so that nobody ever reads half of it.
        let aside = path.with_extension("json.new");
        std::fs::write(&aside, serde_json::to_string_pretty(&all)? + "\n")?;
        Ok(std::fs::rename(aside, path)?)
    }
}

/// The middle value; of an even number the mean of the middle two.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = sorted.get(middle).copied().unwrap_or_default();
    if sorted.len().is_multiple_of(2) {
        let lower = middle.checked_sub(1).and_then(|at| sorted.get(at)).copied();
        f64::midpoint(lower.unwrap_or(upper), upper)
    } else {
        upper
    }
}

/// A count as a number to divide.
pub fn float(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

fn round(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

fn shown(value: f64) -> String {
    if value.abs() >= 100.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::float_cmp, reason = "these are exact")]
    fn medians_are_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0]), 2.5);
        assert_eq!(median(&[]), 0.0);
    }

    #[test]
    fn targets_are_held_against_the_median() {
        let mut board = Board::default();
        for value in [14.0, 16.0, 17.0] {
            board.add("ratio", "x", Goal::AtLeast(15.0), value);
            board.add("share", "", Goal::AtMost(15.5), value);
        }
        assert!(!board.passes());
        assert!(board.table().contains("MISSED"));
        assert!(board.0[0].0.pass && !board.0[1].0.pass);
    }

    #[test]
    fn other_benches_keep_their_entries() {
        let path = std::env::temp_dir().join(format!("bench-{}.json", std::process::id()));
        std::fs::write(&path, r#"[{"name":"other","x":1},{"name":"ratio","value":1}]"#).unwrap();
        let mut board = Board::default();
        board.add("ratio", "x", Goal::AtLeast(15.0), 16.0);
        board.add("new", "ms", Goal::None, 1.0);
        board.write(&path).unwrap();
        let all: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(all[0], serde_json::json!({"name": "other", "x": 1}));
        assert_eq!(
            all[1],
            serde_json::json!({"name": "ratio", "value": 16.0, "unit": "x", "target": ">= 15",
                               "pass": true, "runs": [16.0]})
        );
        assert_eq!(all[2]["target"], Value::Null);
    }
}
