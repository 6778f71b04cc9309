//! HTTP clients for the ClickHouse servers of the configuration.

use std::time::Duration;

use clickhouse::{Client, Compression};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::Connect;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::config;
use crate::core::error::Result;

/// Below ClickHouse's `keep_alive_timeout` (3 s by default in older servers), so that no INSERT is written into a
/// connection that the server is about to close.
const IDLE: Duration = Duration::from_secs(2);

/// One client per URL, in their order. Fails where the files that `clickhouse.tls` names cannot be used.
pub fn clients(config: &config::ClickHouse) -> Result<Vec<Client>> {
    config
        .urls
        .iter()
        .map(|url| {
            let tcp = tcp(config.connect_timeout);
            let client = if url.starts_with("https://") {
                let tls = config.tls.client()?;
                Client::with_http_client(http(HttpsConnector::from((tcp, tls))))
            } else {
                Client::with_http_client(http(tcp))
            };
            let mut client = client
                .with_url(url)
                .with_user(&config.username)
                // What we send is compressed already, and the answers are short.
                .with_compression(Compression::None)
                .with_product_info("millrace", env!("CARGO_PKG_VERSION"));
            if let Some(password) = &config.password {
                client = client.with_password(password);
            }
            Ok(client)
        })
        .collect()
}

fn http<C, B>(connector: C) -> legacy::Client<C, B>
where
    C: Connect + Clone,
    B: http_body::Body + Send,
    B::Data: Send,
{
    legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .build(connector)
}

fn tcp(connect_timeout: Duration) -> HttpConnector {
    let mut connector = HttpConnector::new();
    // The connector of TLS stands before this one, with URLs that are https.
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(connect_timeout));
    connector.set_keepalive(Some(Duration::from_secs(60)));
    connector
}
