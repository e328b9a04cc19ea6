//! Child processes that never outlive the test: killed when they go out of scope, and by the
//! kernel if the test itself is killed. What they say is kept in a file and shown when it matters.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio::time::sleep;

/// How often a wait looks again.
pub const LOOK: Duration = Duration::from_millis(20);

/// Looks until `seen` answers something, or fails with what was waited for.
pub async fn until<T>(what: &str, within: Duration, mut seen: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = seen().await {
            return found;
        }
        assert!(begun.elapsed() < within, "not within {within:?}: {what}");
        sleep(LOOK).await;
    }
}

/// A program and how it is to be started.
pub struct Program {
    path: PathBuf,
    args: Vec<String>,
    envs: Vec<(String, String)>,
    as_postgres: bool,
}

impl Program {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), args: Vec::new(), envs: Vec::new(), as_postgres: false }
    }

    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    pub fn envs<N: Into<String>, V: Into<String>>(
        mut self,
        envs: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        self.envs.extend(envs.into_iter().map(|(name, value)| (name.into(), value.into())));
        self
    }

    /// PostgreSQL refuses to run as root; then it runs as its package's own user.
    pub fn run_as_postgres(mut self) -> Self {
        self.as_postgres = true;
        self
    }

    /// `setpriv` makes the kernel end the child with the thread that started it, which is the
    /// thread of the test.
    fn command(&self, log: &Path) -> Command {
        let said = File::options().create(true).append(true).open(log).expect("a log");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        if self.as_postgres && is_root() {
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
        }
        command
            .arg("--")
            .arg(&self.path)
            .args(&self.args)
            .env_clear()
            .env("PATH", var("PATH"))
            .env("LC_ALL", "C.UTF-8")
            .env("TZ", "UTC")
            .envs(self.envs.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(said.try_clone().expect("a second handle of a log"))
            .stderr(said);
        command
    }

    /// Runs it to its end.
    pub fn run(&self, log: &Path) {
        let ended = self.command(log).status().expect("setpriv (util-linux)");
        assert!(ended.success(), "{} {ended}: {}", self.path.display(), tail(log));
    }

    /// Starts it; it is killed when the process goes out of scope.
    pub fn start(&self, log: &Path) -> Process {
        let child = self.command(log).spawn().expect("setpriv (util-linux)");
        Process { child, log: log.to_owned(), name: self.path.display().to_string() }
    }
}

/// A running child.
pub struct Process {
    child: Child,
    log: PathBuf,
    name: String,
}

impl Process {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Sends a signal by name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), &pid]).status();
        assert!(sent.is_ok_and(|sent| sent.success()), "kill -{name} {}", self.name);
    }

    /// `kill -9`, and gone when this returns.
    pub fn kill(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the state of a child")
    }

    /// Waits for its end.
    pub async fn wait(&mut self, within: Duration) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        until(&what, within, async || self.ended()).await
    }

    /// Fails with what the child said last, if it is not there any more.
    pub fn must_live(&mut self) {
        let ended = self.ended();
        assert!(ended.is_none(), "{} ended ({ended:?}): {}", self.name, tail(&self.log));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The children of a process.
pub fn children(parent: u32) -> Vec<u32> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name, in parentheses, may contain anything.
        let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        rest.split(' ').nth(1).and_then(|id| id.parse().ok()) == Some(parent)
    })
    .collect()
}

/// The last lines of a log.
pub fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    format!("{}:\n{}", log.display(), lines[lines.len().saturating_sub(40)..].join("\n"))
}

/// A variable of the environment that `./dev test` sets.
pub fn var(name: &str) -> String {
    let value = std::env::var(name).unwrap_or_default();
    assert!(!value.is_empty(), "{name} is not set: run the tests with ./dev test");
    value
}

/// The binary under test. The test runner says where it is if it has moved it.
pub fn binary() -> PathBuf {
    let built = env!("CARGO_BIN_EXE_happening");
    std::env::var_os("NEXTEST_BIN_EXE_happening").map_or_else(|| built.into(), PathBuf::from)
}

pub fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

/// A directory of one test, removed when the test has passed.
pub struct Dir(PathBuf);

impl Dir {
    /// Short, because the paths of Unix sockets are; where the user postgres may go.
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("hf-{}-{count}", std::process::id()));
        fs::remove_dir_all(&path).ok();
        fs::create_dir(&path).expect("a directory for a test");
        Self(path)
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        // After a failure the logs are worth more than the space.
        if !std::thread::panicking() {
            fs::remove_dir_all(&self.0).ok();
        }
    }
}
