//! Lists: `?limit=` and an opaque `?cursor=`; stable under inserts because a cursor is the key of
//! the last item seen, never an offset.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::app;
use crate::domain::refusal::{FieldError, FieldErrors, Refusal};

/// Most items on one page.
pub const LIMIT_MAX: i64 = 100;
const LIMIT_DEFAULT: i64 = 20;

/// The parameters that every list takes.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// How many items, 1 to 100.
    #[param(minimum = 1, maximum = 100, default = 20)]
    pub limit: Option<i64>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

impl PageQuery {
    /// The limit, if it is allowed.
    pub fn limit(&self, errors: &mut FieldErrors) -> i64 {
        let limit = self.limit.unwrap_or(LIMIT_DEFAULT);
        if !(1..=LIMIT_MAX).contains(&limit) {
            errors.push(FieldError::new("/limit", "out_of_range", "must be 1 to 100"));
        }
        limit
    }

    /// The key that the cursor stands for, read by `parse`.
    pub fn after<K>(
        &self,
        errors: &mut FieldErrors,
        parse: impl FnOnce(&str) -> Option<K>,
    ) -> Option<K> {
        let cursor = self.cursor.as_deref()?;
        let key = URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|raw| String::from_utf8(raw).ok());
        let key = key.and_then(|key| parse(&key));
        if key.is_none() {
            let detail = "is not a cursor that this list gave out";
            errors.push(FieldError::new("/cursor", "invalid_cursor", detail));
        }
        key
    }

    /// Both, for a list whose key is an id.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] with everything that is wrong.
    pub fn after_id(&self) -> Result<(Option<Uuid>, i64), Refusal> {
        let mut errors = FieldErrors::default();
        let limit = self.limit(&mut errors);
        let after = self.after(&mut errors, |key| key.parse().ok());
        errors.check()?;
        Ok((after, limit))
    }
}

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct PageBody<T> {
    /// The items.
    pub items: Vec<T>,
    /// Where the next page starts; null on the last one.
    pub next_cursor: Option<String>,
}

impl<T> PageBody<T> {
    /// Renders a page.
    pub fn of<S>(page: app::Page<S>, item: impl FnMut(S) -> T) -> Self {
        Self {
            items: page.items.into_iter().map(item).collect(),
            next_cursor: page.next.map(cursor),
        }
    }
}

/// The cursor that stands for a key.
pub fn cursor(key: String) -> String {
    URL_SAFE_NO_PAD.encode(key)
}
