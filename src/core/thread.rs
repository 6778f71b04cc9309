//! Threads with a runtime of their own each, and what becomes of a panic in one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use crate::core::error::{Error, Result};
use crate::ingest::context::Shared;
use crate::telemetry::events::Event;

/// Starts a thread with a runtime of its own. A panic in it is told, and ends everything without acknowledging anything
/// more.
pub fn spawn<F: Future<Output = ()>>(
    shared: &Arc<Shared>,
    name: &'static str,
    work: impl FnOnce() -> F + Send + 'static,
) -> Result<JoinHandle<()>> {
    let shared = shared.clone();
    thread(name, move || {
        let run = AssertUnwindSafe(|| runtime().map(|runtime| run_on(runtime, work())));
        let error = match catch_unwind(run) {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error,
            Err(panic) => Error::Internal { thread: name.into(), message: panic_message(panic.as_ref()) },
        };
        shared.cancel();
        shared.emit(Event::Error(error));
    })
}

pub fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    // Linux shows 15 bytes of it.
    std::thread::Builder::new()
        .name(format!("mill-{name}"))
        .spawn(work)
        .map_err(|error| Error::Internal { thread: name.into(), message: error.to_string() })
}

pub fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::Internal { thread: "runtime".into(), message: error.to_string() })
}

/// Runs `work` to its end, and nothing beyond: a name that is still being looked up must not hold up a stop.
pub fn run_on<T>(runtime: tokio::runtime::Runtime, work: impl Future<Output = T>) -> T {
    let result = runtime.block_on(work);
    runtime.shutdown_background();
    result
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| s.to_string());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".into())
}
