//! The binary's other commands, run as an operator does: a process with an environment, that says
//! something and ends with a status.

use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::TestServer;

/// No command takes longer.
const PATIENCE: Duration = Duration::from_mins(1);

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status.
    pub status: i32,
    /// What it said on stdout.
    pub said: String,
    /// What it complained about on stderr.
    pub complained: String,
}

impl Ended {
    /// It went well; what it said.
    pub fn well(self) -> String {
        assert_eq!(self.status, 0, "{self:?}");
        self.said
    }

    /// It ended with status 1; all that it said.
    pub fn badly(self) -> String {
        assert_eq!(self.status, 1, "{self:?}");
        format!("{}{}", self.said, self.complained)
    }
}

impl TestServer {
    /// Runs `happening ARGS` with the settings of this server, and `settings` over them.
    pub async fn command(&self, args: &[&str], settings: &[(&str, &str)]) -> Ended {
        let mut command = Command::new(binary());
        command.args(args).env_clear().envs(&self.environment).envs(settings.iter().copied());
        command.stdin(Stdio::null()).kill_on_drop(true);
        let ended = timeout(PATIENCE, command.output()).await.expect("it ends");
        let Output { status, stdout, stderr } = ended.expect("the binary can be started");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let status = status.code().expect("it was not killed");
        Ended { status, said: text(&stdout), complained: text(&stderr) }
    }
}

/// The binary under test. The test runner says where it is if it has moved it.
#[expect(clippy::disallowed_methods, reason = "tests are told where the binary is")]
fn binary() -> PathBuf {
    let built = env!("CARGO_BIN_EXE_happening");
    std::env::var_os("NEXTEST_BIN_EXE_happening").map_or_else(|| built.into(), PathBuf::from)
}
