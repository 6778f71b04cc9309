//! Samples of the rows that are inserted, for a program that shows them live.
//!
//! A sample is a copy, made by the thread that encodes the batch, of its newest rows. There is one at most in each interval of a
//! tap, one at most under way, and none where memory has no room for it: nothing waits for a tap. Without taps this is one
//! comparison for each batch.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::clickhouse::Column;
use crate::core::lock::lock;
use crate::core::memory_budget::MemoryReservation;
use crate::core::topic_tables::route_place;
use crate::ingest::column_pool::capacity;
use crate::ingest::table_plan::TablePlan;
use crate::telemetry::context::PipelineContext;

/// The taps of a pipeline.
#[derive(Debug, Default)]
pub struct Taps {
    count: AtomicUsize,
    taps: Mutex<Vec<Arc<Tap>>>,
}

/// One that watches a route.
pub struct Tap {
    route: usize,
    every: Duration,
    last: Mutex<Option<Instant>>,
    is_busy: Arc<AtomicBool>,
    listener: Box<dyn Fn(Sample) + Send + Sync>,
}

/// Rows of one batch. The next one comes when this is dropped.
pub struct Sample {
    pub plan: Arc<TablePlan>,
    /// As a block has them.
    pub columns: Vec<Column>,
    _memory: MemoryReservation,
    _busy: Busy,
}

struct Busy(Arc<AtomicBool>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Tap {
    /// `listener` takes a sample at most each `every`, without waiting.
    pub fn new(route: usize, every: Duration, listener: impl Fn(Sample) + Send + Sync + 'static) -> Arc<Tap> {
        Arc::new(Tap {
            route,
            every,
            last: Mutex::default(),
            is_busy: Arc::default(),
            listener: Box::new(listener),
        })
    }

    /// Takes the turn if it is due and the last sample is done with.
    fn take_turn(&self, now: Instant) -> Option<Busy> {
        let mut last = lock(&self.last);
        let is_due = last.is_none_or(|last| now.saturating_duration_since(last) >= self.every);
        if !is_due || self.is_busy.swap(true, Ordering::Acquire) {
            return None;
        }
        *last = Some(now);
        Some(Busy(self.is_busy.clone()))
    }
}

impl Taps {
    pub fn add(&self, tap: Arc<Tap>) {
        self.lock().push(tap);
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// It is called no more.
    pub fn remove(&self, tap: &Arc<Tap>) {
        let mut taps = self.lock();
        let before = taps.len();
        taps.retain(|own| !Arc::ptr_eq(own, tap));
        self.count.fetch_sub(before - taps.len(), Ordering::Relaxed);
    }

    /// Hands a part of a batch to the taps of its route that are due; `columns` are those of its block.
    #[inline]
    pub fn offer(&self, context: &PipelineContext, route: usize, plan: &Arc<TablePlan>, columns: &[Column]) {
        if self.count.load(Ordering::Relaxed) > 0 {
            self.offer_to_all(context, route, plan, columns);
        }
    }

    #[cold]
    fn offer_to_all(
        &self,
        context: &PipelineContext,
        route: usize,
        plan: &Arc<TablePlan>,
        columns: &[Column],
    ) {
        let now = Instant::now();
        let rows = columns.first().map_or(0, Column::rows);
        let newest = rows.saturating_sub(context.config.batch.rows)..rows;
        let taps: Vec<Arc<Tap>> =
            self.lock().iter().filter(|tap| tap.route == route_place(route)).cloned().collect();
        for tap in taps {
            // As large as all rows together at most.
            let bytes = columns.iter().map(Column::bytes).sum();
            if !context.memory.has_room(bytes) {
                return;
            }
            let Some(busy) = tap.take_turn(now) else { continue };
            let copy: Vec<Column> = columns.iter().map(|column| copied(column, &newest)).collect();
            let mut memory = MemoryReservation::new(&context.memory);
            memory.resize(capacity(&copy));
            (tap.listener)(Sample { plan: plan.clone(), columns: copy, _memory: memory, _busy: busy });
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Tap>>> {
        lock(&self.taps)
    }
}

fn copied(column: &Column, rows: &Range<usize>) -> Column {
    let mut copy = column.clone_empty();
    copy.append_rows(column, std::slice::from_ref(rows));
    copy
}

impl std::fmt::Debug for Tap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tap").field("route", &self.route).field("every", &self.every).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clickhouse::schema::Table;
    use crate::config::Config;
    use crate::ingest::table_plan::TablePlans;

    /// A context with `maxRows` 4 and this much memory, its plan, and columns with the numbers of a range.
    fn batch(memory: usize, numbers: Range<u32>) -> (PipelineContext, Arc<TablePlan>, Vec<Column>) {
        let config = format!(
            r#"{{
                "mqtt": {{ "url": "mqtt://x", "maxPacketBytes": 1024 }},
                "clickhouse": {{ "url": "http://x" }},
                "memory": {{ "maxBytes": {memory} }},
                "batch": {{ "maxRows": 4 }},
                "routes": [{{ "topic": "t", "table": "t" }}]
            }}"#
        );
        let context = PipelineContext::new(Config::parse(&config).unwrap(), Box::new(|_| {}));
        let table = Table::of(&[("seq", "UInt32", None)]);
        let plans = TablePlans::new(&context.config.routes, vec![table], Instant::now()).unwrap();
        let mut columns = plans.latest(0).block_columns(&context.config.routes[0]);
        numbers.for_each(|number| columns[0].push_fixed(number.to_le_bytes()));
        (context, plans.latest(0), columns)
    }

    fn numbers(sample: &Sample) -> Vec<u32> {
        let Column::Fixed { data, .. } = &sample.columns[0] else { panic!("it is of numbers") };
        data.as_chunks::<4>().0.iter().map(|number| u32::from_le_bytes(*number)).collect()
    }

    #[test]
    fn a_tap_gets_the_newest_rows_once_in_its_interval_and_one_sample_at_a_time() {
        let (context, plan, columns) = batch(1 << 20, 0..10);
        let taps = Taps::default();
        let taken: Arc<Mutex<Vec<Sample>>> = Arc::default();
        let at = |every| {
            let taken = taken.clone();
            Tap::new(0, every, move |sample| taken.lock().unwrap().push(sample))
        };
        let offer = |route| {
            taps.offer(&context, route, &plan, &columns);
            taken.lock().unwrap().len()
        };
        assert_eq!(offer(0), 0, "there is no tap");
        let always = at(Duration::ZERO);
        taps.add(always.clone());
        assert_eq!(offer(1), 0, "it is of another route");
        assert_eq!((offer(0), offer(0)), (1, 1), "the first one is not done with");
        assert_eq!(numbers(&taken.lock().unwrap()[0]), [6, 7, 8, 9]);
        assert!(context.memory.used() >= 16);
        taken.lock().unwrap().clear();
        assert_eq!((context.memory.used(), offer(0)), (0, 1));
        taken.lock().unwrap().clear();
        taps.remove(&always);
        assert_eq!(offer(0), 0);
        taps.add(at(Duration::from_secs(3600)));
        assert_eq!(offer(0), 1);
        taken.lock().unwrap().clear();
        assert_eq!(offer(0), 0, "the interval is not over");
    }

    #[test]
    fn a_batch_is_not_sampled_while_memory_is_full() {
        let (context, plan, columns) = batch(1 << 20, 0..10);
        let taps = Taps::default();
        let count = Arc::new(AtomicUsize::new(0));
        let counted = count.clone();
        taps.add(Tap::new(0, Duration::ZERO, move |_| _ = counted.fetch_add(1, Ordering::Relaxed)));
        let mut others = MemoryReservation::new(&context.memory);
        others.resize(context.memory.limit());
        taps.offer(&context, 0, &plan, &columns);
        assert_eq!(count.load(Ordering::Relaxed), 0);
        drop(others);
        taps.offer(&context, 0, &plan, &columns);
        assert_eq!((count.load(Ordering::Relaxed), context.memory.used()), (1, 0));
    }
}
