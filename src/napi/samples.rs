//! The binding of sample payloads, for `proposeTable`.

use napi::bindgen_prelude::Uint8ArraySlice;
use napi_derive::napi;

use crate::check::sample_rows::SampleRows;
use crate::config::Config;
use crate::core::error::Error;
use crate::napi::{answer, throw};

#[napi]
pub struct NativeSamples {
    rows: SampleRows,
}

#[napi]
impl NativeSamples {
    /// The first route of the configuration says how payloads are read. Throws an error whose message is JSON:
    /// `{ code, message, path }`.
    #[napi(constructor)]
    pub fn new(config: String) -> napi::Result<NativeSamples> {
        let config = Config::parse(&config).map_err(|error| throw(&error))?;
        Ok(NativeSamples {
            rows: SampleRows::new("routes[0]", &config.routes[0]).map_err(|error| throw(&error))?,
        })
    }

    /// The rows of a payload, a JSON text each. `path` names the payload in errors.
    #[napi]
    pub fn read(&self, path: String, topic: String, payload: Uint8ArraySlice<'_>) -> String {
        let rows = self.rows.read(&topic, &payload);
        answer(
            rows.map_err(|reason| {
                Error::config(path, format!("{} ({})", reason.message, reason.code.as_str()))
            }),
        )
    }
}
