//! The table of who passes what: each case leaves its outcome in a file, and one more test, which
//! `./dev conformance` runs last, makes the table of them. The committed one has to have the cases
//! that there are.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use happening::config::Provider;

use crate::CASES;
use crate::world::World;

/// Something that is asked of every provider.
pub struct Case {
    pub name: &'static str,
    pub title: &'static str,
    /// Of whom it is not asked, and why.
    pub not: &'static [(Provider, &'static str)],
}

const PROVIDERS: [(Provider, &str); 3] = [
    (Provider::Redis, "Redis Streams"),
    (Provider::Nats, "NATS JetStream"),
    (Provider::Memory, "memory"),
];
const PASSED: &str = "passed";

/// Runs a case and notes its outcome.
pub async fn run(provider: Provider, name: &str, case: impl AsyncFnOnce(&mut World)) {
    let of_table = CASES.iter().find(|case| case.name == name).unwrap();
    if of_table.not.iter().any(|(excepted, _)| *excepted == provider) {
        return;
    }
    note(provider, name, "failed");
    let mut world = World::new(provider).await;
    let version = world.version().await;
    case(&mut world).await;
    note(provider, name, &format!("{PASSED} {version}"));
}

fn outcome(provider: Provider, name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("bus-conformance");
    fs::create_dir_all(&folder).unwrap();
    folder.join(format!("{provider:?}.{name}"))
}

fn note(provider: Provider, name: &str, what: &str) {
    fs::write(outcome(provider, name), what).unwrap();
}

fn document() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/bus-conformance.md")
}

/// A line of the table: its title, and a cell for each provider.
fn line(case: &Case, cell: impl Fn(Provider) -> String) -> String {
    let cells =
        PROVIDERS.map(|(provider, _)| match case.not.iter().find(|(not, _)| *not == provider) {
            Some((_, why)) => format!("not asked: {why}"),
            None => cell(provider),
        });
    format!("| {} | {} |\n", case.title, cells.join(" | "))
}

#[test]
#[ignore = "./dev conformance runs it, when all others are through"]
fn writes_the_table() {
    let mut versions = [const { String::new() }; 3];
    let mut text = String::from(
        "# What each provider of the bus does\n\n\
         Written by `./dev conformance` from a run of `tests/bus` against real servers, each case\n\
         with a server of its own. Do not edit it by hand.\n\n",
    );
    let mut lines = String::new();
    for case in CASES {
        for ((provider, _), version) in PROVIDERS.iter().zip(&mut versions) {
            let told = fs::read_to_string(outcome(*provider, case.name)).unwrap_or_default();
            if let Some(found) = told.strip_prefix(PASSED) {
                found.trim().clone_into(version);
            }
        }
        lines += &line(case, |provider| {
            let told = fs::read_to_string(outcome(provider, case.name)).unwrap_or_default();
            let passed = told.starts_with(PASSED);
            (if passed { "yes" } else { "**no**" }).to_owned()
        });
    }
    let heads = PROVIDERS
        .iter()
        .zip(&versions)
        .map(|((_, name), version)| format!("{name} {version}").trim().to_owned());
    let heads: Vec<String> = heads.collect();
    writeln!(text, "| Case | {} |\n| --- | --- | --- | --- |", heads.join(" | ")).unwrap();
    text += &lines;
    fs::create_dir_all(document().parent().unwrap()).unwrap();
    fs::write(document(), text).unwrap();
    // The next table is made of the next run.
    fs::remove_dir_all(outcome(Provider::Redis, "").parent().unwrap()).unwrap();
}

#[test]
fn the_committed_table_has_these_cases_and_all_pass() {
    let text = fs::read_to_string(document()).expect("docs/bus-conformance.md is there");
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| ")).skip(2).collect();
    let wanted: Vec<String> =
        CASES.iter().map(|case| line(case, |_| "yes".to_owned()).trim_end().to_owned()).collect();
    assert_eq!(rows, wanted, "run ./dev conformance and commit what it writes");
}
