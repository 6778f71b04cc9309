//! The `clickhouse` section: where rows go.

use std::time::Duration;

use http::HeaderValue;
use serde_json::Value;

use crate::config::backoff;
use crate::config::credential::credential;
use crate::config::object_reader::ObjectReader;
use crate::config::shards::{self, Shards};
use crate::config::tls;
use crate::core::backoff::Limits as Backoff;
use crate::core::credential::Credential;
use crate::core::error::{Error, Result};
use crate::core::secret::masked_url;
use crate::core::tls::Tls;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    Lz4,
    Zstd,
    None,
}

#[derive(Debug, Clone)]
pub struct ClickHouse {
    pub urls: Vec<String>,
    /// Each URL is a shard. `None`: all of them have all rows.
    pub shards: Option<Shards>,
    pub database: String,
    pub username: String,
    pub password: Option<Credential>,
    pub compression: Compression,
    pub settings: Vec<(String, String)>,
    pub max_in_flight: usize,
    pub connect_timeout: Duration,
    pub request_timeout: Duration,
    pub retry: Backoff,
    /// A batch of this age ends with its next failure. `None`: never.
    pub retry_max_age: Option<Duration>,
    pub tls: Tls,
}

impl ClickHouse {
    /// Has the password ready, so that the time that a function takes for it is not counted as a server's.
    pub async fn ask_password(&self) -> Result<()> {
        match &self.password {
            Some(password) => password.current().await.map(|_| ()),
            None => Ok(()),
        }
    }

    /// All servers, for a text.
    pub fn places(&self) -> String {
        self.urls.iter().map(|url| masked_url(url)).collect::<Vec<_>>().join(", ")
    }
}

pub fn clickhouse(o: ObjectReader<'_>) -> Result<ClickHouse> {
    let urls =
        o.texts("url")?.into_iter().map(|(path, url)| check_url(&path, url)).collect::<Result<Vec<_>>>()?;
    let is_encrypted = urls.iter().any(|url| url.starts_with("https://"));
    let retry = o.section("retry")?;
    let retry_max_age = retry.as_ref().map(|retry| retry.integer("maxAgeMs")).transpose()?.flatten();
    let shards = o.section("shards")?.map(|section| shards::shards(section, urls.len())).transpose()?;
    let clickhouse = ClickHouse {
        urls,
        shards,
        database: o.text_or_default("database")?,
        username: header(&o, "username", o.text_or_default("username")?)?,
        password: password(&o)?,
        compression: match o.word_or_default("compression")? {
            "zstd" => Compression::Zstd,
            "none" => Compression::None,
            _ => Compression::Lz4,
        },
        settings: settings(&o)?,
        max_in_flight: o.integer_or_default("maxInFlight")? as usize,
        connect_timeout: o.duration_or_default("connectTimeoutMs")?,
        request_timeout: o.duration_or_default("requestTimeoutMs")?,
        retry: backoff::backoff(retry)?,
        retry_max_age: retry_max_age.map(Duration::from_millis),
        tls: tls::tls(o.section("tls")?, "clickhouse.tls", is_encrypted)?,
    };
    o.finish()?;
    Ok(clickhouse)
}

fn password(o: &ObjectReader<'_>) -> Result<Option<Credential>> {
    let password = credential(o, "password", "clickhouse.password")?;
    if let Some(text) = password.as_ref().and_then(Credential::as_text) {
        header(o, "password", text.expose().into())?;
    }
    Ok(password)
}

/// A value that goes into a header of HTTP.
fn header(o: &ObjectReader<'_>, name: &str, value: String) -> Result<String> {
    match HeaderValue::from_str(&value) {
        Ok(_) => Ok(value),
        Err(_) => Err(o.wrong(name, "must not hold line breaks or other control characters")),
    }
}

/// `at` is the option that has the URL.
fn check_url(at: &str, url: String) -> Result<String> {
    let wrong = |message: &str| Error::config(at, format!("{message}, not {:?}", masked_url(&url)));
    let rest = match url.split_once("://") {
        Some(("http" | "https", rest)) => rest,
        _ => return Err(wrong("must be like http://host:8123 or https://host:8443")),
    };
    if rest.contains('@') {
        return Err(wrong("must not hold a password: use username and password"));
    }
    let uri = url.parse::<http::Uri>().ok().filter(|_| !rest.contains(['?', '#']));
    let Some(uri) = uri else { return Err(wrong("must be like http://host:8123")) };
    if uri.host().is_none_or(str::is_empty) {
        return Err(wrong("must name a host"));
    }
    // The parser ignores a port that is not a number from 1 to 65535, but keeps its colon.
    let ends_in_port = uri.authority().is_some_and(|authority| authority.as_str().ends_with(']'));
    let has_colon = uri.authority().is_some_and(|authority| authority.as_str().contains(':'));
    if uri.port_u16() == Some(0) || (has_colon && !ends_in_port && uri.port_u16().is_none()) {
        return Err(wrong("must have a port from 1 to 65535"));
    }
    Ok(url)
}

fn settings(o: &ObjectReader<'_>) -> Result<Vec<(String, String)>> {
    let mut settings = Vec::new();
    for (path, name, value) in o.record("settings")? {
        let value = match value {
            Value::String(text) => text.clone(),
            Value::Bool(flag) => u8::from(*flag).to_string(),
            Value::Number(number) => number.to_string(),
            _ => return Err(Error::config(path, "must be a string, a number or a boolean")),
        };
        settings.push((name.into(), value));
    }
    Ok(settings)
}
