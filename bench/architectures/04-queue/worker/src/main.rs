//! Takes jobs out of a queue of BullMQ, counts, and gives the count back as their return value.
//!
//! Some threads (slots) have one job each and a connection of their own, so that one talks to Redis while the jobs of others are
//! counted. Another thread renews the locks of all their jobs, and returns jobs to the queue whose worker was killed.
//!
//! From the environment: `REDIS_URL`, `QUEUE`, `BULLMQ_COMMANDS` (the folder of BullMQ's scripts), `LOCK_MS` (how long a job
//! belongs to a worker that does not renew its lock, 30,000 by default, as in BullMQ).

mod bullmq;

use std::collections::HashMap;
use std::env;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use bullmq::{Job, Outcome, Queue};
use counting::{Cancellation, Task, ThreadPool};
use serde::Deserialize;

/// After an error of Redis, before the next attempt.
const PAUSE: Duration = Duration::from_millis(200);

#[derive(Deserialize)]
struct Data {
    seed: u32,
    size: u64,
    parts: u16,
}

/// The jobs that are being counted, and the tokens of their locks.
#[derive(Clone, Default)]
struct Held(Arc<Mutex<HashMap<String, String>>>);

impl Held {
    fn jobs(&self) -> MutexGuard<'_, HashMap<String, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn main() -> Result<()> {
    counting::end_with_parent();
    let lock = Duration::from_millis(
        env::var("LOCK_MS").map_or(Ok(30_000), |text| text.parse()).context("LOCK_MS")?,
    );
    let variable = |name: &'static str| env::var(name).context(name);
    let queue = Queue::new(
        &variable("REDIS_URL")?,
        &variable("QUEUE")?,
        variable("BULLMQ_COMMANDS")?.as_ref(),
        lock,
    )?;
    let pool = Arc::new(counting::pool(None)?);
    let held = Held::default();
    let mut connection = queue.connect().context("Redis")?;
    let slots = 2 * pool.current_num_threads();
    for slot in 0..slots {
        let (queue, pool, held) = (queue.clone(), pool.clone(), held.clone());
        thread::spawn(move || {
            loop {
                if let Err(error) = work(&queue, &pool, &held, slot) {
                    eprintln!("slot {slot}: {error:#}");
                    thread::sleep(PAUSE);
                }
            }
        });
    }
    println!(r#"{{"event":"started","slots":{slots}}}"#);

    loop {
        if let Err(error) = look_after(&queue, &mut connection, &held) {
            eprintln!("locks: {error:#}");
            if let Ok(fresh) = queue.connect() {
                connection = fresh;
            }
        }
        // Half of a lock's life, so that one renewal may fail.
        thread::sleep(lock / 2);
    }
}

fn look_after(queue: &Queue, connection: &mut redis::Connection, held: &Held) -> Result<()> {
    let jobs = held.jobs().clone();
    for (id, token) in &jobs {
        queue.extend_lock(connection, id, token)?;
    }
    queue.return_stalled(connection)
}

/// Takes one job after the other; it ends only with an error.
fn work(queue: &Queue, pool: &ThreadPool, held: &Held, slot: usize) -> Result<()> {
    let mut connection = queue.connect()?;
    // A token that no other slot and no earlier process has: a lock names by it whose job it is.
    let token = format!("{}-{}-{slot}", std::process::id(), bullmq::now());
    let mut next = None;
    loop {
        let job = match next.take() {
            Some(job) => job,
            None => match queue.take(&mut connection, &token)? {
                Some(job) => job,
                None => {
                    queue.wait(&mut connection)?;
                    continue;
                }
            },
        };
        held.jobs().insert(job.id.clone(), token.clone());
        let outcome = outcome(pool, &job);
        let finished = queue.finish(&mut connection, &job.id, &token, &outcome);
        held.jobs().remove(&job.id);
        next = finished?;
    }
}

fn outcome(pool: &ThreadPool, job: &Job) -> Outcome {
    if let Some(reason) = &job.failed_before {
        return Outcome::Failed(reason.clone());
    }
    let task = match serde_json::from_str::<Data>(&job.data) {
        Ok(Data { seed, size, parts }) if parts > 0 => Task { seed, size, parts: parts.into() },
        Ok(_) => return Outcome::Failed("parts must be at least 1".into()),
        Err(error) => return Outcome::Failed(error.to_string()),
    };
    let (sender, receiver) = mpsc::channel();
    counting::count_on(pool, task, &Cancellation::default(), move |count| {
        let _ = sender.send(count);
    });
    match receiver.recv().ok().flatten() {
        Some(count) => Outcome::Completed(count.to_string()),
        None => Outcome::Failed("the count did not end".into()),
    }
}
