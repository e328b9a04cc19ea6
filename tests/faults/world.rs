//! Everything that a test has to itself: services, people, events, and how servers are told.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use happening::app::accounts::AccessTokens;
use happening::clock::Clock;
use happening::config::Config;
use happening::domain::account::UserRole;
use happening::domain::ids::UserId;
use lapin::options::QueueDeleteOptions;
use tokio::time::timeout;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use crate::process::{Dir, binary, var};
use crate::server::{SECRET, Server};
use crate::services::{Postgres, Rabbit, Redis, broker};

const PEOPLE: &str = "INSERT INTO users (id, email, name, password_hash, created_at, updated_at)
    SELECT id, id || '@example.test', 'Buyer', '', now(), now() FROM unnest($1::uuid[]) AS id";
const ORGANIZATION: &str = "WITH o AS (
        INSERT INTO organizations (id, name, slug, created_by, created_at)
        VALUES ($1, 'Faults', $1::uuid::text, $2, now()) RETURNING id)
    INSERT INTO organization_members (organization_id, user_id, role, created_at)
    SELECT id, $2, 'owner', now() FROM o";
const EVENT: &str = "INSERT INTO events (id, organization_id, title, starts_at, status, seating,
        max_seats_per_booking, waitlist_policy, waitlist_max_bypass, capacity, available_slots,
        confirmed_seats, reserved_seats, waitlist_length, last_waiting_number, seat_cursor,
        inventory_version, created_at, updated_at, version)
    VALUES ($1, $2, 'A night out', now() + interval '30 days', 'published', $3, 10, 'strict', 0,
        $4, $4, 0, 0, 0, 0, 0, 1, now(), now(), 1)";

/// Somebody who can ask for things.
#[derive(Clone)]
pub struct Person {
    pub id: Uuid,
    pub token: String,
}

/// One test's world.
pub struct World {
    pub postgres: Postgres,
    pub redis: Redis,
    pub rabbit: Option<Rabbit>,
    pub amqp: String,
    pub queue: String,
    /// Messages of one booking leave in the order of their writing. Not those that are lost in
    /// the broker, and sent again when the next one may have been delivered.
    pub in_order: bool,
    settings: HashMap<String, String>,
    tokens: AccessTokens,
    servers: AtomicU32,
    home: Dir,
}

impl World {
    /// PostgreSQL and Redis of its own, a queue of its own in the broker that all tests share.
    pub async fn new() -> Self {
        Self::with(Dir::new(), None).await
    }

    /// A broker of its own, too.
    pub async fn with_rabbit() -> Self {
        let home = Dir::new();
        let rabbit = Rabbit::start(&home).await;
        Self::with(home, Some(rabbit)).await
    }

    async fn with(home: Dir, rabbit: Option<Rabbit>) -> Self {
        let postgres = Postgres::start(&home).await;
        let redis = Redis::start(&home).await;
        let amqp = rabbit.as_ref().map_or_else(|| var("RABBITMQ_URL"), Rabbit::url);
        let queue = format!("faults-{}", Uuid::now_v7().simple());
        let settings: HashMap<String, String> = [
            ("BE_PORT", "0"),
            ("DATABASE_URL", &postgres.url()),
            ("REDIS_URL", &redis.url()),
            ("RABBITMQ_URL", &amqp),
            ("NOTIFICATIONS_QUEUE", &queue),
            ("HAPPENING__AUTH__SIGNING_SECRET", SECRET),
            ("HAPPENING__HTTP__WORKERS", "2"),
            ("HAPPENING__LIMITS__EXEMPT_LOOPBACK", "true"),
            ("HAPPENING__LOG__FORMAT", "json"),
            // What a killed relay had claimed waits no longer than this.
            ("HAPPENING__RELAY__LEASE_MS", "3000"),
            // Nor what the broker lost.
            ("HAPPENING__RELAY__LOST_AFTER_MS", "3000"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        let config = Config::from_sources(None, settings.clone()).expect("settings");
        let tokens = AccessTokens::new(&config.auth, Clock::default());
        Self {
            postgres,
            redis,
            rabbit,
            amqp,
            queue,
            in_order: true,
            settings,
            tokens,
            servers: AtomicU32::new(0),
            home,
        }
    }

    /// For all servers that start from now on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.settings.insert(name.to_owned(), value.to_owned());
    }

    /// A server, ready.
    pub async fn serve(&self) -> Server {
        self.serve_with(&[]).await
    }

    /// A server with settings of its own, ready.
    pub async fn serve_with(&self, more: &[(&str, &str)]) -> Server {
        let mut settings = self.settings.clone();
        settings.extend(more.iter().map(|(name, value)| ((*name).into(), (*value).into())));
        Server::start(&settings, &self.log()).await
    }

    /// What a command of the binary says, with the settings of servers.
    pub async fn command(&self, args: &[&str]) -> String {
        let mut command = tokio::process::Command::new(binary());
        let output = command.args(args).env_clear().envs(&self.settings).output().await;
        let output = output.expect("the binary can be started");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        said
    }

    /// A server that will die at that crash point (`src/fault.rs`).
    pub async fn serve_until(&self, crash_point: &str) -> Server {
        self.serve_with(&[("HAPPENING_CRASH_AT", crash_point)]).await
    }

    fn log(&self) -> PathBuf {
        let number = self.servers.fetch_add(1, Ordering::Relaxed);
        self.home.join(&format!("server-{number}.log"))
    }

    pub async fn sql(&self) -> Client {
        self.postgres.client().await
    }

    pub async fn rows(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Vec<Row> {
        self.sql().await.query(sql, params).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"))
    }

    /// The one number that a statement answers.
    pub async fn count(&self, sql: &str) -> i64 {
        self.rows(sql, &[]).await[0].get(0)
    }

    /// New people.
    pub async fn people(&self, count: usize) -> Vec<Person> {
        let ids: Vec<Uuid> = (0..count).map(|_| Uuid::now_v7()).collect();
        self.sql().await.execute(PEOPLE, &[&ids]).await.expect("people");
        ids.into_iter().map(|id| self.person(id)).collect()
    }

    fn person(&self, id: Uuid) -> Person {
        let token = self.tokens.issue(UserId(id), UserRole::User).expect("a token");
        Person { id, token }
    }

    /// An event on sale with general seating and a strict queue, and its organiser.
    pub async fn event(&self, capacity: i32) -> (Uuid, Person) {
        self.event_of("general", capacity, Uuid::now_v7()).await
    }

    /// The same with numbered seats.
    pub async fn numbered_event(&self, capacity: i32) -> (Uuid, Person) {
        self.event_of("numbered", capacity, Uuid::now_v7()).await
    }

    pub async fn event_of(&self, seating: &str, capacity: i32, id: Uuid) -> (Uuid, Person) {
        let organizer = self.people(1).await.remove(0);
        let organization = Uuid::now_v7();
        let sql = self.sql().await;
        sql.execute(ORGANIZATION, &[&organization, &organizer.id]).await.expect("organization");
        sql.execute(EVENT, &[&id, &organization, &seating, &capacity]).await.expect("an event");
        (id, organizer)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if self.rabbit.is_some() {
            return;
        }
        // The shared broker shall not keep the queues of tests that are over.
        let (amqp, queue) = (self.amqp.clone(), self.queue.clone());
        let done = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap();
            let patience = Duration::from_secs(5);
            runtime.block_on(async { timeout(patience, forget(&amqp, &queue)).await })
        });
        done.join().ok();
    }
}

async fn forget(amqp: &str, queue: &str) {
    let Some(connection) = broker(amqp).await else { return };
    let Ok(channel) = connection.create_channel().await else { return };
    for suffix in ["", ".dead", ".retry.1000", ".retry.10000", ".retry.60000"] {
        let name = format!("{queue}{suffix}");
        channel.queue_delete(name.into(), QueueDeleteOptions::default()).await.ok();
    }
    connection.close(200, "bye".into()).await.ok();
}
