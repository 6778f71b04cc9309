//! A sample of a tap, as the host reads it: the columns of a block, by the rules of a transform's.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::clickhouse::Column;
use crate::config::Route;
use crate::core::lock::lock;
use crate::ingest::table_plan::TablePlan;
use crate::ingest::taps::{Sample, Tap, Taps};
use crate::transform::columns::{BatchColumns, ColumnLayout};

pub struct SampledBatch {
    layout: Arc<ColumnLayout>,
    sample: Sample,
    /// Nothing is ever written.
    overrides: Vec<(usize, usize, Column)>,
    is_changed: bool,
}

/// A tap, until this is dropped.
pub struct OpenTap {
    taps: Arc<Taps>,
    tap: Arc<Tap>,
}

impl OpenTap {
    /// `listener` takes a sample of the route at this place at most each `every`, and does not wait.
    pub fn new(
        taps: &Arc<Taps>,
        (at, route): (usize, &Route),
        every: Duration,
        listener: impl Fn(SampledBatch) + Send + Sync + 'static,
    ) -> OpenTap {
        // Where messages choose their table, each sample is of one that was chosen.
        let route = route.for_table(&route.table);
        let last = Mutex::new(None::<(Arc<TablePlan>, Arc<ColumnLayout>)>);
        let tap = Tap::new(at, every, move |sample| {
            let layout = {
                let mut last = lock(&last);
                match &*last {
                    Some((plan, layout)) if Arc::ptr_eq(plan, &sample.plan) => layout.clone(),
                    _ => {
                        let layout = Arc::new(ColumnLayout::of_block(&sample.plan, &route));
                        last.insert((sample.plan.clone(), layout)).1.clone()
                    }
                }
            };
            listener(SampledBatch { layout, sample, overrides: Vec::new(), is_changed: false });
        });
        taps.add(tap.clone());
        OpenTap { taps: taps.clone(), tap }
    }
}

impl Drop for OpenTap {
    fn drop(&mut self) {
        self.taps.remove(&self.tap);
    }
}

impl SampledBatch {
    pub fn rows(&self) -> usize {
        self.sample.columns.first().map_or(0, Column::rows)
    }

    pub fn layout(&self) -> &ColumnLayout {
        &self.layout
    }

    pub fn columns(&mut self) -> BatchColumns<'_> {
        let SampledBatch { layout, sample, overrides, is_changed } = self;
        BatchColumns { layout, columns: &mut sample.columns, overrides, is_changed }
    }
}
