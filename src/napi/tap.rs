//! The binding of taps: hands samples to JavaScript, and gives it their columns.

use std::sync::Mutex;
use std::time::Duration;

use napi::Status;
use napi::bindgen_prelude::{FnArgs, Function, Uint8ArraySlice, Uint32ArraySlice};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi_derive::napi;

use crate::core::lock::lock;
use crate::napi::transform::{ended, misuse};
use crate::pipeline::Pipeline;
use crate::transform::sample::{OpenTap, SampledBatch};

/// Weak: a pipeline's state decides whether the process stays alive.
type OnSample = ThreadsafeFunction<SampledBatch, (), FnArgs<(NativeSample,)>, Status, false, true, 2>;

/// Rows of a tap in the hands of JavaScript. The next ones come when it is closed.
#[napi]
pub struct NativeSample {
    batch: Option<SampledBatch>,
}

/// A tap, until it is closed.
#[napi]
pub struct NativeTap(Mutex<Option<OpenTap>>);

/// Has a function called with samples of a route.
pub fn open(
    pipeline: &Pipeline,
    route: u32,
    every_ms: f64,
    callback: &Function<'_, FnArgs<(NativeSample,)>, ()>,
) -> napi::Result<NativeTap> {
    let on_sample: OnSample = callback
        .build_threadsafe_function::<SampledBatch>()
        .weak::<true>()
        .callee_handled::<false>()
        .max_queue_size::<2>()
        .build_callback(|context| Ok((NativeSample { batch: Some(context.value) },).into()))?;
    // The façade has checked that it is a number of milliseconds.
    let tap = pipeline.tap(route as usize, Duration::from_millis(every_ms as u64), move |batch| {
        // One that is not taken is dropped.
        let _ = on_sample.call(batch, ThreadsafeFunctionCallMode::NonBlocking);
    });
    Ok(NativeTap(Mutex::new(Some(tap))))
}

#[napi]
impl NativeTap {
    #[napi]
    pub fn close(&self) {
        lock(&self.0).take();
    }
}

#[napi]
impl NativeSample {
    fn open(&mut self) -> napi::Result<&mut SampledBatch> {
        self.batch.as_mut().ok_or_else(ended)
    }

    #[napi]
    pub fn close(&mut self) {
        self.batch = None;
    }

    /// Changes when the columns are others.
    #[napi(getter)]
    pub fn generation(&mut self) -> napi::Result<f64> {
        Ok(self.open()?.layout().generation as f64)
    }

    #[napi(getter)]
    pub fn rows(&mut self) -> napi::Result<u32> {
        Ok(self.open()?.rows() as u32)
    }

    /// A list of descriptions, as JSON.
    #[napi]
    pub fn columns(&mut self) -> napi::Result<String> {
        Ok(self.open()?.layout().json.clone())
    }

    /// Copies the values of a column of numbers.
    #[napi]
    pub fn read(
        &mut self,
        column: u32,
        mut values: Uint8ArraySlice<'_>,
        mut nulls: Option<Uint8ArraySlice<'_>>,
    ) -> napi::Result<()> {
        // SAFETY: JavaScript runs on this thread, and touches nothing until we return.
        let (values, nulls) = unsafe { (values.as_mut(), nulls.as_mut().map(|nulls| nulls.as_mut())) };
        self.open()?.columns().read(column as usize, values, nulls).map_err(misuse)
    }

    #[napi]
    pub fn text_bytes(&mut self, column: u32) -> napi::Result<u32> {
        Ok(self.open()?.columns().text_bytes(column as usize).map_err(misuse)? as u32)
    }

    /// Copies the texts of a column one behind the other, and where each ends.
    #[napi]
    pub fn read_texts(
        &mut self,
        column: u32,
        mut bytes: Uint8ArraySlice<'_>,
        mut ends: Uint32ArraySlice<'_>,
        mut nulls: Option<Uint8ArraySlice<'_>>,
    ) -> napi::Result<()> {
        // SAFETY: as in `read`.
        let (bytes, ends, nulls) =
            unsafe { (bytes.as_mut(), ends.as_mut(), nulls.as_mut().map(|nulls| nulls.as_mut())) };
        self.open()?.columns().read_texts(column as usize, bytes, ends, nulls).map_err(misuse)
    }

    /// The values of any column, as JSON.
    #[napi]
    pub fn read_json(&mut self, column: u32) -> napi::Result<String> {
        self.open()?.columns().read_json(column as usize).map_err(misuse)
    }
}
