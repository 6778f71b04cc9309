//! The binding of a message's way without servers, for `millrace/testing`.

use std::time::{Duration, UNIX_EPOCH};

use napi::Env;
use napi::bindgen_prelude::{Buffer, FnArgs, Function, Object};
use napi_derive::napi;
use serde::Deserialize;

use crate::clickhouse::create_table::created_tables;
use crate::config::Config;
use crate::core::error::Error;
use crate::dry_run::{DryRun, Message};
use crate::napi::transform::{self, NativeTransformCall};
use crate::napi::{answer, promise, throw};

#[napi]
pub struct NativeDryRun {
    run: std::sync::Arc<DryRun>,
    /// Under which threads of modules find it.
    id: u32,
}

/// A message without its bytes.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    topic: String,
    qos: u8,
    retain: bool,
    user_properties: Vec<(String, String)>,
    /// Milliseconds since 1970.
    received_at: f64,
    client_id: String,
}

#[napi]
impl NativeDryRun {
    /// `schema` has texts with CREATE TABLE statements. Throws an error whose message is JSON: `{ code, message, path }`.
    #[napi(constructor)]
    pub fn new(config: String, schema: Vec<String>, zone: String) -> napi::Result<NativeDryRun> {
        let config = Config::parse(&config).map_err(|error| throw(&error))?;
        let run = DryRun::new(config, &schema, &zone).map_err(|error| throw(&error))?;
        let id = transform::add_modules(run.config(), run.hosts());
        Ok(NativeDryRun { run: std::sync::Arc::new(run), id })
    }

    /// The number that a `NativeTransformWorker` names.
    #[napi(getter)]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Has a function called with the rows of a route.
    #[napi]
    pub fn on_transform(
        &self,
        route: u32,
        callback: Function<'_, FnArgs<(NativeTransformCall,)>, ()>,
    ) -> napi::Result<()> {
        transform::set_function(self.run.hosts(), route, &callback)
    }

    /// The tables of CREATE TABLE statements: an answer with name, database and columns of each. `path` names the texts in errors.
    #[napi]
    pub fn tables(path: String, schema: Vec<String>) -> String {
        answer(created_tables(&path, &schema))
    }

    /// Resolves to what becomes of a message. To be called once.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn run<'env>(&self, env: &'env Env, head: String, payload: Buffer) -> napi::Result<Object<'env>> {
        let run = self.run.clone();
        // Copied on this thread: the memory is JavaScript's.
        let payload = payload.to_vec();
        promise(env, move || {
            let head: Head = serde_json::from_str(&head)
                .map_err(|error| Error::Internal { thread: "call".into(), message: error.to_string() })?;
            run.run(&Message {
                topic: head.topic.into_bytes(),
                payload,
                qos: head.qos,
                retain: head.retain,
                user_properties: head.user_properties,
                received_at: UNIX_EPOCH + Duration::from_millis(head.received_at as u64),
                client_id: head.client_id,
            })
        })
    }
}
