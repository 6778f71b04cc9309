//! User names and passwords that may change while a pipeline runs: a text, a file that is read again, or a function of the
//! program that is asked again.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{Mutex, oneshot};

use crate::core::error::{Error, Result};
use crate::core::secret::Secret;

/// How long a function may take to give its value.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest value: the limit of MQTT, 3.1.3.5.
const MAX_BYTES: usize = 65535;

/// Calls a function of the program.
pub trait CredentialHost: Send + Sync {
    /// Has the function called. The answer is its value, or why it has none; it is dropped where there will be none.
    fn ask(&self, answer: oneshot::Sender<Result<String, String>>);
}

/// Where a user name or a password comes from. Clones share what a function gave.
#[derive(Clone)]
pub struct Credential {
    /// The option, such as `mqtt.password`.
    path: &'static str,
    source: Source,
}

#[derive(Clone)]
enum Source {
    Text(Secret),
    File(PathBuf),
    Function(Arc<Function>),
}

#[derive(Default)]
struct Function {
    /// Set by the binding before anything is started.
    host: OnceLock<Arc<dyn CredentialHost>>,
    /// Held while the function is asked, so that it is asked once for all who wait.
    kept: Mutex<Kept>,
}

/// The value that requests carry until it is refused.
#[derive(Default)]
struct Kept {
    value: Option<Secret>,
    /// Counts the values: a refused one differs from its successor by it.
    generation: u64,
}

/// A value, as it was at a time.
#[derive(Debug, Clone)]
pub struct Asked {
    pub secret: Secret,
    generation: u64,
}

impl Credential {
    pub fn text(path: &'static str, text: String) -> Credential {
        Credential { path, source: Source::Text(Secret::new(text)) }
    }

    pub fn file(path: &'static str, file: String) -> Credential {
        Credential { path, source: Source::File(file.into()) }
    }

    pub fn function(path: &'static str) -> Credential {
        Credential { path, source: Source::Function(Arc::default()) }
    }

    pub fn path(&self) -> &'static str {
        self.path
    }

    /// The value of a text, which never changes.
    pub fn as_text(&self) -> Option<&Secret> {
        match &self.source {
            Source::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Names what calls the function, if it is one.
    pub fn set_host(&self, host: &Arc<dyn CredentialHost>) {
        if let Source::Function(function) = &self.source {
            // The binding names one host for each option, once.
            let _ = function.host.set(host.clone());
        }
    }

    /// The value as it is now: a file is read, a function asked. Errors are `CREDENTIALS_FAILED`.
    pub async fn ask(&self) -> Result<Secret> {
        let value = match &self.source {
            Source::Text(text) => return Ok(text.clone()),
            Source::File(file) => read(file),
            Source::Function(function) => function.ask().await,
        };
        value.and_then(checked).map_err(|message| self.failed(message))
    }

    /// The value for the next request: that of a function is kept, a file is read.
    pub async fn current(&self) -> Result<Asked> {
        let Source::Function(function) = &self.source else {
            return Ok(Asked { secret: self.ask().await?, generation: 0 });
        };
        let mut kept = function.kept.lock().await;
        self.fill(&mut kept).await
    }

    /// The value that came after one that a server refused; `None` if it is still the same.
    pub async fn after(&self, refused: &Asked) -> Result<Option<Asked>> {
        let next = match &self.source {
            Source::Text(_) => return Ok(None),
            Source::File(_) => Asked { secret: self.ask().await?, generation: 0 },
            Source::Function(function) => {
                let mut kept = function.kept.lock().await;
                if kept.generation == refused.generation {
                    kept.value = None;
                }
                self.fill(&mut kept).await?
            }
        };
        Ok(Some(next).filter(|next| next.secret != refused.secret))
    }

    async fn fill(&self, kept: &mut Kept) -> Result<Asked> {
        let secret = match &kept.value {
            Some(secret) => secret.clone(),
            None => {
                let secret = self.ask().await?;
                kept.generation += 1;
                kept.value.insert(secret).clone()
            }
        };
        Ok(Asked { secret, generation: kept.generation })
    }

    /// The error of a value that cannot be had, or used.
    pub fn failed(&self, message: impl Into<String>) -> Error {
        Error::CredentialsFailed { path: self.path.into(), message: message.into() }
    }
}

impl Function {
    async fn ask(&self) -> Result<String, String> {
        let Some(host) = self.host.get() else { return Err("no program is there to give it".into()) };
        let (sender, answer) = oneshot::channel();
        host.ask(sender);
        match tokio::time::timeout(ASK_TIMEOUT, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err("the function gave nothing".into()),
            Err(_) => Err(format!("the function gave nothing within {} s", ASK_TIMEOUT.as_secs())),
        }
    }
}

/// The text of a file, without the line breaks at its end that editors and `echo` add.
fn read(file: &Path) -> Result<String, String> {
    let unreadable = |error: &dyn fmt::Display| format!("{} cannot be read: {error}", file.display());
    let bytes = std::fs::read(file).map_err(|error| unreadable(&error))?;
    let text = String::from_utf8(bytes).map_err(|_| unreadable(&"it is not UTF-8"))?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(format!("{} is empty", file.display())),
        text => Ok(text.into()),
    }
}

/// A value that a file or a function gave, under the rules for a text of the configuration.
fn checked(value: String) -> Result<Secret, String> {
    match value {
        value if value.is_empty() => Err("it is empty".into()),
        value if value.contains('\0') => Err("it contains a NUL character".into()),
        value if value.len() > MAX_BYTES => Err(format!("it has more than {MAX_BYTES} bytes")),
        value => Ok(Secret::new(value)),
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.source {
            Source::Text(_) => "***",
            Source::File(_) => "a file",
            Source::Function(_) => "a function",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Gives `1`, `2` and so on; `silent`: nothing at all.
    #[derive(Default)]
    struct Counter {
        calls: AtomicUsize,
        silent: bool,
        held: std::sync::Mutex<Vec<oneshot::Sender<Result<String, String>>>>,
    }

    impl CredentialHost for Counter {
        fn ask(&self, answer: oneshot::Sender<Result<String, String>>) {
            let call = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
            if self.silent {
                self.held.lock().unwrap().push(answer);
            } else {
                answer.send(Ok(call.to_string())).unwrap();
            }
        }
    }

    fn counted(silent: bool) -> (Credential, Arc<Counter>) {
        let counter = Arc::new(Counter { silent, ..Counter::default() });
        let credential = Credential::function("clickhouse.password");
        credential.set_host(&(counter.clone() as Arc<dyn CredentialHost>));
        (credential, counter)
    }

    #[tokio::test]
    async fn a_function_is_asked_again_after_a_refusal_and_once_for_all() {
        let (credential, counter) = counted(false);
        let other = credential.clone();
        let first = credential.current().await.unwrap();
        assert_eq!(other.current().await.unwrap().secret, first.secret);
        let second = credential.after(&first).await.unwrap().unwrap();
        // The other worker was refused with the first value too.
        assert_eq!(other.after(&first).await.unwrap().unwrap().secret, second.secret);
        assert_eq!((second.secret.expose(), counter.calls.load(Ordering::Relaxed)), ("2", 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_function_that_gives_nothing_is_an_error_and_asked_again() {
        let (credential, counter) = counted(true);
        for _ in 0..2 {
            let error = credential.current().await.unwrap_err();
            assert_eq!(error.code(), "CREDENTIALS_FAILED");
            assert_eq!(error.to_string(), "clickhouse.password: the function gave nothing within 10 s");
        }
        assert_eq!(counter.calls.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn a_file_is_read_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        let credential = Credential::file("mqtt.password", file.display().to_string());
        assert_eq!(credential.ask().await.unwrap_err().path(), Some("mqtt.password"));
        for (content, value) in [("one\n", "one"), ("two\r\n", "two"), (" th ree", " th ree")] {
            std::fs::write(&file, content).unwrap();
            assert_eq!(credential.ask().await.unwrap().expose(), value);
        }
        let refused = credential.current().await.unwrap();
        assert!(credential.after(&refused).await.unwrap().is_none());
        for wrong in [&b"\n"[..], b"", b"\xff", b"a\0b", &[b'x'; MAX_BYTES + 1]] {
            std::fs::write(&file, wrong).unwrap();
            assert_eq!(credential.ask().await.unwrap_err().code(), "CREDENTIALS_FAILED");
        }
        assert_eq!(format!("{credential:?}"), "a file");
    }
}
