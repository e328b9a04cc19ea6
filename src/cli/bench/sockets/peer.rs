//! The peer: a small Socket.IO server in Node (`benches/peer/`), as a process of its own.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, ensure};

use crate::config;

/// Where it is, seen from the repository's root.
const FOLDER: &str = "benches/peer";
/// Says which packages are installed, as `./dev test` does.
const MARK: &str = "node_modules/.happening-lock";

/// It runs.
pub struct Peer {
    child: Child,
    says: BufReader<ChildStdout>,
    told: ChildStdin,
    /// Where it listens.
    pub port: u16,
}

/// Whether there is a peer to be had here; installs its packages the first time.
///
/// # Errors
/// Says what is missing.
pub fn prepare() -> anyhow::Result<()> {
    let folder = Path::new(FOLDER);
    let lock = fs::read(folder.join("package-lock.json"))
        .with_context(|| format!("{FOLDER} is not here: run it in the repository's root"))?;
    let node = Command::new(node()).arg("--version").output();
    ensure!(node.is_ok_and(|output| output.status.success()), "there is no node (set NODE)");
    if fs::read(folder.join(MARK)).is_ok_and(|installed| installed == lock) {
        return Ok(());
    }
    let mut npm = Command::new(config::program("NPM", "npm"));
    let output = npm.current_dir(folder).args(["ci", "--ignore-scripts"]).output();
    let output = output.context("there is no npm (set NPM)")?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "npm ci failed in {FOLDER}: {said}");
    Ok(fs::write(folder.join(MARK), lock)?)
}

fn node() -> String {
    config::program("NODE", "node")
}

impl Peer {
    /// Starts it; the seats up to `taken` are sold.
    ///
    /// # Errors
    /// When it does not start.
    pub fn raise(taken: u32) -> anyhow::Result<Self> {
        let mut child = Command::new(node())
            .args(["--expose-gc", "server.mjs", &taken.to_string()])
            .current_dir(FOLDER)
            .env("NODE_ENV", "production")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("the peer cannot be started")?;
        let says = BufReader::new(child.stdout.take().context("its output")?);
        let told = child.stdin.take().context("its input")?;
        let mut peer = Self { child, says, told, port: 0 };
        peer.port = peer.line()?.parse().context("the peer's port")?;
        Ok(peer)
    }

    /// Which process it is.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Has it collect its garbage.
    ///
    /// # Errors
    /// When it is gone.
    pub fn collect(&mut self) -> anyhow::Result<()> {
        self.told.write_all(b"\n")?;
        let said = self.line()?;
        ensure!(said == "collected", "the peer said {said}");
        Ok(())
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        self.says.read_line(&mut line)?;
        ensure!(!line.is_empty(), "the peer is gone");
        Ok(line.trim().to_owned())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
