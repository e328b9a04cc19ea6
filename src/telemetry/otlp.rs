//! The collector of traces, spoken to in OTLP over HTTP with protobuf bodies.

use std::time::Duration;

use anyhow::{Context as _, bail};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, Url};
use uuid::Uuid;

use super::spans::{attribute, text};
use crate::config;

/// As much of an answer as is read.
const ANSWER_MAX: usize = 65_536;

/// A collector. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Collector {
    client: Client,
    url: Url,
    resource: Resource,
}

impl Collector {
    /// The one that the settings name; it is asked nothing yet. `instance` tells this process from
    /// others of the service.
    ///
    /// # Errors
    /// When the settings cannot be used, or TLS finds no root certificates.
    pub fn new(config: &config::Tracing, instance: Uuid) -> anyhow::Result<Self> {
        let base = config.otlp_endpoint.trim_end_matches('/');
        let url = format!("{base}/v1/traces").parse::<Url>().context("tracing.otlp_endpoint")?;
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        for (name, value) in config.headers().map_err(anyhow::Error::msg)? {
            let name = name.parse::<HeaderName>().context("tracing.otlp_headers")?;
            let mut value = HeaderValue::from_str(&value).context("tracing.otlp_headers")?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        // A second time changes nothing.
        rustls::crypto::ring::default_provider().install_default().ok();
        let mut client = Client::builder()
            .default_headers(headers)
            .timeout(Duration::from_millis(config.timeout_ms))
            .redirect(Policy::none())
            // The environment is for config.rs to read.
            .no_proxy();
        if url.scheme() == "http" {
            // A machine without root certificates can still send in plain.
            client = client.tls_certs_only([]);
        }
        let client = client.build().context("the client of the collector")?;
        let attributes = [
            ("service.name", text(&config.service_name)),
            ("service.version", text(env!("CARGO_PKG_VERSION"))),
            ("service.instance.id", text(instance)),
        ];
        let attributes = attributes.map(|(key, value)| attribute(key, value)).to_vec();
        Ok(Self { client, url, resource: Resource { attributes, ..Resource::default() } })
    }

    /// Hands spans over; how many of them the collector did not want.
    ///
    /// # Errors
    /// When it is away, late or says no.
    pub async fn send(&self, spans: Vec<Span>) -> anyhow::Result<u64> {
        let scope = InstrumentationScope {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, schema_url: String::new() }];
        let resource_spans = vec![ResourceSpans {
            resource: Some(self.resource.clone()),
            scope_spans,
            schema_url: String::new(),
        }];
        let body = ExportTraceServiceRequest { resource_spans }.encode_to_vec();
        let response = self.client.post(self.url.clone()).body(body).send().await?;
        let status = response.status();
        if !status.is_success() {
            bail!("the collector answered {status}");
        }
        let answer = ExportTraceServiceResponse::decode(read(response).await?.as_slice());
        let rejected = answer.ok().and_then(|answer| answer.partial_success);
        Ok(rejected.map_or(0, |some| u64::try_from(some.rejected_spans).unwrap_or(0)))
    }
}

/// The beginning of an answer.
async fn read(mut response: Response) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        body.extend_from_slice(&chunk);
        if body.len() > ANSWER_MAX {
            bail!("the collector answered more than {ANSWER_MAX} bytes");
        }
    }
    Ok(body)
}
