//! A worker's side of BullMQ's protocol in Redis.
//!
//! BullMQ keeps a queue in lists, sets and hashes, and changes them with Lua scripts alone; that is its contract between
//! programs of different languages. The scripts are read from the npm package that the gateway uses, so both sides have the same
//! version, and nothing of them is written twice. Each file is named by the number of its keys, which is checked at the start.
//!
//! Constraints that keep a job from getting lost:
//!
//! - `moveToActive` moves an id from `wait` to `active` and sets a lock with a token, which expires after `lock`.
//! - `moveToFinished` takes a job out of `active` only for the token of its lock, and gives the next job in the same step.
//! - `moveStalledJobsToWait` notes what is active; what it noted the time before and has no lock any more goes back to `wait`.
//!   A killed worker's jobs are counted again after twice `lock` at the latest: at least once, never zero times.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use redis::{Client, Connection, FromRedisValue, Script, Value};
use serde::Serialize;

/// How long Redis is asked to wait for a job, in seconds.
const WAIT_SECONDS: u64 = 5;
/// A job that was active in more killed workers than this fails: it may be the reason of their end.
const MAX_STALLED: u32 = 10;
/// How long finished jobs are kept, in seconds.
const KEPT_SECONDS: u32 = 3600;

#[derive(Clone)]
pub struct Queue {
    client: Client,
    prefix: String,
    lock: Duration,
    scripts: Arc<Scripts>,
}

struct Scripts {
    take: Script,
    finish: Script,
    extend: Script,
    stalled: Script,
}

pub struct Job {
    pub id: String,
    /// JSON.
    pub data: String,
    /// Why it must fail without being tried: it stalled too often.
    pub failed_before: Option<String>,
}

pub enum Outcome {
    /// The return value, in JSON.
    Completed(String),
    Failed(String),
}

#[derive(Serialize)]
struct TakeOptions<'a> {
    token: &'a str,
    #[serde(rename = "lockDuration")]
    lock_duration: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FinishOptions<'a> {
    token: &'a str,
    lock_duration: u64,
    keep_jobs: KeepJobs,
    attempts: u32,
    /// Empty: no metrics.
    max_metrics_size: &'a str,
}

#[derive(Serialize)]
struct KeepJobs {
    age: u32,
}

impl Queue {
    /// `commands` is the folder with BullMQ's scripts.
    pub fn new(url: &str, name: &str, commands: &Path, lock: Duration) -> Result<Self> {
        let scripts = Scripts {
            take: script(commands, "moveToActive", 11)?,
            finish: script(commands, "moveToFinished", 14)?,
            extend: script(commands, "extendLock", 2)?,
            stalled: script(commands, "moveStalledJobsToWait", 9)?,
        };
        Ok(Self {
            client: Client::open(url)?,
            prefix: format!("bull:{name}:"),
            lock,
            scripts: Arc::new(scripts),
        })
    }

    pub fn connect(&self) -> Result<Connection> {
        Ok(self.client.get_connection()?)
    }

    /// The next job, if there is one now.
    pub fn take(&self, connection: &mut Connection, token: &str) -> Result<Option<Job>> {
        let options = rmp_serde::to_vec_named(&TakeOptions { token, lock_duration: self.lock_ms() })?;
        let mut call = self.scripts.take.prepare_invoke();
        for key in self.first_keys() {
            call.key(key);
        }
        call.key(self.key("marker"));
        let answer = call.arg(&self.prefix).arg(now()).arg(options).invoke(connection)?;
        job(answer)
    }

    /// Returns when there may be a job, and after some seconds.
    pub fn wait(&self, connection: &mut Connection) -> Result<()> {
        let _: Value = redis::cmd("BZPOPMIN").arg(self.key("marker")).arg(WAIT_SECONDS).query(connection)?;
        Ok(())
    }

    /// Gives the job back and takes the next one, if there is one now.
    pub fn finish(
        &self,
        connection: &mut Connection,
        id: &str,
        token: &str,
        outcome: &Outcome,
    ) -> Result<Option<Job>> {
        let (target, property, value) = match outcome {
            Outcome::Completed(value) => ("completed", "returnvalue", value),
            Outcome::Failed(reason) => ("failed", "failedReason", reason),
        };
        let options = rmp_serde::to_vec_named(&FinishOptions {
            token,
            lock_duration: self.lock_ms(),
            keep_jobs: KeepJobs { age: KEPT_SECONDS },
            attempts: 1,
            max_metrics_size: "",
        })?;
        let mut call = self.scripts.finish.prepare_invoke();
        for key in self.first_keys() {
            call.key(key);
        }
        for key in [target, id, &format!("metrics:{target}"), "marker"] {
            call.key(self.key(key));
        }
        call.arg(id).arg(now()).arg(property).arg(value).arg(target).arg(1).arg(&self.prefix);
        match call.arg(options).arg("").invoke(connection)? {
            Value::Int(0) => Ok(None),
            // The lock expired, and the job is or was another worker's.
            Value::Int(code @ (-2 | -6)) => {
                eprintln!("job {id} was not this worker's any more ({code})");
                Ok(None)
            }
            Value::Int(code) => bail!("job {id} could not be finished: {code}"),
            next => job(next),
        }
    }

    pub fn extend_lock(&self, connection: &mut Connection, id: &str, token: &str) -> Result<()> {
        let mut call = self.scripts.extend.prepare_invoke();
        call.key(self.key(&format!("{id}:lock"))).key(self.key("stalled"));
        // 0 when the job was finished meanwhile: nothing to extend.
        let _: i64 = call.arg(token).arg(self.lock_ms()).arg(id).invoke(connection)?;
        Ok(())
    }

    /// Puts jobs back that no worker has any more.
    pub fn return_stalled(&self, connection: &mut Connection) -> Result<()> {
        let mut call = self.scripts.stalled.prepare_invoke();
        for key in
            ["stalled", "wait", "active", "stalled-check", "meta", "paused", "marker", "events", "repeat"]
        {
            call.key(self.key(key));
        }
        // The script runs once in the life of a lock, however many workers call it.
        let interval = self.lock_ms();
        let _: Vec<String> =
            call.arg(MAX_STALLED).arg(&self.prefix).arg(now()).arg(interval).invoke(connection)?;
        Ok(())
    }

    /// The keys with which the scripts that move a job begin.
    fn first_keys(&self) -> [String; 10] {
        ["wait", "active", "prioritized", "events", "stalled", "limiter", "delayed", "paused", "meta", "pc"]
            .map(|key| self.key(key))
    }

    fn key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    fn lock_ms(&self) -> u64 {
        self.lock.as_millis() as u64
    }
}

/// Reads the answer of a script: the fields of the job's hash and its id, or zeros.
fn job(answer: Value) -> Result<Option<Job>> {
    let Value::Array(mut parts) = answer else { return Ok(None) };
    if parts.len() < 2 || matches!(parts[0], Value::Int(_)) {
        return Ok(None);
    }
    let id = String::from_redis_value(parts.swap_remove(1))?;
    let mut fields = HashMap::<String, String>::from_redis_value(parts.swap_remove(0))?;
    let data = fields.remove("data").unwrap_or_default();
    Ok(Some(Job { id, data, failed_before: fields.remove("defa") }))
}

/// Milliseconds since 1970, as BullMQ has times.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

fn script(commands: &Path, name: &str, keys: usize) -> Result<Script> {
    let file = commands.join(format!("{name}-{keys}.lua"));
    let mut code = String::new();
    include(&file, &mut Vec::new(), &mut code).context("this version of BullMQ has other scripts")?;
    Ok(Script::new(&code))
}

/// Appends a script with the files it includes, each of them once: lines `--- @include "path"`, without the extension and
/// relative to the file that has them.
fn include(file: &Path, done: &mut Vec<std::path::PathBuf>, code: &mut String) -> Result<()> {
    let file = file.canonicalize().with_context(|| file.display().to_string())?;
    if done.contains(&file) {
        return Ok(());
    }
    done.push(file.clone());
    let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    for line in text.lines() {
        match line.trim().strip_prefix("--- @include \"").and_then(|rest| rest.strip_suffix('"')) {
            Some(path) => include(&file.with_file_name(format!("{path}.lua")), done, code)?,
            None => {
                code.push_str(line);
                code.push('\n');
            }
        }
    }
    Ok(())
}
