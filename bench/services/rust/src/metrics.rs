//! Counters of the service, and the endpoint where Prometheus reads them.

use anyhow::{Context, Result};
use axum::Router;
use axum::routing::get;
use prometheus::{Histogram, HistogramOpts, IntCounter, Registry, TextEncoder};
use std::net::Ipv4Addr;
use std::sync::Arc;
use tokio::net::TcpListener;

pub struct Metrics {
    registry: Registry,
    pub received: IntCounter,
    pub refused: IntCounter,
    pub inserted: IntCounter,
    /// In seconds.
    pub flush: Histogram,
}

impl Metrics {
    /// `buckets` are the upper limits of those of `flush`, in seconds, with commas between them.
    pub fn new(buckets: &str) -> Result<Self> {
        let buckets =
            buckets.split(',').map(str::parse).collect::<Result<_, _>>().context("FLUSH_BUCKETS")?;
        let flush = HistogramOpts::new("flush_seconds", "From a complete batch to its confirmation");
        let metrics = Self {
            registry: Registry::new(),
            received: IntCounter::new("messages_received_total", "Messages that came from the broker")?,
            refused: IntCounter::new("messages_refused_total", "Messages that are no positions")?,
            inserted: IntCounter::new("rows_inserted_total", "Rows that ClickHouse has confirmed")?,
            flush: Histogram::with_opts(flush.buckets(buckets))?,
        };
        metrics.registry.register(Box::new(metrics.received.clone()))?;
        metrics.registry.register(Box::new(metrics.refused.clone()))?;
        metrics.registry.register(Box::new(metrics.inserted.clone()))?;
        metrics.registry.register(Box::new(metrics.flush.clone()))?;
        #[cfg(target_os = "linux")]
        metrics.registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        Ok(metrics)
    }

    fn text(&self) -> Result<String, String> {
        TextEncoder::new().encode_to_string(&self.registry.gather()).map_err(|error| error.to_string())
    }
}

/// Serves `/metrics` on the loopback and returns the port.
pub async fn serve(metrics: Arc<Metrics>, port: u16) -> Result<u16> {
    let app = Router::new().route("/metrics", get(move || async move { metrics.text() }));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(port)
}
