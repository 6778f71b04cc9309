//! The binding of a check.

use napi::Env;
use napi::bindgen_prelude::Object;
use napi_derive::napi;

use crate::check;
use crate::config::{CheckOptions, Config};
use crate::napi::{NativePipeline, promise, throw};

#[napi]
impl NativePipeline {
    /// Resolves to the report. Throws an error whose message is JSON: `{ code, message, path, cause }`.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn check<'env>(env: &'env Env, config: String, options: String) -> napi::Result<Object<'env>> {
        let config = Config::parse(&config).map_err(|error| throw(&error))?;
        let options = CheckOptions::parse(&options).map_err(|error| throw(&error))?;
        promise(env, move || check::check(&config, &options))
    }
}
