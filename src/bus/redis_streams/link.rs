//! One connection to Redis: made when it is needed, given up when it fails, with the scripts in
//! place. Everything on it has a deadline.

use std::time::Duration;

use anyhow::anyhow;
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, FromRedisValue, Pipeline, RedisError, RedisResult,
};
use redis::{Script, ServerErrorKind, Value};
use tokio::sync::Mutex;

use super::super::BusError;
use super::scripts;

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(2);

/// A connection that comes back.
pub struct Link {
    client: Client,
    patience: Duration,
    live: Mutex<Option<MultiplexedConnection>>,
}

impl Link {
    /// Connects when first used; every answer has to come within `patience`.
    pub fn new(client: Client, patience: Duration) -> Self {
        Self { client, patience, live: Mutex::new(None) }
    }

    /// Runs a pipeline, and says of each command what came of it.
    ///
    /// # Errors
    /// When Redis is away. What was asked for may have been done.
    pub async fn all(&self, pipeline: &mut Pipeline) -> Result<Vec<RedisResult<Value>>, BusError> {
        let mut connection = self.connection().await?;
        pipeline.ignore_errors();
        let mut answers: Vec<RedisResult<Value>> = match pipeline.query_async(&mut connection).await
        {
            Ok(answers) => answers,
            Err(error) => return Err(self.failed(error).await),
        };
        // Somebody made the server forget the scripts: those commands again, and no others.
        let forgotten: Vec<usize> = (0..answers.len())
            .filter(|index| answers.get(*index).is_some_and(is_unknown_script))
            .collect();
        if !forgotten.is_empty() {
            self.load(&mut connection).await?;
            let mut again = Pipeline::with_capacity(forgotten.len());
            for command in forgotten.iter().filter_map(|index| pipeline.cmd_iter().nth(*index)) {
                again.add_command(command.clone());
            }
            again.ignore_errors();
            let told: Vec<RedisResult<Value>> = match again.query_async(&mut connection).await {
                Ok(told) => told,
                Err(error) => return Err(self.failed(error).await),
            };
            for (index, answer) in forgotten.into_iter().zip(told) {
                if let Some(place) = answers.get_mut(index) {
                    *place = answer;
                }
            }
        }
        Ok(answers)
    }

    /// Runs one command.
    ///
    /// # Errors
    /// When Redis is away or says no.
    pub async fn one<T: FromRedisValue>(&self, command: Cmd) -> Result<T, Failure> {
        let mut pipeline = Pipeline::with_capacity(1);
        pipeline.add_command(command);
        let answer = self.all(&mut pipeline).await.map_err(Failure::Bus)?.into_iter().next();
        let value = answer.unwrap_or(Ok(Value::Nil)).map_err(Failure::Answer)?;
        redis::from_redis_value(value).map_err(|error| Failure::Answer(error.into()))
    }

    /// Gives the connection up: the next one that asks makes a new one.
    pub async fn reset(&self) {
        *self.live.lock().await = None;
    }

    async fn connection(&self) -> Result<MultiplexedConnection, BusError> {
        let mut live = self.live.lock().await;
        if let Some(connection) = live.as_ref() {
            return Ok(connection.clone());
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(self.patience));
        let mut connection = self
            .client
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .map_err(|error| BusError::Away(error.into()))?;
        self.load(&mut connection).await?;
        *live = Some(connection.clone());
        Ok(connection)
    }

    async fn load(&self, connection: &mut MultiplexedConnection) -> Result<(), BusError> {
        for script in scripts::all() {
            script
                .prepare_invoke()
                .load_async(connection)
                .await
                .map_err(|error| BusError::Away(error.into()))?;
        }
        Ok(())
    }

    async fn failed(&self, error: RedisError) -> BusError {
        self.reset().await;
        BusError::Away(error.into())
    }
}

/// Why one command did not do what it should.
pub enum Failure {
    /// It did not get there, or no answer came back.
    Bus(BusError),
    /// Redis said no.
    Answer(RedisError),
}

impl Failure {
    /// Whether it is that the stream or the group is not there.
    pub fn is_no_group(&self) -> bool {
        matches!(self, Self::Answer(error) if is_no_group(error))
    }
}

impl From<Failure> for BusError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Bus(error) => error,
            Failure::Answer(error) => refused(&error),
        }
    }
}

/// A no of Redis. One that only lasts a while is as good as being away.
pub fn refused(error: &RedisError) -> BusError {
    let text = anyhow!("{error}");
    match error.code() {
        Some("LOADING" | "MASTERDOWN" | "TRYAGAIN" | "CLUSTERDOWN" | "BUSY") => {
            BusError::Away(text)
        }
        _ => BusError::Refused(text),
    }
}

/// Whether it is that the stream or the group is not there (any more).
pub fn is_no_group(error: &RedisError) -> bool {
    matches!(error.code(), Some("NOGROUP" | "UNBLOCKED"))
}

fn is_unknown_script(answer: &RedisResult<Value>) -> bool {
    let unknown = redis::ErrorKind::Server(ServerErrorKind::NoScript);
    matches!(answer, Err(error) if error.kind() == unknown)
}

/// A call of a script, to be put into a pipeline.
pub fn call(script: &Script, keys: &[&str]) -> Cmd {
    let mut command = redis::cmd("EVALSHA");
    command.arg(script.get_hash()).arg(keys.len());
    for key in keys {
        command.arg(key);
    }
    command
}
