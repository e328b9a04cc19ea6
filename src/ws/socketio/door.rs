//! The HTTP side of Socket.IO: accepts connections, looks where pages are from, tells browsers that
//! they may, answers health, and hands the rest to the engine. hyper, because the engine needs its
//! upgrades; with a clock of its own, because without one a slow head would be waited for for ever.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{Peer, Stage};
use crate::domain::refusal::Refusal;
use crate::http::limits::Limits;
use crate::http::problem::{MEDIA_TYPE, Problem};
use crate::ws::origin;

/// Memory for the head of one connection's request.
const HEAD_MAX: usize = 16 * 1024;
/// Pause after the kernel could not give us a connection (no file descriptors are left).
const EXHAUSTED: Duration = Duration::from_millis(50);
/// How long connections may take to end once they were told to.
const ENDING: Duration = Duration::from_millis(1_500);

/// The status of those whose page is not let in.
const FORBIDDEN: u16 = 403;
/// Who asks, according to the proxies before us.
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// An answer about our health, for who asks this port: (status, JSON).
pub type Health = Arc<dyn Fn(String) -> BoxFuture<'static, Option<(u16, Vec<u8>)>> + Send + Sync>;

type Body = BoxBody<Bytes, Infallible>;

/// What is at this port besides the engine: nothing.
#[derive(Clone, Copy, Debug)]
pub struct Nothing;

impl Service<Request<Incoming>> for Nothing {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn call(&self, _: Request<Incoming>) -> Self::Future {
        ready(Ok(problem(&Refusal::NotFound("page").into())))
    }
}

/// What all connections share.
struct Door {
    stage: Stage,
    limits: Limits,
    health: Health,
}

/// Serves Socket.IO on `listener` until `stop` fires; then all connections are ended.
///
/// # Errors
/// When the settings of the limits cannot be used.
pub async fn serve(
    listener: TcpListener,
    stage: Stage,
    health: Health,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let http = &stage.app.config.http;
    let limits = Limits::new(&stage.app.config.limits, &http.trusted_proxies)?;
    let places = Arc::new(Semaphore::new(http.max_connections));
    let door = Arc::new(Door { stage, limits, health });
    let mut connections = JoinSet::new();
    loop {
        // More than that wait in the kernel's backlog.
        let place = tokio::select! {
            () = stop.cancelled() => break,
            place = Arc::clone(&places).acquire_owned() => place?,
        };
        let (stream, peer) = tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::debug!(%error, "no connection was accepted");
                    sleep(EXHAUSTED).await;
                    continue;
                }
            },
        };
        let (door, stop) = (Arc::clone(&door), stop.clone());
        connections.spawn(async move {
            let _place = place;
            attend(&door, stream, peer, stop).await;
        });
    }
    drop(listener);
    timeout(ENDING, door.stage.close()).await.ok();
    timeout(ENDING, async { while connections.join_next().await.is_some() {} }).await.ok();
    connections.shutdown().await;
    Ok(())
}

/// One connection, until it ends or becomes a WebSocket's.
async fn attend(door: &Arc<Door>, stream: TcpStream, peer: SocketAddr, stop: CancellationToken) {
    stream.set_nodelay(true).ok();
    let service = service_fn(|request: Request<Incoming>| {
        let door = Arc::clone(door);
        async move { Ok::<_, Infallible>(answer(&door, request, peer.ip().to_canonical()).await) }
    });
    let patience = Duration::from_millis(door.stage.app.config.http.request_timeout_ms);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .max_buf_size(HEAD_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
}

async fn answer(door: &Arc<Door>, request: Request<Incoming>, peer: IpAddr) -> Response<Body> {
    let origin = text(request.headers(), &header::ORIGIN).map(str::to_owned);
    let mut response = if request.uri().path().starts_with("/health") {
        health(door, &request).await
    } else {
        engine(door, request, peer).await
    };
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
        (header::VARY, "Origin"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    // Whom we do not let in was answered with a problem, which their page need not read.
    if let Some(origin) = origin.and_then(|origin| HeaderValue::from_str(&origin).ok())
        && response.status().as_u16() != FORBIDDEN
    {
        response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    }
    response
}

async fn health(door: &Door, request: &Request<Incoming>) -> Response<Body> {
    let target = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    match (door.health)(target).await {
        Some((status, json)) => json_response(status, "application/json", json),
        None => problem(&Refusal::NotFound("page").into()),
    }
}

async fn engine(door: &Arc<Door>, mut request: Request<Incoming>, peer: IpAddr) -> Response<Body> {
    let headers = request.headers();
    let (origin, host) = (text(headers, &header::ORIGIN), text(headers, &header::HOST));
    let app = &door.stage.app;
    if !origin::may_open(&app.config, origin, host) {
        return problem(&Refusal::Forbidden("pages of this origin may not open sockets").into());
    }
    if request.method() == Method::OPTIONS {
        return preflight();
    }
    let forwarded: Vec<&str> =
        headers.get_all(&FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok()).collect();
    let address = door.limits.client(peer, &forwarded);
    let begins =
        !request.uri().query().unwrap_or_default().split('&').any(|pair| pair.starts_with("sid="));
    if begins {
        // What begins here takes memory before anybody has said who they are.
        if let Err(wait) = door.limits.admit(address) {
            return problem(&Problem::TooMany(wait));
        }
        if app.rooms.is_closing() || app.rooms.open() >= app.config.sockets.max_total {
            return problem(&Problem::Unavailable("sockets", Duration::from_secs(1)));
        }
    }
    request.extensions_mut().insert(Peer(address));
    match door.stage.service.call(request).await {
        Ok(response) => response.map(BodyExt::boxed),
        Err(never) => match never {},
    }
}

fn preflight() -> Response<Body> {
    let mut response = json_response(204, "application/json", Vec::new());
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, OPTIONS"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "content-type, authorization"),
        (header::ACCESS_CONTROL_MAX_AGE, "3600"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn problem(problem: &Problem) -> Response<Body> {
    let body = problem.body("");
    let json = serde_json::to_vec(&body).unwrap_or_default();
    let mut response = json_response(body.status, MEDIA_TYPE, json);
    if let Some(after) = problem.retry_after() {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(after));
    }
    response
}

fn json_response(status: u16, media: &'static str, body: Vec<u8>) -> Response<Body> {
    let response = Response::builder().status(status).header(header::CONTENT_TYPE, media);
    // All that is said here has a status of our own making.
    response.body(Full::new(Bytes::from(body)).boxed()).unwrap_or_default()
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
