//! Rate limits per account and per address. Per process: with n processes behind a balancer a
//! caller can reach n times the limit.
//!
//! Only callers who asked within the last few seconds are remembered: a bucket that has filled up
//! again is the same as none, and is dropped. So memory follows the rate of requests.

use std::cell::Cell;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage as _, HttpRequest, ResponseError as _, web};
use anyhow::{Context as _, bail};
use governor::clock::{Clock as _, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};

use super::problem::Problem;
use crate::config;
use crate::domain::ids::UserId;

/// Buckets are swept after this many requests.
const SWEEP_EVERY: u32 = 4096;
/// Addresses of an `X-Forwarded-For` header that are looked at, from the right.
const HOPS_MAX: usize = 16;
/// draft-ietf-httpapi-ratelimit-headers-10.
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The buckets of all callers.
#[derive(Debug)]
pub struct Limits {
    accounts: Buckets<UserId>,
    addresses: Buckets<IpAddr>,
    sign_in_addresses: Buckets<IpAddr>,
    sign_in_emails: Buckets<String>,
    exempt_loopback: bool,
    proxies: Vec<Network>,
}

impl Limits {
    /// Empty buckets.
    ///
    /// # Errors
    /// When `http.trusted_proxies` has something that is neither an address nor a CIDR block.
    pub fn new(limits: &config::Limits, trusted_proxies: &[String]) -> anyhow::Result<Self> {
        let account = quota(limits.account_per_second, limits.account_burst, SECOND);
        let address = quota(limits.address_per_second, limits.address_burst, SECOND);
        let sign_in = quota(limits.sign_in_per_minute, limits.sign_in_per_minute, MINUTE);
        let proxies = trusted_proxies.iter().map(|text| Network::parse(text));
        Ok(Self {
            accounts: Buckets::new("account", account),
            addresses: Buckets::new("address", address),
            sign_in_addresses: Buckets::new("sign-in-address", sign_in),
            sign_in_emails: Buckets::new("sign-in-email", sign_in),
            exempt_loopback: limits.exempt_loopback,
            proxies: proxies.collect::<anyhow::Result<_>>().context("http.trusted_proxies")?,
        })
    }

    /// Counts a request against its account.
    ///
    /// # Errors
    /// [`Problem::TooMany`], and when to come back.
    pub fn check_account(&self, user: UserId, request: &HttpRequest) -> Result<(), Problem> {
        self.accounts.check(&user, request)
    }

    /// Counts a request against its address.
    ///
    /// # Errors
    /// [`Problem::TooMany`], and when to come back.
    pub fn check_address(&self, request: &HttpRequest) -> Result<(), Problem> {
        match self.address_to_count(request) {
            Some(address) => self.addresses.check(&address, request),
            None => Ok(()),
        }
    }

    /// Counts an attempt to sign in or up against its address and, whoever makes it, against the
    /// e-mail address that it tries.
    ///
    /// # Errors
    /// [`Problem::TooMany`], and when to come back.
    pub fn check_sign_in(&self, request: &HttpRequest, email: &str) -> Result<(), Problem> {
        if let Some(address) = self.address_to_count(request) {
            self.sign_in_addresses.check(&address, request)?;
        }
        // No e-mail address is longer (RFC 5321); the rest of a longer text is of no account.
        let email = email.trim().to_lowercase().chars().take(320).collect();
        self.sign_in_emails.check(&email, request)
    }

    /// The client's address, unless it is exempt; of IPv6 the /64, which one customer has.
    pub fn address_to_count(&self, request: &HttpRequest) -> Option<IpAddr> {
        let peer = request.peer_addr()?.ip().to_canonical();
        self.counted(self.client(peer, &forwarded(request.headers())))
    }

    /// The address that is counted for a client, unless it is exempt.
    fn counted(&self, client: IpAddr) -> Option<IpAddr> {
        match client {
            _ if self.exempt_loopback && client.is_loopback() => None,
            IpAddr::V4(_) => Some(client),
            IpAddr::V6(v6) => Some(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into()),
        }
    }

    /// Who really asks.
    pub fn client_of(&self, request: &HttpRequest) -> Option<IpAddr> {
        let peer = request.peer_addr()?.ip().to_canonical();
        Some(self.client(peer, &forwarded(request.headers())))
    }

    /// Counts something against an address outside of the API.
    ///
    /// # Errors
    /// How long to wait.
    pub fn admit(&self, client: IpAddr) -> Result<(), Duration> {
        let Some(address) = self.counted(client) else { return Ok(()) };
        self.addresses.sweep();
        let checked = self.addresses.limiter.check_key(&address).map(drop);
        checked.map_err(|not_until| not_until.wait_time_from(DefaultClock::default().now()))
    }

    /// Who really asks: the nearest address in the `X-Forwarded-For` lines that is not one of our
    /// proxies. What is further left was written by strangers.
    pub fn client(&self, peer: IpAddr, lines: &[&str]) -> IpAddr {
        let mut client = peer;
        let hops = lines.iter().rev().flat_map(|line| line.rsplit(',')).take(HOPS_MAX);
        for hop in hops {
            if !self.proxies.iter().any(|network| network.contains(client)) {
                break;
            }
            let Ok(address) = hop.trim().parse::<IpAddr>() else { break };
            client = address.to_canonical();
        }
        client
    }
}

fn forwarded(headers: &HeaderMap) -> Vec<&str> {
    headers.get_all("x-forwarded-for").filter_map(|value| value.to_str().ok()).collect()
}

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);

fn quota(rate: u32, burst: u32, per: Duration) -> Quota {
    let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
    let period = (per / rate.max(1)).max(Duration::from_nanos(1));
    Quota::with_period(period).unwrap_or(Quota::per_second(burst)).allow_burst(burst)
}

/// One policy and the callers that it counts.
#[derive(Debug)]
struct Buckets<K: Hash + Eq + Clone> {
    name: &'static str,
    quota: Quota,
    limiter: RateLimiter<K, DashMapStateStore<K>, DefaultClock, StateInformationMiddleware>,
    checks: AtomicU32,
}

impl<K: Hash + Eq + Clone> Buckets<K> {
    fn new(name: &'static str, quota: Quota) -> Self {
        let limiter = RateLimiter::dashmap(quota).with_middleware::<StateInformationMiddleware>();
        Self { name, quota, limiter, checks: AtomicU32::new(0) }
    }

    /// Forgets callers whose buckets have filled up again, now and then.
    fn sweep(&self) {
        if self.checks.fetch_add(1, Ordering::Relaxed) % SWEEP_EVERY == SWEEP_EVERY - 1 {
            self.limiter.retain_recent();
        }
    }

    fn check(&self, key: &K, request: &HttpRequest) -> Result<(), Problem> {
        self.sweep();
        let (left, wait) = match self.limiter.check_key(key) {
            Ok(state) => (state.remaining_burst_capacity(), None),
            Err(not_until) => (0, Some(not_until.wait_time_from(DefaultClock::default().now()))),
        };
        let spent = self.quota.burst_size().get().saturating_sub(left);
        let reset = wait.unwrap_or(self.quota.replenish_interval() * spent);
        let standing = Standing {
            name: self.name,
            quota: self.quota.burst_size().get(),
            window: self.quota.burst_size_replenished_in(),
            left,
            reset,
        };
        if let Some(board) = request.extensions().get::<Board>() {
            board.note(standing);
        }
        match wait {
            None => Ok(()),
            Some(wait) => {
                metrics::counter!("http_limited_total", "policy" => self.name).increment(1);
                Err(Problem::TooMany(wait))
            }
        }
    }
}

/// How a caller stands with one policy.
#[derive(Clone, Copy, Debug)]
struct Standing {
    name: &'static str,
    quota: u32,
    window: Duration,
    left: u32,
    reset: Duration,
}

/// What the answer will say about limits: the policy that is nearest to its end.
#[derive(Clone, Debug, Default)]
struct Board(std::rc::Rc<Cell<Option<Standing>>>);

impl Board {
    fn note(&self, standing: Standing) {
        let nearer = |seen: Standing| {
            u64::from(seen.left) * u64::from(standing.quota)
                < u64::from(standing.left) * u64::from(seen.quota)
        };
        if !self.0.get().is_some_and(nearer) {
            self.0.set(Some(standing));
        }
    }

    fn write(&self, headers: &mut HeaderMap) {
        let Some(Standing { name, quota, window, left, reset }) = self.0.get() else { return };
        let policy = format!("\"{name}\";q={quota};w={}", whole_seconds(window).max(1));
        let standing = format!("\"{name}\";r={left};t={}", whole_seconds(reset));
        for (header, value) in [(RATE_LIMIT_POLICY, policy), (RATE_LIMIT, standing)] {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(header, value);
            }
        }
    }
}

fn whole_seconds(duration: Duration) -> u64 {
    duration.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX)
}

/// Middleware of the API: counts the request against its address, and tells how the caller stands
/// with the limits that were counted on the way.
pub async fn limit<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let board = Board::default();
    request.extensions_mut().insert(board.clone());
    let limits = request.app_data::<web::Data<Limits>>();
    let checked = limits.map_or(Ok(()), |limits| limits.check_address(request.request()));
    let mut response = match checked {
        Ok(()) => next.call(request).await?.map_into_boxed_body(),
        Err(problem) => request.into_response(problem.error_response()),
    };
    board.write(response.headers_mut());
    Ok(response)
}

/// A block of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    prefix: u32,
}

impl Network {
    fn parse(text: &str) -> anyhow::Result<Self> {
        let text = text.trim();
        let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
        let address: IpAddr =
            address.parse().with_context(|| format!("`{text}` is not an address or block"))?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => most,
            Some(prefix) => prefix.parse().unwrap_or(u32::MAX),
        };
        if prefix > most {
            bail!("`{text}`: the prefix must be 0 to {most}");
        }
        Ok(Self { address, prefix })
    }

    fn contains(self, address: IpAddr) -> bool {
        let differing = match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                u128::from(own.to_bits() ^ other.to_bits()) << 96
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => own.to_bits() ^ other.to_bits(),
            _ => return false,
        };
        differing.leading_zeros() >= self.prefix
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn limits(proxies: &[&str], exempt_loopback: bool) -> Limits {
        let limits = config::Limits {
            account_per_second: 100,
            account_burst: 400,
            address_per_second: 1,
            address_burst: 3,
            sign_in_per_minute: 2,
            exempt_loopback,
        };
        let proxies: Vec<String> = proxies.iter().map(|&text| text.to_owned()).collect();
        Limits::new(&limits, &proxies).unwrap()
    }

    fn from(peer: &str, forwarded: &[&str]) -> HttpRequest {
        let mut request = TestRequest::get().peer_addr(format!("{peer}:9").parse().unwrap());
        for line in forwarded {
            request = request.append_header(("x-forwarded-for", *line));
        }
        request.to_http_request()
    }

    fn client(limits: &Limits, request: &HttpRequest) -> String {
        let peer = request.peer_addr().unwrap().ip();
        limits.client(peer, &forwarded(request.headers())).to_string()
    }

    #[test]
    fn forwarded_addresses_count_only_behind_our_own_proxies() {
        let open = limits(&[], false);
        assert_eq!(client(&open, &from("9.9.9.9", &["1.2.3.4"])), "9.9.9.9");
        let proxied = limits(&["10.0.0.0/8", "fd00::/8"], false);
        assert_eq!(client(&proxied, &from("10.1.2.3", &["6.6.6.6, 1.2.3.4"])), "1.2.3.4");
        let chain = &["6.6.6.6", "1.2.3.4, 10.9.9.9"];
        assert_eq!(client(&proxied, &from("10.1.2.3", chain)), "1.2.3.4");
        assert_eq!(client(&proxied, &from("10.1.2.3", &["nonsense"])), "10.1.2.3");
        assert_eq!(client(&proxied, &from("11.1.2.3", &["1.2.3.4"])), "11.1.2.3");
        assert_eq!(client(&proxied, &from("[fd12::1]", &["::ffff:1.2.3.4"])), "1.2.3.4");
        assert_eq!(client(&proxied, &from("10.0.0.1", &[])), "10.0.0.1");
    }

    #[test]
    fn blocks_are_read_strictly() {
        for bad in ["10.0.0.0/33", "ten", "10.0.0.0/x", "::/129", ""] {
            assert!(Network::parse(bad).is_err(), "{bad}");
        }
        assert!(Network::parse("0.0.0.0/0").unwrap().contains("1.2.3.4".parse().unwrap()));
        assert!(!Network::parse("1.2.3.4").unwrap().contains("1.2.3.5".parse().unwrap()));
    }

    #[test]
    fn a_neighbour_in_the_same_64_shares_the_bucket_and_others_do_not() {
        let limits = limits(&[], true);
        for _ in 0..3 {
            limits.check_address(&from("[2001:db8::1]", &[])).unwrap();
        }
        let refused = limits.check_address(&from("[2001:db8::2]", &[])).unwrap_err();
        assert_eq!(refused.code(), "too_many_requests");
        limits.check_address(&from("[2001:db8:0:1::1]", &[])).unwrap();
        for _ in 0..9 {
            limits.check_address(&from("127.0.0.1", &[])).unwrap();
        }
    }

    #[test]
    fn signing_in_is_counted_by_address_and_by_email() {
        let limits = limits(&[], false);
        for address in ["1.1.1.1", "2.2.2.2"] {
            limits.check_sign_in(&from(address, &[]), "ana@happening.test").unwrap();
        }
        assert!(limits.check_sign_in(&from("3.3.3.3", &[]), " ANA@happening.test").is_err());
        limits.check_sign_in(&from("1.1.1.1", &[]), "ben@happening.test").unwrap();
        assert!(limits.check_sign_in(&from("1.1.1.1", &[]), "cas@happening.test").is_err());
    }

    #[test]
    fn the_answer_tells_the_tightest_limit() {
        let limits = limits(&[], false);
        let request = from("1.1.1.1", &[]);
        let board = Board::default();
        request.extensions_mut().insert(board.clone());
        limits.check_address(&request).unwrap();
        limits.check_account(UserId(uuid::Uuid::nil()), &request).unwrap();
        let mut headers = HeaderMap::new();
        board.write(&mut headers);
        assert_eq!(headers.get(RATE_LIMIT_POLICY).unwrap(), "\"address\";q=3;w=3");
        assert_eq!(headers.get(RATE_LIMIT).unwrap(), "\"address\";r=2;t=1");
    }
}
