//! The binding of transforms: hands calls to JavaScript, and gives it the columns of a batch.
//!
//! Columns are copied into memory of JavaScript's own and back. Their addresses are taken anew at each call, on the thread of
//! JavaScript: a garbage collector, or the user, may have moved or detached them in between.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use napi::bindgen_prelude::{Buffer, FnArgs, Function, Uint8ArraySlice, Uint32ArraySlice};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi::{Env, Status};
use napi_derive::napi;
use serde_json::json;

use crate::config::{Config, TransformCode};
use crate::core::error::Error;
use crate::core::lock::lock;
use crate::core::reason::Reason;
use crate::napi::throw;
use crate::transform::call::{TransformCall, Verdict};
use crate::transform::columns::Misuse;
use crate::transform::{TransformHost, TransformHosts};

/// Weak: a pipeline's state decides whether the process stays alive, and not its calls.
type OnCall = ThreadsafeFunction<TransformCall, (), FnArgs<(NativeTransformCall,)>, Status, false, true, 4>;

/// A batch in the hands of JavaScript.
#[napi]
pub struct NativeTransformCall {
    call: Option<TransformCall>,
}

fn on_call(callback: &Function<'_, FnArgs<(NativeTransformCall,)>, ()>) -> napi::Result<OnCall> {
    callback
        .build_threadsafe_function::<TransformCall>()
        .weak::<true>()
        .callee_handled::<false>()
        .max_queue_size::<4>()
        .build_callback(|context| Ok((NativeTransformCall { call: Some(context.value) },).into()))
}

/// A function that the program gave: it runs on the program's own thread.
struct FunctionHost(OnCall);

impl TransformHost for FunctionHost {
    fn threads(&self) -> usize {
        1
    }

    fn call(&self, call: TransformCall) {
        // A call that is not taken is dropped, and so lost: JavaScript is about to end.
        let _ = self.0.call(call, ThreadsafeFunctionCallMode::NonBlocking);
    }
}

/// A module that threads of the pipeline's own have loaded.
#[derive(Default)]
struct ModuleHost(Mutex<Vec<ModuleThread>>);

struct ModuleThread {
    id: u32,
    on_call: OnCall,
    /// Calls that it has.
    calls: Arc<()>,
}

impl ModuleHost {
    fn threads(&self) -> MutexGuard<'_, Vec<ModuleThread>> {
        lock(&self.0)
    }
}

impl TransformHost for ModuleHost {
    fn threads(&self) -> usize {
        ModuleHost::threads(self).len()
    }

    fn call(&self, mut call: TransformCall) {
        let threads = ModuleHost::threads(self);
        let Some(thread) = threads.iter().min_by_key(|thread| Arc::strong_count(&thread.calls)) else {
            return;
        };
        call.hold(thread.calls.clone());
        let _ = thread.on_call.call(call, ThreadsafeFunctionCallMode::NonBlocking);
    }
}

/// The module hosts of all pipelines, by the number that their threads know.
static MODULES: Mutex<Option<HashMap<u32, Modules>>> = Mutex::new(None);
static NEXT: AtomicU32 = AtomicU32::new(1);

/// By route.
type Modules = HashMap<usize, Weak<ModuleHost>>;

/// Makes hosts for the modules of a configuration, and gives the number under which their threads find them.
pub fn add_modules(config: &Config, hosts: &TransformHosts) -> u32 {
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    let mut modules = Modules::new();
    for (at, route) in config.routes.iter().enumerate() {
        let code = route.transform.as_ref().map(|transform| &transform.code);
        if let Some(TransformCode::Module { .. }) = code {
            let host = Arc::new(ModuleHost::default());
            modules.insert(at, Arc::downgrade(&host));
            hosts.set(at, host);
        }
    }
    if !modules.is_empty() {
        let mut all = lock(&MODULES);
        let all = all.get_or_insert_default();
        // Drops the hosts of pipelines that no longer exist.
        all.retain(|_, modules| modules.values().any(|host| host.strong_count() > 0));
        all.insert(id, modules);
    }
    id
}

/// Makes a host for the module of a route that is added to a pipeline.
pub fn add_module(id: u32, hosts: &TransformHosts, route: u32) {
    let host = Arc::new(ModuleHost::default());
    let mut all = lock(&MODULES);
    all.get_or_insert_default().entry(id).or_default().insert(route as usize, Arc::downgrade(&host));
    hosts.set(route as usize, host);
}

/// Has a function of the program called for a route.
pub fn set_function(
    hosts: &TransformHosts,
    route: u32,
    callback: &Function<'_, FnArgs<(NativeTransformCall,)>, ()>,
) -> napi::Result<()> {
    hosts.set(route as usize, Arc::new(FunctionHost(on_call(callback)?)));
    Ok(())
}

/// A thread that has loaded the module of a route.
#[napi]
pub struct NativeTransformWorker {
    id: u32,
    host: Weak<ModuleHost>,
}

#[napi]
impl NativeTransformWorker {
    /// `pipeline` is `NativePipeline.id`. From here on calls of the route come to this thread too.
    #[napi(constructor)]
    pub fn new(
        env: &Env,
        pipeline: u32,
        route: u32,
        callback: Function<'_, FnArgs<(NativeTransformCall,)>, ()>,
    ) -> napi::Result<NativeTransformWorker> {
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let host = {
            let all = lock(&MODULES);
            all.as_ref().and_then(|all| all.get(&pipeline)?.get(&(route as usize)).cloned())
        };
        let host = host.unwrap_or_default();
        if let Some(host) = host.upgrade() {
            let thread = ModuleThread { id, on_call: on_call(&callback)?, calls: Arc::new(()) };
            host.threads().push(thread);
        }
        env.add_env_cleanup_hook((id, host.clone()), |(id, host)| leave(&host, id))?;
        Ok(NativeTransformWorker { id, host })
    }

    /// No further calls come to this thread.
    #[napi]
    pub fn close(&self) {
        leave(&self.host, self.id);
    }
}

fn leave(host: &Weak<ModuleHost>, id: u32) {
    if let Some(host) = host.upgrade() {
        host.threads().retain(|thread| thread.id != id);
    }
}

#[napi]
impl NativeTransformCall {
    fn open(&mut self) -> napi::Result<&mut TransformCall> {
        self.call.as_mut().ok_or_else(ended)
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
        let call = self.open()?;
        // SAFETY: JavaScript runs on this thread, and touches nothing until we return.
        let (values, nulls) = unsafe { (values.as_mut(), nulls.as_mut().map(|nulls| nulls.as_mut())) };
        call.columns().read(column as usize, values, nulls).map_err(misuse)
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
        let call = self.open()?;
        // SAFETY: as in `read`.
        let (bytes, ends, nulls) =
            unsafe { (bytes.as_mut(), ends.as_mut(), nulls.as_mut().map(|nulls| nulls.as_mut())) };
        call.columns().read_texts(column as usize, bytes, ends, nulls).map_err(misuse)
    }

    /// The values of any column, as JSON.
    #[napi]
    pub fn read_json(&mut self, column: u32) -> napi::Result<String> {
        self.open()?.columns().read_json(column as usize).map_err(misuse)
    }

    #[napi]
    pub fn write(
        &mut self,
        column: u32,
        values: Uint8ArraySlice<'_>,
        nulls: Option<Uint8ArraySlice<'_>>,
    ) -> napi::Result<()> {
        let call = self.open()?;
        call.columns().write(column as usize, &values, nulls.as_deref()).map_err(misuse)
    }

    #[napi]
    pub fn write_texts(
        &mut self,
        column: u32,
        bytes: Uint8ArraySlice<'_>,
        ends: Uint32ArraySlice<'_>,
        nulls: Option<Uint8ArraySlice<'_>>,
    ) -> napi::Result<()> {
        let call = self.open()?;
        call.columns().write_texts(column as usize, &bytes, &ends, nulls.as_deref()).map_err(misuse)
    }

    /// Sets one value of any column: CBOR, or null.
    #[napi]
    pub fn set_value(
        &mut self,
        column: u32,
        row: u32,
        cbor: Option<Uint8ArraySlice<'_>>,
    ) -> napi::Result<()> {
        let call = self.open()?;
        call.columns().set_value(column as usize, row as usize, cbor.as_deref()).map_err(refused)
    }

    /// One more row, for another table: an object as CBOR.
    #[napi]
    pub fn emit(&mut self, table: String, cbor: Uint8ArraySlice<'_>) -> napi::Result<()> {
        self.open()?.emit(&table, &cbor).map_err(refused)
    }

    /// The message that a row is of.
    #[napi]
    pub fn message(&mut self, row: u32) -> napi::Result<NativeMessage> {
        let message = self.open()?.message(row as usize);
        let message = message.ok_or_else(|| misuse(Misuse("no such row")))?;
        let since = message.received.system.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Ok(NativeMessage {
            topic: String::from_utf8_lossy(message.topic).into_owned(),
            payload: message.payload.to_vec().into(),
            received_at: since.as_millis() as f64,
            qos: message.qos.into(),
            retain: message.retain,
            user_properties: message
                .properties
                .users()
                .map(|(name, value)| vec![lossy(name), lossy(value)])
                .collect(),
        })
    }

    /// Ends the call. `verdicts` has a byte for each row: 0 keeps it, 1 drops it, 2 rejects its message; `reasons` is a list of
    /// row and reason, as JSON. Gives `{ code, message, path }` as JSON if what was written cannot be inserted.
    #[napi]
    pub fn finish(
        &mut self,
        verdicts: Option<Uint8ArraySlice<'_>>,
        reasons: String,
    ) -> napi::Result<Option<String>> {
        let call = self.call.take().ok_or_else(ended)?;
        let verdict = |verdict: &u8| match verdict {
            0 => Verdict::Keep,
            1 => Verdict::Drop,
            _ => Verdict::Reject,
        };
        let verdicts = verdicts.map_or_else(Vec::new, |verdicts| verdicts.iter().map(verdict).collect());
        let reasons = serde_json::from_str(&reasons).unwrap_or_default();
        Ok(call.finish(verdicts, reasons).err().map(|reason| text_of(&reason)))
    }

    /// Ends the call: nothing it did counts.
    #[napi]
    pub fn fail(&mut self, message: String, stack: String) -> napi::Result<()> {
        self.call.take().ok_or_else(ended)?.fail(message, stack);
        Ok(())
    }
}

#[napi(object)]
pub struct NativeMessage {
    pub topic: String,
    pub payload: Buffer,
    /// Milliseconds since 1970.
    pub received_at: f64,
    pub qos: u32,
    pub retain: bool,
    /// Names and values.
    pub user_properties: Vec<Vec<String>>,
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(super) fn ended() -> napi::Error {
    let message = "the batch is used after the end of its call";
    napi::Error::from_reason(json!({ "code": "INVALID_STATE", "message": message }).to_string())
}

/// A fault of the JavaScript of this package.
pub(super) fn misuse(Misuse(message): Misuse) -> napi::Error {
    throw(&Error::Internal { thread: "transform".into(), message: message.into() })
}

fn refused(reason: Reason) -> napi::Error {
    napi::Error::from_reason(text_of(&reason))
}

fn text_of(reason: &Reason) -> String {
    let Reason { code, message, column } = reason;
    json!({ "code": code.as_str(), "message": &**message, "path": column.as_deref() }).to_string()
}
