//! The people of a load run: signed up over the API as anybody would, or put into the database
//! directly and given tokens, which is quicker than hashing a password for each.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures_util::future::try_join_all;
use serde_json::{Value, json};
use uuid::Uuid;

use super::api::Api;
use super::client::Target;
use super::progress::Progress;
use crate::app::accounts::AccessTokens;
use crate::clock::Ids;
use crate::domain::account::UserRole;
use crate::domain::ids::UserId;
use crate::postgres::{Db, rehearsal};

/// Sign-ups at once: the server hashes two passwords at a time.
const SIGN_UPS_AT_ONCE: u64 = 4;
/// People inserted by one statement.
const INSERTED_AT_ONCE: usize = 10_000;
/// Tokens older than this are replaced before they are used again; they live for 15 minutes.
const TOKEN_AGE_MAX: Duration = Duration::from_mins(5);

/// Somebody who books, or organises.
#[derive(Clone, Debug)]
pub struct Person {
    /// Who.
    pub id: Uuid,
    /// Their access token.
    pub token: String,
    /// What replaces it, if they signed up.
    refresh_token: Option<String>,
}

#[cfg(test)]
impl Person {
    /// Somebody for tests.
    pub fn of(id: u64, token: &str) -> Self {
        Self { id: Uuid::from_u128(id.into()), token: token.to_owned(), refresh_token: None }
    }
}

/// Where people come from.
pub enum Source {
    /// They sign up.
    Api(Arc<Target>),
    /// They are inserted.
    Database(Db, AccessTokens),
}

/// All the people of a run. The first organises, the others book.
pub struct Crowd {
    source: Source,
    people: Vec<Person>,
    tokens_made: Instant,
}

impl Crowd {
    /// Makes one organiser and `buyers` people.
    ///
    /// # Errors
    /// When the server or the database refuses or is away.
    pub async fn make(
        source: Source,
        run: &str,
        buyers: u64,
        progress: &Progress,
    ) -> anyhow::Result<Self> {
        let tokens_made = Instant::now();
        let people = match &source {
            Source::Api(target) => sign_up_all(target, run, buyers + 1, progress).await?,
            Source::Database(db, tokens) => insert_all(db, tokens, buyers + 1).await?,
        };
        Ok(Self { source, people, tokens_made })
    }

    /// Who organises.
    ///
    /// # Errors
    /// Never, once made.
    pub fn organizer(&self) -> anyhow::Result<&Person> {
        self.people.first().context("nobody organises")
    }

    /// Who books.
    pub fn buyers(&self) -> &[Person] {
        self.people.get(1..).unwrap_or_default()
    }

    /// The database they were put into, if they were.
    pub fn database(&self) -> Option<&Db> {
        match &self.source {
            Source::Database(db, _) => Some(db),
            Source::Api(_) => None,
        }
    }

    /// Replaces the tokens if they are not young any more.
    ///
    /// # Errors
    /// When the server refuses or is away for too long.
    pub async fn refresh(&mut self) -> anyhow::Result<()> {
        if self.tokens_made.elapsed() < TOKEN_AGE_MAX {
            return Ok(());
        }
        self.tokens_made = Instant::now();
        match &self.source {
            Source::Database(_, tokens) => {
                for person in &mut self.people {
                    person.token = issue(tokens, person.id)?;
                }
            }
            Source::Api(target) => {
                let mut api = Api::new(Arc::clone(target));
                for person in &mut self.people {
                    let body = json!({"refresh_token": person.refresh_token});
                    let session = api.post("/auth/refresh", None, None, &body).await?;
                    person.token = text(&session, "access_token")?;
                    person.refresh_token = Some(text(&session, "refresh_token")?);
                }
            }
        }
        Ok(())
    }
}

async fn sign_up_all(
    target: &Arc<Target>,
    run: &str,
    count: u64,
    progress: &Progress,
) -> anyhow::Result<Vec<Person>> {
    let next = AtomicU64::new(0);
    let workers = (0..SIGN_UPS_AT_ONCE.min(count)).map(|_| async {
        let mut api = Api::new(Arc::clone(target));
        let mut people = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                return anyhow::Ok(people);
            }
            people.push(sign_up(&mut api, run, index).await?);
            progress.step("signing people up", index + 1, count);
        }
    });
    let people = try_join_all(workers).await?.into_iter().flatten().collect();
    progress.done();
    Ok(people)
}

async fn sign_up(api: &mut Api, run: &str, index: u64) -> anyhow::Result<Person> {
    let body = json!({
        "email": format!("hammer-{run}-{index}@hammer.invalid"),
        "password": format!("hammer {run} {index}"),
        "name": format!("Hammer {index}"),
    });
    let session = api.post("/auth/register", None, None, &body).await?;
    let id = session.pointer("/user/id").and_then(Value::as_str).context("no user.id")?;
    Ok(Person {
        id: id.parse().context("user.id is no UUID")?,
        token: text(&session, "access_token")?,
        refresh_token: Some(text(&session, "refresh_token")?),
    })
}

fn text(session: &Value, field: &str) -> anyhow::Result<String> {
    let value = session.get(field).and_then(Value::as_str);
    Ok(value.with_context(|| format!("the answer has no {field}"))?.to_owned())
}

async fn insert_all(db: &Db, tokens: &AccessTokens, count: u64) -> anyhow::Result<Vec<Person>> {
    let ids: Vec<Uuid> = (0..count).map(|_| Ids.uuid()).collect();
    let conn = db.get().await.context("cannot reach PostgreSQL (DATABASE_URL)")?;
    for some in ids.chunks(INSERTED_AT_ONCE) {
        rehearsal::insert_people(&conn, some).await.context("people cannot be inserted")?;
    }
    (ids.into_iter())
        .map(|id| Ok(Person { id, token: issue(tokens, id)?, refresh_token: None }))
        .collect()
}

fn issue(tokens: &AccessTokens, id: Uuid) -> anyhow::Result<String> {
    let token = tokens.issue(UserId(id), UserRole::User);
    token.map_err(|error| anyhow::anyhow!("a token cannot be signed: {error:?}"))
}
