//! The binding of a replay.

use std::sync::Arc;

use napi::Env;
use napi::bindgen_prelude::{Buffer, FnArgs, Function, Object};
use napi_derive::napi;
use serde::Deserialize;

use crate::config::{Config, ReplaySource};
use crate::core::error::Error;
use crate::napi::credentials::NativeCredentials;
use crate::napi::transform::{self, NativeTransformCall};
use crate::napi::{end_with_environment, listener, promise, promise_after, text, throw};
use crate::replay::StoredDeadLetter;
use crate::replay::{Replay, Supplied};

#[napi]
pub struct NativeReplay {
    replay: Arc<Replay>,
    /// Under which threads of modules find it.
    id: u32,
}

/// A dead letter from JavaScript. Payloads, and topics that are not UTF-8, are places in the list of
/// bytes beside it.
#[derive(Deserialize)]
#[serde(rename_all_fields = "camelCase", untagged)]
enum DeadLetterInput {
    Malformed {
        malformed: String,
    },
    DeadLetter {
        /// Milliseconds since 1970.
        received_at: i64,
        route: Option<i64>,
        topic: String,
        topic_bytes: Option<usize>,
        payload: usize,
        code: String,
        message: String,
    },
}

#[napi]
impl NativeReplay {
    /// Without a `source`, JavaScript supplies the dead letters. Throws an error whose message is JSON:
    /// `{ code, message, path }`.
    #[napi(constructor)]
    pub fn new(
        env: &Env,
        config: String,
        credentials: &NativeCredentials,
        source: Option<String>,
        on_event: Function<'_, FnArgs<(String, String, Vec<Buffer>)>, ()>,
    ) -> napi::Result<NativeReplay> {
        let config = Config::parse(&config).map_err(|error| throw(&error))?;
        credentials.serve(&config);
        let source = match source {
            Some(source) => ReplaySource::parse(&source).map_err(|error| throw(&error))?,
            None => ReplaySource::Supplied,
        };
        let replay = Arc::new(Replay::new(config, source, listener(&on_event)?));
        end_with_environment(env, &replay, Replay::abort)?;
        let id = transform::add_modules(replay.config(), replay.hosts());
        Ok(NativeReplay { replay, id })
    }

    /// The number that a `NativeTransformWorker` names.
    #[napi(getter)]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Has a function called with each batch of a route.
    #[napi]
    pub fn on_transform(
        &self,
        route: u32,
        callback: Function<'_, FnArgs<(NativeTransformCall,)>, ()>,
    ) -> napi::Result<()> {
        transform::set_function(self.replay.hosts(), route, &callback)
    }

    /// Resolves to the report when all dead letters are settled.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn run<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        let replay = self.replay.clone();
        let emit = replay.emitter();
        promise_after(env, emit, move || replay.run())
    }

    /// Resolves when they are taken: to `false` if no more are wanted.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn supply<'env>(
        &self,
        env: &'env Env,
        dead_letters: String,
        bytes: Vec<Buffer>,
    ) -> napi::Result<Object<'env>> {
        let replay = self.replay.clone();
        // Copied on this thread: the memory is JavaScript's.
        let supplied = supplied(&dead_letters, &bytes);
        promise(env, move || Ok(replay.supply(supplied?)))
    }

    /// JavaScript supplies no more dead letters.
    #[napi]
    pub fn end(&self) {
        self.replay.end();
    }

    #[napi]
    pub fn cancel(&self) {
        self.replay.cancel();
    }

    #[napi]
    pub fn report(&self) -> String {
        text(&self.replay.report())
    }
}

fn supplied(dead_letters: &str, bytes: &[Buffer]) -> Result<Vec<Supplied>, Error> {
    let dead_letters: Vec<DeadLetterInput> = serde_json::from_str(dead_letters)
        .map_err(|error| Error::Internal { thread: "call".into(), message: error.to_string() })?;
    let at = |place: usize| bytes.get(place).map(|bytes| bytes.to_vec()).unwrap_or_default();
    let kept = dead_letters.into_iter().map(|dead_letter| match dead_letter {
        DeadLetterInput::Malformed { malformed } => Err(malformed),
        DeadLetterInput::DeadLetter { received_at, route, topic, topic_bytes, payload, code, message } => {
            Ok(StoredDeadLetter {
                received_at: StoredDeadLetter::time(received_at),
                route: route.and_then(|route| usize::try_from(route).ok()),
                topic: topic_bytes.map_or_else(|| topic.into_bytes(), at),
                payload: at(payload),
                lost: StoredDeadLetter::lost(&code, &message),
            })
        }
    });
    Ok(kept.collect())
}
