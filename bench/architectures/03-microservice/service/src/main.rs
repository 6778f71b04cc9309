//! `GET /count?seed=1&size=20000000&parts=8` answers with the count. The requests are tokio's, the counting is rayon's: a handler
//! that counted itself would hold up all others on its thread.

use std::net::Ipv4Addr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::get;
use counting::{Cancellation, Task, ThreadPool};
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

#[derive(Deserialize)]
struct Request {
    seed: u32,
    size: u64,
    parts: u16,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    counting::end_with_parent();
    let pool = Arc::new(counting::pool(None)?);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!(r#"{{"event":"started","port":{}}}"#, listener.local_addr()?.port());
    axum::serve(listener, Router::new().route("/count", get(count)).with_state(pool)).await?;
    Ok(())
}

async fn count(
    State(pool): State<Arc<ThreadPool>>,
    Query(Request { seed, size, parts }): Query<Request>,
) -> Result<String, StatusCode> {
    if parts == 0 {
        return Err(StatusCode::BAD_REQUEST);
    }
    let guard = CancelOnDrop(Cancellation::default());
    let (sender, receiver) = oneshot::channel();
    counting::count_on(&pool, Task { seed, size, parts: parts.into() }, &guard.0, |count| {
        // The client may be gone.
        let _ = sender.send(count);
    });
    let count = receiver.await.ok().flatten().ok_or(StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(count.to_string())
}

/// axum drops a handler whose connection is closed, and with it this.
struct CancelOnDrop(Cancellation);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}
