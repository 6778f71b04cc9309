//! HTTP clients for the ClickHouse servers of the configuration.

use std::time::Duration;

use clickhouse::{Client, Compression};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::config;

/// Below ClickHouse's `keep_alive_timeout` (3 s by default in older servers), so that no INSERT is written into a
/// connection that the server is about to close.
const IDLE: Duration = Duration::from_secs(2);

/// One client per URL, in their order.
pub fn clients(config: &config::ClickHouse) -> Vec<Client> {
    let compression = match config.compression {
        config::Compression::Lz4 => Compression::Lz4,
        config::Compression::Zstd => Compression::Zstd(ZSTD_LEVEL),
        config::Compression::None => Compression::None,
    };
    config
        .urls
        .iter()
        .map(|url| {
            let mut client = Client::with_http_client(http(config.connect_timeout))
                .with_url(url)
                .with_user(&config.username)
                .with_compression(compression)
                .with_product_info("millrace", env!("CARGO_PKG_VERSION"));
            if let Some(password) = &config.password {
                client = client.with_password(password);
            }
            client
        })
        .collect()
}

/// The library's own default: higher levels cost far more than they save on blocks of telemetry.
pub const ZSTD_LEVEL: i32 = 3;

fn http<B>(connect_timeout: Duration) -> legacy::Client<HttpConnector, B>
where
    B: http_body::Body + Send,
    B::Data: Send,
{
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(connect_timeout));
    connector.set_keepalive(Some(Duration::from_secs(60)));
    legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .build(connector)
}
