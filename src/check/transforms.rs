//! Transforms, called with the rows of a sample: what they drop, reject and emit, and what they throw. Nothing is inserted.

use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use crate::check::{Level, Report};
use crate::clickhouse::Column;
use crate::config::Config;
use crate::core::ack_history::AckHistory;
use crate::core::clock::ReceiveTime;
use crate::ingest::batch::Batch;
use crate::ingest::completion::Completion;
use crate::ingest::kept_rows::MessageRows;
use crate::ingest::raw_messages::{self, RawMessages};
use crate::ingest::table_plan::TablePlan;
use crate::mqtt::Publish;
use crate::telemetry::context::PipelineContext;
use crate::transform::TransformHosts;
use crate::transform::call::{Ended, Finished, TransformCall, Verdict};
use crate::transform::columns::ColumnLayout;
use crate::transform::stage::EmitTable;

/// The result of a transform on the sampled rows of its route.
#[derive(Debug, Default, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TransformReport {
    pub rows: usize,
    pub dropped: usize,
    pub rejected: usize,
    pub emitted: usize,
    /// Why it failed.
    pub error: Option<String>,
    /// The first reasons of rejected rows.
    pub reasons: Vec<String>,
}

const MAX_REASONS: usize = 10;

/// The sampled rows of a route with a transform.
#[derive(Default)]
pub struct SampledRows {
    pub columns: Vec<Column>,
    messages: RawMessages,
    message_rows: MessageRows,
}

impl SampledRows {
    /// Notes that a message appended `rows` rows to the columns.
    pub fn push(&mut self, publish: &Publish<'_>, rows: usize) {
        self.message_rows.push(rows);
        self.messages.push(&raw_messages::Message {
            received: ReceiveTime::read(),
            topic: publish.topic,
            payload: publish.payload,
            qos: publish.qos,
            retain: publish.retain,
            properties: publish.properties,
        });
    }
}

/// Calls the transform of a route. `plans` are those of all routes, as far as their tables can be filled.
pub fn run(
    config: &Config,
    at: usize,
    sampled: SampledRows,
    plans: &[Option<Arc<TablePlan>>],
    hosts: &TransformHosts,
    report: &mut Report,
) -> Option<TransformReport> {
    let route = config.route(at);
    let transform = route.transform.as_ref()?;
    let (plan, host) = (plans[at].clone()?, hosts.of(at)?);
    let mut seen =
        TransformReport { rows: sampled.columns.first().map_or(0, Column::rows), ..Default::default() };
    if seen.rows == 0 {
        return Some(seen);
    }
    let layout = Arc::new(ColumnLayout::new(&plan, route));
    let emit_tables = transform.emits.iter().filter_map(|table| {
        let route = config.row_route(table)?;
        Some(EmitTable::new(table, route, &config.route(route).path, plans[route].clone()?))
    });
    // A pipeline that never runs: a batch belongs to one.
    let context = Arc::new(PipelineContext::new(config.clone(), Box::new(|_| {})));
    let batch = Box::new(Batch {
        completion: Completion::recovered(&context, Instant::now()),
        route: at,
        connection: 0,
        client_id: String::new(),
        plan,
        columns: sampled.columns,
        reused_bytes: 0,
        messages: sampled.messages,
        receipts: AckHistory::of_session(0),
        opened_at: Instant::now(),
        queue_permit: None,
        trace: None,
        companions: Vec::new(),
        shard: None,
        rejected: None,
        inputs: None,
        calls: None,
        message_rows: Some(sampled.message_rows),
        kept: None,
    });
    let (sender, ended) = crossbeam_channel::unbounded();
    host.call(TransformCall::new(0, batch, layout, Arc::new(emit_tables.collect()), sender));
    match ended.recv_timeout(transform.timeout) {
        Ok((_, Ended::Finished(finished))) => seen.count(&finished),
        Ok((_, Ended::Failed { message, .. })) => seen.error = Some(message),
        Ok((_, Ended::Lost { .. })) => seen.error = Some("its thread ended before it did".into()),
        Err(_) => {
            let limit = transform.timeout.as_millis();
            seen.error = Some(format!("it has not ended within transformTimeoutMs, {limit} ms"));
        }
    }
    if let Some(error) = &seen.error {
        report.add_finding(
            Level::Warning,
            "SAMPLE_TRANSFORM_FAILED",
            format!("{}.transform", route.path),
            format!("the transform failed on {} sampled rows: {error}", seen.rows),
            "mend it: each message of a batch on which it fails becomes a dead letter",
        );
    }
    Some(seen)
}

impl TransformReport {
    fn count(&mut self, finished: &Finished) {
        let Finished { verdicts, reasons, emitted, .. } = finished;
        let count = |which| verdicts.iter().filter(|verdict| **verdict == which).count();
        (self.dropped, self.rejected) = (count(Verdict::Drop), count(Verdict::Reject));
        self.emitted = emitted.iter().map(|emitted| emitted.rows.len()).sum();
        for (_, reason) in reasons {
            if self.reasons.len() < MAX_REASONS && !self.reasons.contains(reason) {
                self.reasons.push(reason.clone());
            }
        }
    }
}
