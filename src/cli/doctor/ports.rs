//! The ports: free, or served by a process of ours.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::Report;
use crate::config::Config;

/// How long whoever has the port may take to say who they are.
const PATIENCE: Duration = Duration::from_secs(2);
/// As much of an answer as is read.
const ANSWER_MAX: u64 = 8192;

pub async fn examine(report: &mut Report, config: &Config) {
    let http = &config.http;
    for (name, port) in [("http.be_port", http.be_port), ("http.socket_port", http.socket_port)] {
        if port == 0 {
            report.ok(name, "any free port");
            continue;
        }
        match TcpListener::bind((http.host.as_str(), port)).await {
            Ok(_) => report.ok(name, format!("{port} is free")),
            Err(_) if is_ours(&http.host, port).await => {
                report.ok(name, format!("{port} is served by happening"));
            }
            Err(error) => {
                let mend = "stop what has the port, or choose another (BE_PORT, SOCKET_PORT)";
                report.fail(name, format!("{port}: {error}"), mend);
            }
        }
    }
}

async fn is_ours(host: &str, port: u16) -> bool {
    let host = match host {
        "0.0.0.0" => "127.0.0.1",
        "::" => "::1",
        other => other,
    };
    timeout(PATIENCE, ask(host, port)).await.ok().flatten().unwrap_or(false)
}

async fn ask(host: &str, port: u16) -> Option<bool> {
    let mut stream = TcpStream::connect((host, port)).await.ok()?;
    let request = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.ok()?;
    let mut answer = Vec::new();
    stream.take(ANSWER_MAX).read_to_end(&mut answer).await.ok()?;
    Some(String::from_utf8_lossy(&answer).contains("\"service\":\"happening\""))
}
