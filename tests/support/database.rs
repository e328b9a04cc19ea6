//! A database for one test: copied from a template that is migrated once and kept between runs for
//! as long as the migrations stay the same. Dropped with the test, whatever became of it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use happening::clock::Ids;
use happening::config::Config;
use happening::postgres::{Db, migrate};
use sha2::{Digest as _, Sha256};
use tokio_postgres::{Client, NoTls};

use super::environment;

/// Any number: whoever makes a template holds this lock.
const LOCK: i64 = 0x4954_4954;
/// How long the drop may take.
const DROP: Duration = Duration::from_secs(10);

/// A database of one's own.
pub struct Database {
    name: String,
    url: String,
    admin: String,
}

impl Database {
    /// Makes one with the whole schema in it.
    pub async fn create() -> Self {
        let admin = environment("DATABASE_URL");
        let client = connect(&admin).await;
        let template = template(&client, &admin).await;
        let name = format!("it_{}", Ids.uuid().simple());
        let create = format!("CREATE DATABASE {name} TEMPLATE {template}");
        client.batch_execute(&create).await.expect("the database can be copied");
        Self { url: with_name(&admin, &name), name, admin }
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A connection of the test's own.
    pub async fn connect(&self) -> Client {
        connect(&self.url).await
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        let admin = self.admin.clone();
        // A thread of its own: the test's runtime may be at its end, and must not be blocked.
        let work = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let dropped = async { connect(&admin).await.batch_execute(&drop).await };
                tokio::time::timeout(DROP, dropped).await.is_ok()
            })
        });
        work.join().ok();
    }
}

/// A plain connection.
pub async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls)
        .await
        .unwrap_or_else(|error| panic!("PostgreSQL does not answer (./dev test): {error}"));
    drive(async move {
        connection.await.ok();
    });
    client
}

/// Runs what a connection needs beside the test.
#[expect(clippy::disallowed_methods, reason = "tests have no supervisor")]
pub fn drive(work: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(work);
}

/// The name of the migrated template; makes it if it is not there.
async fn template(client: &Client, admin: &str) -> String {
    let name = format!("it_template_{}", fingerprint());
    if exists(client, &name).await {
        return name;
    }
    client.execute("SELECT pg_advisory_lock($1)", &[&LOCK]).await.expect("the lock");
    if !exists(client, &name).await {
        forget(client).await;
        let raw = format!("{name}_raw");
        client.batch_execute(&format!("DROP DATABASE IF EXISTS {raw} WITH (FORCE)")).await.unwrap();
        client.batch_execute(&format!("CREATE DATABASE {raw}")).await.unwrap();
        let sources =
            [("DATABASE_URL", with_name(admin, &raw)), ("HAPPENING__DEMO", "true".into())];
        let sources = sources.map(|(name, value)| (name.to_owned(), value)).into();
        let config = Config::from_sources(None, sources).expect("the settings");
        let db = Db::new(&config.postgres, 1).expect("a pool");
        migrate::migrate(&db).await.expect("the migrations run");
        db.close();
        // Under its name it is complete. The pool's connection may take a moment to be gone.
        let rename = format!("ALTER DATABASE {raw} RENAME TO {name}");
        super::eventually(DROP, || async {
            client.batch_execute(&rename).await.map_err(|error| format!("{error:?}"))
        })
        .await;
    }
    client.execute("SELECT pg_advisory_unlock($1)", &[&LOCK]).await.expect("the lock");
    name
}

/// Drops what runs with other migrations, and runs that were cut off, have left.
async fn forget(client: &Client) {
    let old = "SELECT datname FROM pg_database d WHERE datname LIKE 'it\\_%'
        AND NOT EXISTS (SELECT 1 FROM pg_stat_activity a WHERE a.datname = d.datname)
        AND (datname LIKE 'it\\_template\\_%' OR (pg_stat_file('base/' || oid || '/PG_VERSION'))
             .modification < now() - interval '1 hour') LIMIT 100";
    for row in client.query(old, &[]).await.unwrap_or_default() {
        let name: String = row.get(0);
        client.batch_execute(&format!("DROP DATABASE IF EXISTS {name}")).await.ok();
    }
}

async fn exists(client: &Client, name: &str) -> bool {
    let found = client.query("SELECT 1 FROM pg_database WHERE datname = $1", &[&name]).await;
    !found.expect("PostgreSQL answers").is_empty()
}

/// The same for the same migrations.
fn fingerprint() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let mut files: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut hash = Sha256::new();
    for file in files {
        hash.update(file.file_name().unwrap().as_encoded_bytes());
        hash.update(fs::read(file).unwrap());
    }
    let digest: [u8; 32] = hash.finalize().into();
    let first: [u8; 8] = digest[..8].try_into().unwrap();
    format!("{:016x}", u64::from_be_bytes(first))
}

fn with_name(url: &str, name: &str) -> String {
    let (path, query) =
        url.split_once('?').map_or((url, None), |(path, query)| (path, Some(query)));
    let (server, _) = path.rsplit_once('/').expect("DATABASE_URL names a database");
    match query {
        Some(query) => format!("{server}/{name}?{query}"),
        None => format!("{server}/{name}"),
    }
}
