//! Threads and the runtimes that they run. `telemetry::context` starts those of a pipeline.

use std::thread::JoinHandle;

use crate::core::error::{Error, Result};

/// Starts a thread. Its name is shown as `mill-<name>`.
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

/// The text of a panic, where it has one.
pub fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| s.to_string());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".into())
}
