//! The only way to act for somebody: an extractor named by what it grants. A handler that takes
//! `Authorized<WriteBookings>` cannot be reached without a credential that covers it.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::http::header;
use actix_web::{FromRequest, HttpRequest, web};

use super::limits::Limits;
use super::problem::Problem;
use crate::app::accounts::authenticate;
use crate::app::{App, Error};
use crate::domain::account::{API_KEY_PREFIX, Caller, Scope, UserRole};
use crate::domain::refusal::Refusal;

/// What a route needs of its caller.
pub trait Policy: 'static {
    /// The scope an API key must have.
    const SCOPE: Scope;
    /// Whether only operators of the instance may pass.
    const ADMIN: bool = false;
}

macro_rules! policies {
    ($($(#[$doc:meta])* $name:ident => $scope:ident $(, admin: $admin:literal)?);+ $(;)?) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub enum $name {}
        impl Policy for $name {
            const SCOPE: Scope = Scope::$scope;
            $(const ADMIN: bool = $admin;)?
        }
    )+};
}

policies! {
    /// Reads the caller's own profile, inbox and memberships.
    ReadProfile => ProfileRead;
    /// Changes them.
    WriteProfile => ProfileWrite;
    /// Reads what organisers see.
    ReadEvents => EventsRead;
    /// Changes events and organisations.
    WriteEvents => EventsWrite;
    /// Reads the caller's own bookings.
    ReadBookings => BookingsRead;
    /// Books and cancels.
    WriteBookings => BookingsWrite;
    /// Operates the instance.
    Operate => Admin, admin: true;
}

/// A caller who was proven to satisfy a policy.
#[derive(Debug)]
pub struct Authorized<P> {
    /// Who.
    pub caller: Caller,
    policy: PhantomData<P>,
}

impl<P: Policy> FromRequest for Authorized<P> {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let caller = identify(&request).await?.ok_or(Refusal::Unauthenticated)?;
            if P::ADMIN && caller.role != UserRole::Admin {
                return Err(Refusal::Forbidden("needs the role admin").into());
            }
            if !caller.covers(P::SCOPE) {
                return Err(Refusal::Forbidden("the API key lacks the scope").into());
            }
            Ok(Self { caller, policy: PhantomData })
        })
    }
}

/// Whoever asks, if they say who they are: for what the public sees and members see more of.
#[derive(Debug)]
pub struct Anyone(pub Option<Caller>);

impl FromRequest for Anyone {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move { Ok(Self(identify(&request).await?)) })
    }
}

/// Whether the request carries an access token that is good, or what looks like an API key: asked
/// before a large body is received. What it may do is checked afterwards.
pub fn claims_to_be_somebody(request: &HttpRequest) -> bool {
    let value = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = value.and_then(|value| value.split_once(' ')).map(|(_, token)| token.trim());
    token.zip(app(request).ok()).is_some_and(|(token, app)| {
        token.starts_with(API_KEY_PREFIX) || app.tokens.prove(token).is_some()
    })
}

/// Proves the credential, if there is one, and counts the request against its account.
async fn identify(request: &HttpRequest) -> Result<Option<Caller>, Problem> {
    let Some(value) = request.headers().get(header::AUTHORIZATION) else { return Ok(None) };
    let token = value
        .to_str()
        .ok()
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .ok_or(Refusal::Unauthenticated)?;
    let app = app(request)?;
    let caller = authenticate::bearer(app, token).await?;
    if let Some(limits) = request.app_data::<web::Data<Limits>>() {
        limits.check_account(caller.user_id, request)?;
    }
    Ok(Some(caller))
}

fn app(request: &HttpRequest) -> Result<&App, Problem> {
    request
        .app_data::<web::Data<App>>()
        .map(web::Data::get_ref)
        .ok_or_else(|| Error::Fault(anyhow::anyhow!("the app is not configured")).into())
}
