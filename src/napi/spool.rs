//! The spool's inspection, for JavaScript.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use napi::Env;
use napi::bindgen_prelude::Object;
use napi_derive::napi;
use serde_json::{Value, json};

use crate::napi::{NativePipeline, promise};
use crate::spool::wal::storage::Directory;
use crate::spool::{Backlog, Inspection, inspect};

#[napi]
impl NativePipeline {
    /// Resolves to what lies in a spool.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn inspect_spool<'env>(env: &'env Env, dir: String) -> napi::Result<Object<'env>> {
        promise(env, move || {
            let directory = Directory::open_read_only(&PathBuf::from(dir));
            inspect(&directory).map(|inspection| describe(&inspection))
        })
    }
}

fn describe(inspection: &Inspection) -> Value {
    let Inspection { segments, bytes, streams, damages, quarantined, torn, breaks, missing, foreign } =
        inspection;
    let mut tables = BTreeMap::<&str, Vec<&Backlog>>::new();
    for stream in streams {
        tables.entry(&stream.stream.table).or_default().push(stream);
    }
    let all: Vec<&Backlog> = streams.iter().collect();
    let mut content = sum(&all);
    content["segments"] = json!(segments);
    content["bytes"] = json!(bytes);
    content["tables"] = tables.iter().map(|(name, streams)| (name.to_string(), sum(streams))).collect();
    let damaged = damages.iter().map(|damage| {
        json!({
            "segment": damage.segment, "at": damage.at, "bytes": damage.len, "record": damage.sequence,
            "file": damage.file,
        })
    });
    content["damaged"] = damaged.collect();
    content["setAside"] = json!(quarantined);
    let torn = torn.iter().map(|torn| json!({ "segment": torn.segment, "at": torn.at, "bytes": torn.len }));
    content["torn"] = torn.collect();
    let gone = breaks.iter().map(|gone| json!({ "segment": gone.segment, "at": gone.at, "bytes": gone.len }));
    content["missing"] = gone.collect();
    content["missingMessages"] = json!(match missing {
        Some(missing) => Some(missing.messages),
        None if breaks.is_empty() && damages.is_empty() => Some(0),
        None => None,
    });
    content["foreign"] = json!(foreign);
    content
}

/// The sum of the unsettled messages.
fn sum(streams: &[&Backlog]) -> Value {
    let oldest = streams.iter().map(|stream| stream.oldest).min();
    json!({
        "records": streams.iter().map(|stream| stream.records).sum::<u64>(),
        "messages": streams.iter().map(|stream| stream.messages).sum::<u64>(),
        "rows": streams.iter().map(|stream| stream.rows).sum::<u64>(),
        "bytes": streams.iter().map(|stream| stream.bytes).sum::<u64>(),
        "oldest": oldest.map(millis),
    })
}

fn millis(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}
