//! What a check is asked for beside the configuration.

use std::time::Duration;

use crate::config::object_reader::Options;
use crate::core::error::{Error, Result};

#[derive(Debug, Default)]
pub struct CheckOptions {
    /// As whom the broker is visited; `None`: a random name.
    pub client_id: Option<String>,
    pub sample: Option<SampleLimits>,
}

/// A sample ends with the first of the two.
#[derive(Debug)]
pub struct SampleLimits {
    pub messages: usize,
    pub within: Duration,
}

impl CheckOptions {
    /// Reads the JSON text that the façade hands over. Every error is `CONFIG_INVALID` with the option's path.
    pub fn parse(text: &str) -> Result<CheckOptions> {
        let value: serde_json::Value = serde_json::from_str(text)
            .map_err(|error| Error::config("options", format!("is not valid JSON: {error}")))?;
        let mut o = Options::at("options", &value)?;
        let messages = o.integer("sample", 0, 1_000_000)?.unwrap_or(0) as usize;
        let within = o.integer("sampleTimeoutMs", 1, super::DAY_MS)?.unwrap_or(30_000);
        let client_id = o.string("clientId")?;
        if client_id.as_deref() == Some("") {
            return Err(o.wrong("clientId", "must not be empty: leave it out for a random one"));
        }
        o.finish()?;
        let within = Duration::from_millis(within);
        Ok(CheckOptions { client_id, sample: (messages > 0).then_some(SampleLimits { messages, within }) })
    }
}
