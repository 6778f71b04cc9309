//! The binding of a check.

use napi::Env;
use napi::bindgen_prelude::{FnArgs, Function, Object};
use napi_derive::napi;

use crate::check;
use crate::config::{CheckOptions, Config};
use crate::napi::credentials::NativeCredentials;
use crate::napi::transform::{self, NativeTransformCall};
use crate::napi::{promise, throw};
use crate::transform::TransformHosts;

#[napi]
pub struct NativeCheck {
    config: Config,
    options: CheckOptions,
    hosts: TransformHosts,
    /// Under which threads of modules find it.
    id: u32,
}

#[napi]
impl NativeCheck {
    /// Throws an error whose message is JSON: `{ code, message, path, cause }`.
    #[napi(constructor)]
    pub fn new(
        config: String,
        credentials: &NativeCredentials,
        options: String,
    ) -> napi::Result<NativeCheck> {
        let config = Config::parse(&config).map_err(|error| throw(&error))?;
        credentials.serve(&config);
        let options = CheckOptions::parse(&options).map_err(|error| throw(&error))?;
        let hosts = TransformHosts::default();
        let id = transform::add_modules(&config, &hosts);
        Ok(NativeCheck { config, options, hosts, id })
    }

    /// The number that a `NativeTransformWorker` names.
    #[napi(getter)]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Has a function called with the sampled rows of a route.
    #[napi]
    pub fn on_transform(
        &self,
        route: u32,
        callback: Function<'_, FnArgs<(NativeTransformCall,)>, ()>,
    ) -> napi::Result<()> {
        transform::set_function(&self.hosts, route, &callback)
    }

    /// Resolves to the report.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn run<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        let (config, options, hosts) = (self.config.clone(), self.options.clone(), self.hosts.clone());
        promise(env, move || check::check(&config, &options, &hosts))
    }
}
