//! The job of the benchmark as a stand-alone service in Rust, as one writes it the first time: rumqttc's event loop, serde
//! into a typed row, the clickhouse crate's inserter. It does not know millrace.
//!
//! `receive` takes messages from the broker and passes rows through a channel to `insert`, which ends an INSERT when it
//! has enough rows or is old enough. Settings come from the environment, as for the other services.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program")]

mod metrics;

use anyhow::{Context, Result};
use clickhouse::inserter::Inserter;
use clickhouse::{Client, Row};
use metrics::Metrics;
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, QoS};
use serde::{Deserialize, Serialize};
use std::env;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::signal::ctrl_c;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::timeout;
use url::Url;

const TOPIC: &str = "drivers/+/position";

/// Rows between the two halves; when it is full, the event loop waits.
const QUEUE: usize = 10_000;

#[derive(Row, Serialize, Deserialize)]
struct Position {
    driver_id: String,
    lat: f64,
    lng: f64,
    speed: f32,
    heading: u16,
    /// Milliseconds since 1970, as `DateTime64(3)` has it.
    ts: i64,
    seq: u64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let metrics = Arc::new(Metrics::new(&setting("FLUSH_BUCKETS", "0.001,0.01,0.1,1,10"))?);
    let port = metrics::serve(metrics.clone(), setting("METRICS_PORT", "0").parse()?).await?;

    let qos = if setting("MQTT_QOS", "0") == "0" { QoS::AtMostOnce } else { QoS::AtLeastOnce };
    let broker = Url::parse(&setting("MQTT_URL", "mqtt://localhost:1883"))?;
    let host = broker.host_str().context("MQTT_URL has no host")?;
    let mut options = MqttOptions::new("fleet-1", host, broker.port().unwrap_or(1883));
    options.set_clean_session(true);
    let (mqtt, events) = AsyncClient::new(options, 100);

    let clickhouse = Client::default()
        .with_url(setting("CLICKHOUSE_URL", "http://localhost:8123"))
        .with_user(setting("CLICKHOUSE_USER", "default"))
        .with_password(setting("CLICKHOUSE_PASSWORD", ""))
        .with_database(setting("CLICKHOUSE_DATABASE", "default"));
    let inserter = clickhouse
        .inserter("positions")
        .with_max_rows(setting("BATCH_ROWS", "5000").parse()?)
        .with_period(Some(Duration::from_secs(1)));

    let (sender, rows) = mpsc::channel(QUEUE);
    let inserting = tokio::spawn(insert(rows, inserter, metrics.clone()));
    tokio::select! {
        received = receive(mqtt, qos, events, sender, &metrics, port) => received?,
        asked = asked_to_end() => asked?,
    }
    // The channel's sender is gone: what it holds still gets in.
    inserting.await?
}

/// Subscribes, on every connection anew, and passes on what can be read.
async fn receive(
    mqtt: AsyncClient,
    qos: QoS,
    mut events: EventLoop,
    rows: Sender<Position>,
    metrics: &Metrics,
    port: u16,
) -> Result<()> {
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => mqtt.subscribe(TOPIC, qos).await?,
            Ok(Event::Incoming(Packet::SubAck(_))) => {
                println!(r#"{{"event":"started","port":{port}}}"#);
            }
            Ok(Event::Incoming(Packet::Publish(publish))) => {
                metrics.received.inc();
                match serde_json::from_slice(&publish.payload) {
                    Ok(position) => rows.send(position).await?,
                    Err(error) => {
                        metrics.refused.inc();
                        eprintln!("{}: {error}", publish.topic);
                    }
                }
            }
            Ok(_) => {}
            Err(error) => {
                eprintln!("MQTT: {error}");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn insert(
    mut rows: Receiver<Position>,
    mut inserter: Inserter<Position>,
    metrics: Arc<Metrics>,
) -> Result<()> {
    loop {
        let row = match rows.try_recv() {
            Ok(row) => row,
            Err(TryRecvError::Disconnected) => break,
            Err(TryRecvError::Empty) => {
                let left = inserter.time_left().unwrap_or(Duration::ZERO);
                match timeout(left, rows.recv()).await {
                    Ok(Some(row)) => row,
                    Ok(None) => break,
                    Err(_) => {
                        commit(&mut inserter, &metrics).await?;
                        continue;
                    }
                }
            }
        };
        inserter.write(&row).await?;
        commit(&mut inserter, &metrics).await?;
    }
    let inserted = inserter.end().await?;
    metrics.inserted.inc_by(inserted.rows);
    Ok(())
}

/// Ends the INSERT if that is due. Its rows have left while they were written: what is measured is the wait for
/// ClickHouse's answer.
async fn commit(inserter: &mut Inserter<Position>, metrics: &Metrics) -> Result<()> {
    let begun = Instant::now();
    let inserted = inserter.commit().await?;
    if inserted.rows > 0 {
        metrics.flush.observe(begun.elapsed().as_secs_f64());
        metrics.inserted.inc_by(inserted.rows);
    }
    Ok(())
}

async fn asked_to_end() -> Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            _ = terminate.recv() => Ok(()),
            interrupted = ctrl_c() => Ok(interrupted?),
        }
    }
    #[cfg(not(unix))]
    Ok(ctrl_c().await?)
}

fn setting(name: &str, default: &str) -> String {
    env::var(name).unwrap_or_else(|_| default.into())
}
