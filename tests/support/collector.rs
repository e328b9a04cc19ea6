//! A collector of traces that keeps what it is told, or takes it and never answers.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message as _;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::database::drive;

/// A collector.
pub struct Collector {
    address: SocketAddr,
    told: Arc<Mutex<Told>>,
}

/// What it was told.
#[derive(Default)]
struct Told {
    heads: Vec<String>,
    services: Vec<String>,
    spans: Vec<Span>,
}

impl Collector {
    /// Listens, keeps what it is told, and answers; or never does.
    pub async fn start(answers: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let told = Arc::new(Mutex::new(Told::default()));
        let keep = Arc::clone(&told);
        drive(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let keep = Arc::clone(&keep);
                drive(async move { drop(serve(stream, &keep, answers).await) });
            }
        });
        Self { address, told }
    }

    /// What the settings call it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The heads of all requests, in small letters.
    pub fn heads(&self) -> Vec<String> {
        self.told.lock().unwrap().heads.clone()
    }

    /// The names of the services that told it something.
    pub fn services(&self) -> Vec<String> {
        self.told.lock().unwrap().services.clone()
    }

    /// All spans.
    pub fn spans(&self) -> Vec<Span> {
        self.told.lock().unwrap().spans.clone()
    }

    /// The spans of a trace (32 hex).
    pub fn trace(&self, id: &str) -> Vec<Span> {
        let mut spans = self.spans();
        spans.retain(|span| hex(&span.trace_id) == id);
        spans
    }
}

async fn serve(stream: TcpStream, told: &Mutex<Told>, answers: bool) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).await? == 0 {
                return Ok(());
            }
        }
        let head = head.to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length = length.map_or(0, |length| length.trim().parse().expect("a length"));
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        keep(&mut told.lock().unwrap(), head, &body);
        if !answers {
            std::future::pending::<()>().await;
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await?;
    }
}

fn keep(told: &mut Told, head: String, body: &[u8]) {
    told.heads.push(head);
    for of in ExportTraceServiceRequest::decode(body).expect("OTLP").resource_spans {
        let resource = of.resource.expect("a resource");
        let name = resource.attributes.iter().find(|one| one.key == "service.name");
        let name = name.and_then(|name| name.value.clone()).and_then(|name| name.value);
        if let Some(Value::StringValue(name)) = name {
            told.services.push(name);
        }
        told.spans.extend(of.scope_spans.into_iter().flat_map(|scope| scope.spans));
    }
}

/// An id as people read it.
pub fn hex(id: &[u8]) -> String {
    use std::fmt::Write as _;
    id.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("text");
        text
    })
}

/// An attribute as text.
pub fn attribute(span: &Span, key: &str) -> Option<String> {
    let found = span.attributes.iter().find(|one| one.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        other => panic!("{key} is {other:?}"),
    }
}

/// What a span is about, in a line: whose view, and what.
pub fn line(span: &Span) -> String {
    let kind = SpanKind::try_from(span.kind).expect("a kind");
    format!("{kind:?} {}", span.name)
}
