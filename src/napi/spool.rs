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
            let directory = Directory::look(&PathBuf::from(dir));
            inspect(&directory).map(|inspection| describe(&inspection))
        })
    }
}

fn describe(inspection: &Inspection) -> Value {
    let Inspection { segments, bytes, lanes, damages, aside, torn } = inspection;
    let mut tables = BTreeMap::<&str, Vec<&Backlog>>::new();
    for lane in lanes {
        tables.entry(&lane.lane.table).or_default().push(lane);
    }
    let all: Vec<&Backlog> = lanes.iter().collect();
    let mut content = sum(&all);
    content["segments"] = json!(segments);
    content["bytes"] = json!(bytes);
    content["tables"] = tables.iter().map(|(name, lanes)| (name.to_string(), sum(lanes))).collect();
    let damaged = damages.iter().map(|damage| {
        json!({
            "segment": damage.segment, "at": damage.at, "bytes": damage.len, "record": damage.sequence,
            "file": damage.file,
        })
    });
    content["damaged"] = damaged.collect();
    content["setAside"] = json!(aside);
    let torn = torn.iter().map(|torn| json!({ "segment": torn.segment, "at": torn.at, "bytes": torn.len }));
    content["torn"] = torn.collect();
    content
}

/// What is not settled of these.
fn sum(lanes: &[&Backlog]) -> Value {
    let oldest = lanes.iter().map(|lane| lane.oldest).min();
    json!({
        "records": lanes.iter().map(|lane| lane.records).sum::<u64>(),
        "messages": lanes.iter().map(|lane| lane.messages).sum::<u64>(),
        "rows": lanes.iter().map(|lane| lane.rows).sum::<u64>(),
        "bytes": lanes.iter().map(|lane| lane.bytes).sum::<u64>(),
        "oldest": oldest.map(millis),
    })
}

fn millis(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}
