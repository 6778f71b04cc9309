//! The binding of credentials that functions of the program give.

use std::sync::Arc;

use napi::Status;
use napi::bindgen_prelude::{FnArgs, Function};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi_derive::napi;
use tokio::sync::oneshot;

use crate::config::Config;
use crate::core::credential::CredentialHost;

type Answer = oneshot::Sender<Result<String, String>>;
/// Weak: a call for a password does not keep the process alive. Each connection has one under way at most, and the INSERTs one
/// together.
type OnAsk = ThreadsafeFunction<Answer, (), FnArgs<(NativeCredentialCall,)>, Status, false, true, 2048>;

/// The functions of a configuration, for the engine that is made of it.
#[napi]
#[derive(Default)]
pub struct NativeCredentials {
    hosts: Vec<(String, Arc<dyn CredentialHost>)>,
}

/// One call of such a function.
#[napi]
pub struct NativeCredentialCall {
    answer: Option<Answer>,
}

struct FunctionHost(OnAsk);

impl CredentialHost for FunctionHost {
    fn ask(&self, answer: Answer) {
        // A call that is not taken is dropped, and so is its answer: JavaScript is about to end.
        let _ = self.0.call(answer, ThreadsafeFunctionCallMode::NonBlocking);
    }
}

#[napi]
impl NativeCredentials {
    #[napi(constructor)]
    pub fn new() -> NativeCredentials {
        NativeCredentials::default()
    }

    /// Has a function called for the option of this path.
    #[napi]
    pub fn on_ask(
        &mut self,
        path: String,
        callback: Function<'_, FnArgs<(NativeCredentialCall,)>, ()>,
    ) -> napi::Result<()> {
        let on_ask: OnAsk = callback
            .build_threadsafe_function::<Answer>()
            .weak::<true>()
            .callee_handled::<false>()
            .max_queue_size::<2048>()
            .build_callback(|context| Ok((NativeCredentialCall { answer: Some(context.value) },).into()))?;
        self.hosts.push((path, Arc::new(FunctionHost(on_ask))));
        Ok(())
    }
}

impl NativeCredentials {
    /// Gives the options of a configuration their functions.
    pub(super) fn serve(&self, config: &Config) {
        for credential in config.credentials() {
            if let Some((_, host)) = self.hosts.iter().find(|(path, _)| path == credential.path()) {
                credential.set_host(host);
            }
        }
    }
}

#[napi]
impl NativeCredentialCall {
    #[napi]
    pub fn answer(&mut self, value: String) {
        self.end(Ok(value));
    }

    /// There is no value, for this reason.
    #[napi]
    pub fn fail(&mut self, message: String) {
        self.end(Err(message));
    }

    fn end(&mut self, result: Result<String, String>) {
        // The engine may have given it up.
        if let Some(answer) = self.answer.take() {
            let _ = answer.send(result);
        }
    }
}
