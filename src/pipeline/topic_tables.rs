//! The thread that looks at tables when the first message chooses them by its topic. The message waits meanwhile, and others go on.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::core::error::{Error, Result};
use crate::core::reason::{Code, Reason};
use crate::core::topic_tables::{TableState, table_place};
use crate::ingest::table_plan::TablePlans;
use crate::ingest::topic_tables::{TableRequest, TableRequests};
use crate::pipeline::stages::prepare_added;
use crate::telemetry::context::PipelineContext;
use crate::telemetry::events::Warning;

/// How long to wait before ClickHouse is asked again that has not answered.
const PAUSE: Duration = Duration::from_secs(1);

/// Starts the thread where messages choose tables. It ends when nobody can ask any more, or when all is cancelled.
pub fn start(
    context: &Arc<PipelineContext>,
    plans: &Arc<TablePlans>,
) -> Result<Option<(JoinHandle<()>, TableRequests)>> {
    if context.config.routes.iter().all(|route| route.table_choice.is_none()) {
        return Ok(None);
    }
    let (sender, requests) = mpsc::unbounded_channel();
    let finder = TableFinder { context: context.clone(), plans: plans.clone(), requests };
    Ok(Some((context.spawn("tables", async move || finder.run().await)?, sender)))
}

struct TableFinder {
    context: Arc<PipelineContext>,
    plans: Arc<TablePlans>,
    requests: mpsc::UnboundedReceiver<TableRequest>,
}

impl TableFinder {
    async fn run(mut self) {
        let context = self.context.clone();
        loop {
            let work = async {
                let request = self.requests.recv().await?;
                self.find(&request).await;
                request.answer();
                Some(())
            };
            let done = tokio::select! {
                biased;
                () = context.cancelled() => None,
                done = work => done,
            };
            if done.is_none() {
                return;
            }
        }
    }

    /// Looks at a table until ClickHouse answers.
    async fn find(&self, request: &TableRequest) {
        let TableFinder { context, plans, .. } = self;
        let TableRequest { route: place, table, .. } = request;
        let template = context.config.route(*place);
        let Some(choice) = &template.table_choice else { return };
        if choice.known.state(table) != Some(TableState::Asked) {
            return;
        }
        let route = context.config.with_shard_key(template.for_table(table));
        let mut fault = context.no_fault();
        let prepared = loop {
            match prepare_added(context, plans, std::slice::from_ref(&route)).await {
                Err(error @ (Error::ClickHouseUnreachable { .. } | Error::ClickHouseAnswer { .. })) => {
                    let message =
                        format!("{error}; messages for {table}, the first ones, wait until it answers");
                    let warning = Warning::new("CLICKHOUSE_RETRYING", message).table(table).route(*place);
                    context.warn_of_fault(&mut fault, warning.error(&error).retry_in(PAUSE));
                    tokio::time::sleep(PAUSE).await;
                }
                prepared => break prepared,
            }
        };
        let state = match prepared {
            Ok(prepared) => {
                // The plan comes first: others look for it when they find the route.
                prepared.into_iter().for_each(|plan| plans.add_topic_table(plan, Instant::now()));
                context.metrics.add_table(table.clone());
                TableState::Ready(table_place(*place, context.config.topic_tables.push(route)))
            }
            Err(error) => {
                let reason = Reason::new(Code::TableUnusable, format!("{table}: {error}"));
                TableState::Failed(reason, Instant::now())
            }
        };
        choice.known.set(table, state);
    }
}
