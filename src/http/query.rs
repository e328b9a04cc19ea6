//! Query strings: when a parameter cannot be read, the answer names it.

use std::future::{Ready, ready};
use std::ops::Deref;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};
use serde::de::DeserializeOwned;

use super::problem::Problem;
use crate::domain::refusal::Refusal;

/// The parameters of a request's query string.
#[derive(Clone, Debug)]
pub struct Query<T>(pub T);

impl<T> Query<T> {
    /// The parameters.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> Deref for Query<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: DeserializeOwned> FromRequest for Query<T> {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(parse(request.query_string()).map(Self))
    }
}

fn parse<T: DeserializeOwned>(query: &str) -> Result<T, Problem> {
    let pairs = serde_urlencoded::Deserializer::new(form_urlencoded::parse(query.as_bytes()));
    serde_path_to_error::deserialize(pairs).map_err(|error| {
        let pointer = match error.path().to_string() {
            whole if whole == "." => "/".to_owned(),
            name => format!("/{name}"),
        };
        let detail = format!("cannot be read: {}", error.into_inner());
        Problem::Refused(Refusal::invalid(&pointer, "wrong_type", detail))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::page::PageQuery;

    #[test]
    fn names_the_parameter() {
        let error = parse::<PageQuery>("cursor=a&limit=ten").unwrap_err();
        let Problem::Refused(Refusal::Invalid(fields)) = error else { panic!("{error:?}") };
        assert_eq!((fields[0].pointer.as_str(), fields[0].code), ("/limit", "wrong_type"));
        let good = parse::<PageQuery>("limit=%35&more=x").unwrap();
        assert_eq!((good.limit, good.cursor), (Some(5), None));
        assert!(parse::<PageQuery>("limit=1&limit=2").is_err());
    }
}
