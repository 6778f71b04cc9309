//! Options of a check beside the configuration.

use std::time::Duration;

use crate::config::object_reader::ObjectReader;
use crate::config::schema::CHECK;
use crate::core::error::{Error, Result};

#[derive(Debug, Default, Clone)]
pub struct CheckOptions {
    /// As whom the broker is visited; `None`: a random name.
    pub client_id: Option<String>,
    pub sample: Option<SampleLimits>,
}

/// A sample ends with the first of the two.
#[derive(Debug, Clone)]
pub struct SampleLimits {
    pub messages: usize,
    pub within: Duration,
    /// How many payloads of each route the report keeps.
    pub payloads: usize,
}

impl CheckOptions {
    /// Reads the JSON text from JavaScript. Every error is `CONFIG_INVALID` with the option's path.
    pub fn parse(text: &str) -> Result<CheckOptions> {
        let value: serde_json::Value = serde_json::from_str(text)
            .map_err(|error| Error::config("options", format!("is not valid JSON: {error}")))?;
        let o = ObjectReader::at("options", &value, &CHECK)?;
        let messages = o.integer_or_default("sample")? as usize;
        let within = o.duration_or_default("sampleTimeoutMs")?;
        let payloads = o.integer_or_default("payloads")? as usize;
        let client_id = o.text("clientId")?;
        o.finish()?;
        Ok(CheckOptions {
            client_id,
            sample: (messages > 0).then_some(SampleLimits { messages, within, payloads }),
        })
    }
}
