//! The booking page: plain HTML, CSS and ES modules from `web/`, built into the binary, so that a
//! browser needs nothing but this server. No build step and no other host; the policy below makes
//! browsers enforce the latter.

use std::io::Write as _;

use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, ResponseError as _, web};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};

use super::problem::Problem;
use crate::app::demo::PEOPLE;
use crate::app::{App, Error, holds};
use crate::domain::account::DEMO_PASSWORD;
use crate::domain::ids::EventId;
use crate::domain::refusal::Refusal;

/// Scripts, styles, pictures and connections (sockets of our own origin too) come from us or not
/// at all; scripts cannot make HTML out of text, so what people call their events stays text.
const POLICY: &str = "default-src 'self'; img-src 'self' data:; object-src 'none'; \
    base-uri 'none'; form-action 'self'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'";
/// Asked for again each time, answered with 304 while nothing has changed: modules of two releases
/// never meet in one page.
const CACHING: &str = "no-cache";
/// Where `index.html` and `event.html` want to be told of the demo.
const DEMO_SLOT: &str = "<!-- demo -->";
/// What gzip has to save to be worth its header.
const WORTH: usize = 256;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

macro_rules! files {
    ($($kind:ident $name:literal,)*) => {
        &[$(($name, $kind, include_bytes!(concat!("../../web/", $name)).as_slice())),*]
    };
}

/// All of `web/` that browsers are given: media type and path.
const FILES: &[(&str, &str, &[u8])] = files![
    HTML "index.html",
    HTML "event.html",
    CSS "app.css",
    CSS "event.css",
    CSS "parts.css",
    SVG "icon.svg",
    SCRIPT "js/announce.js",
    SCRIPT "js/api.js",
    SCRIPT "js/booking.js",
    SCRIPT "js/bookings.js",
    SCRIPT "js/dialog.js",
    SCRIPT "js/dom.js",
    SCRIPT "js/event.js",
    SCRIPT "js/format.js",
    SCRIPT "js/holds.js",
    SCRIPT "js/inbox.js",
    SCRIPT "js/index.js",
    SCRIPT "js/layout.js",
    SCRIPT "js/live.js",
    SCRIPT "js/panel.js",
    SCRIPT "js/panzoom.js",
    SCRIPT "js/seatmap.js",
    SCRIPT "js/seats.js",
    SCRIPT "js/session.js",
    SCRIPT "js/shell.js",
    SCRIPT "js/signin.js",
    SCRIPT "js/socket.js",
    SCRIPT "js/stepper.js",
    SCRIPT "js/waitlist.js",
];

/// A file, ready to be sent.
struct File {
    name: &'static str,
    kind: &'static str,
    plain: Variant,
    /// If it saves something.
    gzip: Option<Variant>,
}

/// Bytes and their strong `ETag`.
struct Variant {
    bytes: Bytes,
    etag: String,
}

/// The files, each compressed once, when the process starts.
pub struct Pages(Vec<File>);

impl Pages {
    /// Reads them; on a demo instance the sign-in offers its accounts.
    pub fn new(demo: bool) -> Self {
        let file = |(name, kind, bytes): &(&'static str, &'static str, &'static [u8])| {
            let bytes = match *kind {
                HTML => with_demo(bytes, demo),
                _ => Bytes::from_static(bytes),
            };
            let gzip = gzipped(&bytes).filter(|small| small.len() + WORTH < bytes.len());
            let (plain, gzip) = (Variant::of(bytes), gzip.map(Variant::of));
            File { name, kind, plain, gzip }
        };
        Self(FILES.iter().map(file).collect())
    }

    /// A page that says that there is nothing; not to be kept, because there may be later.
    fn missing(&self, name: &str) -> HttpResponse {
        let Some(file) = self.0.iter().find(|file| file.name == name) else {
            return Problem::from(Refusal::NotFound("page")).error_response();
        };
        HttpResponse::NotFound()
            .insert_header((header::CACHE_CONTROL, "no-store"))
            .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
            .content_type(file.kind)
            .body(file.plain.bytes.clone())
    }

    fn answer(&self, request: &HttpRequest, name: &str) -> HttpResponse {
        let Some(file) = self.0.iter().find(|file| file.name == name) else {
            return Problem::from(Refusal::NotFound("page")).error_response();
        };
        let gzip = file.gzip.as_ref().filter(|_| takes_gzip(request));
        let sent = gzip.unwrap_or(&file.plain);
        let fresh = request
            .headers()
            .get(header::IF_NONE_MATCH)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|known| names(known, &sent.etag));
        let mut answer = if fresh { HttpResponse::NotModified() } else { HttpResponse::Ok() };
        answer
            .insert_header((header::ETAG, sent.etag.as_str()))
            .insert_header((header::CACHE_CONTROL, CACHING))
            .insert_header((header::VARY, HeaderValue::from_static("accept-encoding")))
            .insert_header((header::CONTENT_SECURITY_POLICY, POLICY));
        if fresh {
            return answer.finish();
        }
        if gzip.is_some() {
            answer.insert_header((header::CONTENT_ENCODING, "gzip"));
        }
        answer.content_type(file.kind).body(sent.bytes.clone())
    }
}

impl Variant {
    fn of(bytes: Bytes) -> Self {
        let digest: [u8; 32] = Sha256::digest(&bytes).into();
        let etag = format!("\"{}\"", URL_SAFE_NO_PAD.encode(digest));
        Self { bytes, etag }
    }
}

/// The page with the accounts of the demo in it, or with nothing.
fn with_demo(page: &'static [u8], demo: bool) -> Bytes {
    let mut tag = String::new();
    if demo {
        let people: Vec<String> =
            PEOPLE.iter().map(|(email, name, _, what)| format!("{email}|{name}|{what}")).collect();
        tag = format!(
            "<meta name=\"demo-accounts\" content=\"{}\">\n  \
             <meta name=\"demo-password\" content=\"{DEMO_PASSWORD}\">",
            people.join(";")
        );
    }
    Bytes::from(String::from_utf8_lossy(page).replace(DEMO_SLOT, &tag))
}

fn gzipped(bytes: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).ok()?;
    encoder.finish().ok().map(Bytes::from)
}

fn takes_gzip(request: &HttpRequest) -> bool {
    let accepted = request.headers().get(header::ACCEPT_ENCODING);
    let accepted = accepted.and_then(|value| value.to_str().ok()).unwrap_or_default();
    accepted.split(',').any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let gzip = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        gzip && !parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    })
}

/// Whether `If-None-Match` names this tag. The comparison is a weak one (RFC 9110, 13.1.2).
fn names(known: &str, etag: &str) -> bool {
    let mut tags = known.split(',').map(str::trim);
    tags.any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

/// The pages and what they load.
pub fn routes(cfg: &mut web::ServiceConfig) {
    for (path, get, head) in [
        ("/", web::get().to(index), web::head().to(index)),
        ("/events/{id}", web::get().to(event), web::head().to(event)),
        ("/assets/{name:.+}", web::get().to(asset), web::head().to(asset)),
    ] {
        cfg.service(web::resource(path).route(get).route(head));
    }
}

async fn index(request: HttpRequest, pages: web::Data<Pages>) -> HttpResponse {
    pages.answer(&request, "index.html")
}

/// The same for every event: the script in it asks the API which one is meant. For what nobody may
/// know of the page is sent as well, but as 404: it says so, or shows its organiser their draft.
async fn event(request: HttpRequest, app: web::Data<App>, pages: web::Data<Pages>) -> HttpResponse {
    let id = request.match_info().get("id").and_then(|id| id.parse().ok());
    let gone = match id {
        Some(id) => matches!(
            holds::find(&app, EventId(id)).await,
            Err(Error::Refused(Refusal::NotFound(_)))
        ),
        None => true,
    };
    if gone { pages.missing("event.html") } else { pages.answer(&request, "event.html") }
}

async fn asset(request: HttpRequest, pages: web::Data<Pages>) -> HttpResponse {
    let name = request.match_info().get("name").unwrap_or_default();
    pages.answer(&request, name)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn every_file_is_served() {
        let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("web");
        let listed = |folder: &Path, prefix: &str| -> Vec<String> {
            let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
            // What Node reads to run the tests is not for browsers.
            let files = entries
                .filter(|entry| entry.path().is_file() && entry.file_name() != "package.json");
            files.map(|entry| format!("{prefix}{}", entry.file_name().display())).collect()
        };
        let mut there = listed(&web, "");
        there.extend(listed(&web.join("js"), "js/"));
        there.sort();
        let mut served: Vec<String> = FILES.iter().map(|file| file.0.to_owned()).collect();
        served.sort();
        assert_eq!(served, there);
    }

    #[test]
    fn nothing_comes_from_elsewhere() {
        for (name, _, bytes) in FILES {
            let text = String::from_utf8_lossy(bytes).replace("http://www.w3.org/2000/svg", "");
            assert!(!text.contains("http://") && !text.contains("https://"), "{name}");
        }
    }

    #[test]
    fn what_is_known_is_not_sent_again() {
        let pages = Pages::new(false);
        let plain = TestRequest::default().to_http_request();
        let first = pages.answer(&plain, "app.css");
        assert_eq!(first.status(), 200);
        assert_eq!(first.headers().get("content-type").unwrap(), CSS);
        let tag = first.headers().get("etag").unwrap().clone();
        let again = TestRequest::default().insert_header(("if-none-match", tag.clone()));
        assert_eq!(pages.answer(&again.to_http_request(), "app.css").status(), 304);
        // Other bytes, another tag: a strong one names what was sent.
        let gzip = TestRequest::default().insert_header(("accept-encoding", "br, gzip;q=0.5"));
        let small = pages.answer(&gzip.to_http_request(), "app.css");
        assert_eq!(small.headers().get("content-encoding").unwrap(), "gzip");
        assert_ne!(small.headers().get("etag").unwrap(), &tag);
        assert_eq!(pages.answer(&plain, "../Cargo.toml").status(), 404);
    }

    #[test]
    fn only_the_demo_gives_accounts_away() {
        let page = |demo: bool| {
            let pages = Pages::new(demo);
            let index = pages.0.iter().find(|file| file.name == "index.html").unwrap();
            String::from_utf8_lossy(&index.plain.bytes).into_owned()
        };
        assert!(page(true).contains("ana@happening.test") && page(true).contains(DEMO_PASSWORD));
        assert!(!page(false).contains("happening.test") && !page(false).contains(DEMO_PASSWORD));
        assert!(!page(true).contains(DEMO_SLOT));
    }
}
