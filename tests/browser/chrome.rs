//! A chromedriver for one test, and the Chromium windows that it opens.

use std::env::split_paths;
use std::path::PathBuf;
use std::process::{Command as Plain, Stdio};
use std::time::Duration;

use thirtyfour::{ChromiumLikeCapabilities as _, DesiredCapabilities, WebDriver};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::support::environment;

/// How long a browser may take to start on a busy machine.
const STARTED: Duration = Duration::from_mins(1);
/// What chromedriver says when it is ready, before its port.
const READY: &str = "started successfully on port ";
/// What the packages of Debian, and of others, call it.
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];

/// A window of a phone: width and height.
pub const PHONE: (u32, u32) = (390, 844);
/// A window of a desk.
pub const DESK: (u32, u32) = (1280, 900);

/// Opens windows, each with a profile of its own: nobody is signed in, nothing is remembered.
pub struct Chrome {
    driver: Child,
    port: u16,
    binary: PathBuf,
}

impl Chrome {
    /// Starts chromedriver.
    ///
    /// # Panics
    /// With one line that says what to install when there is no Chromium.
    pub async fn start() -> Self {
        let found = NAMES.iter().find_map(|name| program(name));
        let (Some(binary), Some(driver)) = (found, program("chromedriver")) else {
            panic!("Chromium is missing: apt-get install -y chromium chromium-driver")
        };
        let mut driver = Command::new(driver)
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver starts");
        let mut lines = BufReader::new(driver.stdout.take().expect("its output")).lines();
        let port = timeout(STARTED, async {
            while let Some(line) = lines.next_line().await.expect("its output is text") {
                if let Some((_, port)) = line.split_once(READY) {
                    return port.trim_end_matches('.').parse().expect("a port");
                }
            }
            panic!("chromedriver ended at once")
        });
        let port = port.await.expect("chromedriver is ready in time");
        Self { driver, port, binary }
    }

    /// A window of this size.
    pub async fn open(&self, (width, height): (u32, u32)) -> WebDriver {
        let mut wish = DesiredCapabilities::chrome();
        wish.set_binary(&self.binary.to_string_lossy()).expect("a path");
        for flag in [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--lang=en-GB",
        ] {
            wish.add_arg(flag).expect("a flag");
        }
        wish.add_arg(&format!("--window-size={width},{height}")).expect("a flag");
        // The driver's client could speak TLS, and asks for it before it knows that it need not.
        rustls::crypto::ring::default_provider().install_default().ok();
        let url = format!("http://127.0.0.1:{}", self.port);
        let opened = timeout(STARTED, WebDriver::new(url, wish)).await;
        opened.expect("Chromium opens in time").expect("Chromium opens")
    }
}

impl Drop for Chrome {
    /// Asked to end, chromedriver ends the windows that a failed test has left open.
    fn drop(&mut self) {
        let Some(id) = self.driver.id() else { return };
        Plain::new("kill").arg(id.to_string()).status().ok();
        for _ in 0..100 {
            if matches!(self.driver.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        self.driver.start_kill().ok();
    }
}

fn program(name: &str) -> Option<PathBuf> {
    let path = environment("PATH");
    split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}
