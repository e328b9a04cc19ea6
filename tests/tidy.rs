//! The rules of the house, executable: who may import whom, what every file begins with, how long
//! files and lines may be, and what is written nowhere but where it belongs. Reasons: DESIGN §3 and
//! ARCHITECTURE.md. Each rule is also shown to fail on a tree that breaks it.

#![expect(
    clippy::expect_used,
    clippy::case_sensitive_file_extension_comparisons,
    reason = "a tree that cannot be read is a failed test, and names of source files are lower case"
)]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Longest file and longest line.
const LINES_MAX: usize = 500;
const COLUMNS_MAX: usize = 100;

/// The import table: a room, and the rooms it may import. A room not listed may import all.
const IMPORTS: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("postgres", &["domain", "clock", "config"]),
    ("redis", &["domain", "clock", "config"]),
    ("rabbit", &["domain", "clock", "config"]),
    ("bus", &["domain", "clock", "config"]),
    (
        "app",
        &["domain", "postgres", "redis", "bus", "clock", "config", "wake", "fault", "telemetry"],
    ),
    ("http", &["app", "domain", "wake", "clock", "config", "telemetry"]),
    ("ws", &["app", "domain", "wake", "clock", "config", "http"]),
    (
        "actors",
        &[
            "app",
            "domain",
            "rabbit",
            "bus",
            "wake",
            "clock",
            "config",
            "fault",
            "postgres",
            "redis",
            "telemetry",
        ],
    ),
    ("clock", &[]),
    ("config", &[]),
    ("wake", &[]),
    ("fault", &[]),
    ("telemetry", &["config", "clock", "domain", "wake"]),
];

/// What actors may take from the rooms below `app`: handles and messages, never statements.
const HANDLES: &[&str] = &["postgres::Db", "redis::Redis", "postgres::outbox", "postgres::inbox"];

/// Words, and the only places (path prefixes) where they may stand.
const BELONGS: &[(&str, &[&str])] = &[
    ("SELECT ", &["src/postgres/"]),
    ("INSERT INTO ", &["src/postgres/"]),
    ("DELETE FROM ", &["src/postgres/"]),
    ("redis::cmd", &["src/redis/", "src/bus/"]),
    ("lapin::", &["src/rabbit/", "src/actors/"]),
    ("StatusCode::", &["src/http/"]),
    ("tokio::spawn", &[]),
    ("unbounded_channel", &[]),
    ("process::exit", &[]),
    ("SystemTime::now", &[]),
    ("std::env::var", &["src/config.rs", "src/fault.rs"]),
    ("TODO", &[]),
    ("FIXME", &[]),
    ("todo!", &[]),
    ("dbg!", &[]),
];

/// Command-line tools stand outside of the house and use what they need.
const OUTSIDE: &[&str] = &["src/cli", "src/server", "src/main.rs", "src/lib.rs"];

struct File {
    path: String,
    text: String,
}

impl File {
    fn room(&self) -> &str {
        let inner = self.path.strip_prefix("src/").unwrap_or(&self.path);
        inner.split(['/', '.']).next().unwrap_or(inner)
    }

    /// The code without its tests, comments left in.
    fn code(&self) -> &str {
        self.text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(&self.text)
    }

    fn is_test(&self) -> bool {
        self.path.ends_with("tests.rs") || self.path.starts_with("tests/")
    }

    fn is_outside(&self) -> bool {
        OUTSIDE.iter().any(|outside| self.path.starts_with(outside))
    }
}

fn broken_rules(files: &[File]) -> String {
    let mut broken = String::new();
    for file in files {
        header(file, &mut broken);
        lengths(file, &mut broken);
        if !file.is_test() && file.path.starts_with("src/") {
            imports(file, &mut broken);
            places(file, &mut broken);
        }
    }
    broken
}

fn header(file: &File, broken: &mut String) {
    let path = &file.path;
    if path.ends_with(".rs") && !file.text.starts_with("//! ") {
        let _ = writeln!(broken, "{path}: must open with `//!` saying why it exists");
    }
    let is_part = path.rsplit('/').next().is_some_and(|name| name.starts_with("part_"));
    if path.ends_with(".lua") && is_part && !file.text.starts_with("-- Part of ") {
        let _ = writeln!(broken, "{path}: must open with what it is part of");
    }
    if path.ends_with(".lua") && !is_part {
        let name = path.rsplit('/').next().unwrap_or(path).trim_end_matches(".lua");
        let keys = name.rsplit('-').next().and_then(|count| count.parse::<usize>().ok());
        let used = (1..20).take_while(|key| file.text.contains(&format!("KEYS[{key}]"))).count();
        for part in ["-- ", "ARGV", "Repl", "Atomic because"] {
            if !file.text.contains(part) {
                let _ = writeln!(broken, "{path}: the header must tell of {part:?}");
            }
        }
        if keys != Some(used) {
            let _ = writeln!(broken, "{path}: uses {used} keys, the name says {keys:?}");
        }
    }
    let comment = if path.ends_with(".js") { "/**" } else { "/*\n * " };
    if path.starts_with("web/") && !file.text.starts_with(comment) {
        let _ = writeln!(broken, "{path}: must open with a comment saying why it exists");
    }
    if path.ends_with(".sql") && !file.text.starts_with("-- ") {
        let _ = writeln!(broken, "{path}: must open with a comment saying what it is for");
    }
}

fn lengths(file: &File, broken: &mut String) {
    let path = &file.path;
    let count = file.text.lines().count();
    if count > LINES_MAX {
        let _ = writeln!(broken, "{path}: {count} lines; at most {LINES_MAX}");
    }
    // A row of a table stays on its line.
    let tables = ["src/http/problem.rs", "src/rabbit/topology.rs"];
    if !path.ends_with(".sql") && !path.ends_with(".lua") && !tables.contains(&path.as_str()) {
        for (index, line) in file.text.lines().enumerate() {
            if line.chars().count() > COLUMNS_MAX {
                let _ = writeln!(broken, "{path}:{}: over {COLUMNS_MAX} columns", index + 1);
            }
        }
    }
}

fn imports(file: &File, broken: &mut String) {
    let Some((room, allowed)) = IMPORTS.iter().find(|(room, _)| *room == file.room()) else {
        return;
    };
    for (index, line) in file.code().lines().enumerate() {
        let line = line.split("//").next().unwrap_or(line);
        for path in line.split("crate::").skip(1) {
            let to = path.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or(path);
            if to != *room && !to.is_empty() && !allowed.contains(&to) {
                let _ = writeln!(
                    broken,
                    "{}:{}: {room} may not import {to} (see the import table)",
                    file.path,
                    index + 1
                );
            }
            let low = to == "postgres" || to == "redis";
            if *room == "actors" && low && !HANDLES.iter().any(|handle| path.starts_with(handle)) {
                let _ = writeln!(
                    broken,
                    "{}:{}: actors take handles from {to}, not statements: go through app",
                    file.path,
                    index + 1
                );
            }
        }
        let impure = ["async ", "serde", "tokio", ".await"];
        if *room == "domain" && impure.iter().any(|word| line.contains(word)) {
            let _ = writeln!(broken, "{}:{}: domain is pure: {line}", file.path, index + 1);
        }
    }
}

fn places(file: &File, broken: &mut String) {
    if file.is_outside() {
        return;
    }
    for (index, line) in file.code().lines().enumerate() {
        let line = line.split("//").next().unwrap_or(line);
        for (word, places) in BELONGS {
            let at_home = places.iter().any(|place| file.path.starts_with(place));
            if line.contains(word) && !at_home {
                let path = &file.path;
                let _ = writeln!(broken, "{path}:{}: {word:?} does not belong here", index + 1);
            }
        }
    }
}

fn tree() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    let mut folders: Vec<PathBuf> =
        ["src", "tests", "migrations", "web"].iter().map(|folder| root.join(folder)).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the tree can be read") {
            let path = entry.expect("the tree can be read").path();
            if path.is_dir() {
                // What npm brings is not ours to judge.
                if !path.ends_with("node_modules") {
                    folders.push(path);
                }
                continue;
            }
            let end = path.extension().unwrap_or_default();
            if ["rs", "lua", "sql", "js", "css"].iter().any(|known| end == *known) {
                let text = fs::read_to_string(&path).expect("source is text");
                let path = path.strip_prefix(root).expect("it is below the root");
                files.push(File { path: path.to_string_lossy().into_owned(), text });
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

#[test]
fn the_house_is_tidy() {
    let files = tree();
    assert!(files.len() > 50, "the tree was not found");
    let broken = broken_rules(&files);
    assert!(broken.is_empty(), "\n{broken}");
}

fn broken_by(path: &str, text: &str) -> String {
    broken_rules(&[File { path: path.to_owned(), text: text.to_owned() }])
}

#[test]
fn each_rule_fails_when_it_is_broken() {
    let long_line = format!("//! Why.\n{}\n", "x".repeat(COLUMNS_MAX + 1));
    let long_file = format!("//! Why.\n{}", "\n".repeat(LINES_MAX + 1));
    let cases = [
        ("src/domain/seat.rs", "use std::fmt;\n", "must open with"),
        ("src/domain/seat.rs", "//! Why.\nuse crate::app::App;\n", "may not import app"),
        ("src/domain/seat.rs", "//! Why.\nuse serde::Serialize;\n", "domain is pure"),
        ("src/http/seats.rs", "//! Why.\nuse crate::postgres::Db;\n", "may not import postgres"),
        ("src/postgres/a.rs", "//! Why.\nuse crate::redis::Redis;\n", "may not import redis"),
        ("src/app/a.rs", "//! Why.\nuse crate::actors::Next;\n", "may not import actors"),
        ("src/actors/a.rs", "//! Why.\nuse crate::postgres::event;\n", "go through app"),
        ("src/app/a.rs", "//! Why.\nconst A: &str = \"SELECT 1\";\n", "does not belong here"),
        ("src/app/a.rs", "//! Why.\nfn a() { tokio::spawn(b()); }\n", "does not belong here"),
        ("src/app/a.rs", "//! Why.\nfn a() { todo!() }\n", "does not belong here"),
        ("src/app/a.rs", &long_line, "columns"),
        ("src/app/a.rs", &long_file, "lines; at most"),
        ("src/redis/lua/take-2.lua", "-- Takes.\nreturn KEYS[1]\n", "uses 1 keys"),
        ("src/redis/lua/part_a.lua", "local a = 1\n", "what it is part of"),
        ("web/js/a.js", "const a = 1;\n", "must open with"),
        ("web/js/a.js", &format!("/** Why. */\n{long_line}"), "columns"),
        ("web/a.css", ":root {}\n", "must open with"),
        ("migrations/V1__a.sql", "CREATE TABLE a ();\n", "must open with a comment"),
    ];
    for (path, text, complaint) in cases {
        let broken = broken_by(path, text);
        assert!(broken.contains(complaint), "{path} should break {complaint:?}, got {broken:?}");
    }
}

#[test]
fn what_is_tidy_passes() {
    let text = "//! Why.\nuse crate::domain::ids::EventId;\n// SELECT in a comment\n";
    assert_eq!(broken_by("src/app/a.rs", text), "");
}
