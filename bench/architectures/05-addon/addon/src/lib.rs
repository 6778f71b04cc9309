//! The count as a promise, in the process of Node.js or Bun: `pool.count(seed, size, parts, cancellation)`.
//!
//! The threads of the pool count; the thread of JavaScript only puts requests into the queue and settles promises. The queue is
//! bounded: beyond its capacity `count` throws with the code `QueueFull`, at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use counting::{Task, ThreadPool};
use napi::bindgen_prelude::{Env, Error, Object, Result, Status};
use napi_derive::napi;

/// Ends a count whose client has gone.
#[napi]
#[derive(Default)]
pub struct Cancellation(counting::Cancellation);

#[napi]
impl Cancellation {
    #[napi(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    #[napi]
    pub fn cancel(&self) {
        self.0.cancel();
    }
}

#[napi]
pub struct Pool {
    threads: ThreadPool,
    capacity: u32,
    /// Requests that wait or are being counted.
    present: Arc<AtomicU32>,
}

#[napi]
impl Pool {
    /// A thread for each core, and room for `capacity` requests, those that are being counted among them.
    #[napi(constructor)]
    pub fn new(capacity: u32) -> Result<Self> {
        let threads = counting::pool(None).map_err(|error| Error::from_reason(error.to_string()))?;
        Ok(Self { threads, capacity, present: Arc::default() })
    }

    /// Resolves with the count, and with null when it was cancelled. Throws when the queue is full.
    #[napi(ts_return_type = "Promise<number | null>")]
    pub fn count<'env>(
        &self,
        env: &'env Env,
        seed: u32,
        size: i64,
        parts: u32,
        cancellation: &Cancellation,
    ) -> Result<Object<'env>> {
        let size = u64::try_from(size).map_err(|_| invalid("size must not be negative"))?;
        if parts == 0 {
            return Err(invalid("parts must be at least 1"));
        }
        // Only the thread of JavaScript adds, so nothing comes between the two.
        if self.present.load(Ordering::Relaxed) >= self.capacity {
            return Err(Error::new(Status::QueueFull, format!("{} requests are waiting", self.capacity)));
        }
        self.present.fetch_add(1, Ordering::Relaxed);
        let (deferred, promise) = env.create_deferred()?;
        let present = self.present.clone();
        let task = Task { seed, size, parts: parts.into() };
        counting::count_on(&self.threads, task, &cancellation.0, move |count| {
            present.fetch_sub(1, Ordering::Relaxed);
            // Up to 2^53 exact: more than anybody counts to.
            deferred.resolve(move |_| Ok(count.map(|count| count as f64)));
        });
        Ok(promise)
    }
}

fn invalid(message: &str) -> Error {
    Error::new(Status::InvalidArg, message)
}
