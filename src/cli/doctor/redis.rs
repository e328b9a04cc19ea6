//! Redis, which may forget everything but must not forget single keys behind our back.

use std::collections::HashMap;

use ::redis::{RedisResult, cmd};

use super::{Report, Status};
use crate::config::Config;
use crate::redis::Redis;

pub async fn examine(report: &mut Report, config: &Config) {
    let info = async {
        let redis = Redis::new(&config.redis)?;
        let mut connection = redis.get().await?;
        let info: String = cmd("INFO").query_async(&mut connection).await?;
        anyhow::Ok((connection, info))
    };
    let (mut connection, info) = match info.await {
        Ok(found) => found,
        Err(error) => {
            let mend = "start Redis, or set REDIS_URL; until then bookings go on, more slowly";
            return report.fail("redis.connect", format!("{error:#}"), mend);
        }
    };
    let info = parse(&info);
    let get = |key: &str| info.get(key).copied().unwrap_or("unknown");
    report.ok("redis.connect", "answers");
    let version = get("redis_version");
    let major = version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0_u32);
    let mend = "upgrade Redis to 6.2 or later";
    report.expect("redis.version", major >= 6, version, Status::Fail, mend);
    let policy = get("maxmemory_policy");
    let bounded = get("maxmemory") != "0";
    let found = format!("{policy}{}", if bounded { "" } else { " (no maxmemory)" });
    let status = if bounded { Status::Fail } else { Status::Warn };
    let mend = "set maxmemory-policy noeviction: an evicted hold is a seat sold twice over";
    report.expect("redis.maxmemory_policy", policy == "noeviction", found, status, mend);
    let found = format!(
        "rdb {}, aof {}",
        get("rdb_last_bgsave_status"),
        if get("aof_enabled") == "1" { "on" } else { "off" }
    );
    let saved = get("rdb_last_bgsave_status") == "ok";
    let mend = "a failed save stops writes by default: look at Redis's disk and log";
    report.expect("redis.persistence", saved, found, Status::Warn, mend);
    let role = get("role");
    let mend = "name the primary in REDIS_URL";
    report.expect("redis.role", role == "master", role, Status::Fail, mend);
    let lua: RedisResult<i64> =
        cmd("EVAL").arg("return 1 + 1").arg(0).query_async(&mut connection).await;
    let found = lua.as_ref().map_or_else(ToString::to_string, |_| "may run scripts".to_owned());
    let mend = "allow the commands @scripting, @read, @write and @pubsub to this user (ACL)";
    report.expect("redis.scripts", lua.is_ok(), found, Status::Fail, mend);
}

fn parse(info: &str) -> HashMap<&str, &str> {
    info.lines().filter_map(|line| line.trim_end().split_once(':')).collect()
}
