//! HTTP clients for the ClickHouse servers of the configuration.
//!
//! INSERTs and queries are POSTs whose status, headers and body we read ourselves: a confirmation must be read from all of
//! them, texts name the status, and no answer is read without a limit.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::Connect;
use hyper_util::client::legacy::connect::{HttpConnector, HttpInfo};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tower_service::Service;

use crate::clickhouse::insert_answer::RequestError;
use crate::config;
use crate::core::backoff::random_bits;
use crate::core::credential::{Asked, Credential};
use crate::core::error::Error;
use crate::core::lock::lock;
use crate::core::secret::masked_url;
use crate::core::tls::Tls;

/// Below ClickHouse's `keep_alive_timeout` (3 s by default in older servers), so that no INSERT is written into a
/// connection that the server is about to close.
const IDLE: Duration = Duration::from_secs(2);

/// One ClickHouse server of `clickhouse.url`.
#[derive(Clone)]
pub struct Server {
    /// As in the configuration, without credentials.
    pub url: String,
    pub http: HttpClient,
}

/// Sends requests to one server.
#[derive(Clone)]
pub struct HttpClient {
    http: Arc<dyn Post>,
    /// The same without connections that are kept.
    fresh: Arc<dyn Post>,
    kept: Arc<KeptConnections>,
    /// Scheme, host and path, without a query.
    base: String,
    user: HeaderValue,
    password: Option<Credential>,
}

/// The password of a request, which says who sends it.
pub struct RequestLogin {
    password: Option<(Asked, HeaderValue)>,
}

/// An HTTP client, whatever its connections are made of.
trait Post: Send + Sync {
    fn post(&self, request: Request<RequestBody>) -> PostFuture;
}

type PostFuture = Pin<Box<dyn Future<Output = Result<Response<Incoming>, legacy::Error>> + Send>>;

impl<C: Connect + Clone + Send + Sync + 'static> Post for legacy::Client<C, RequestBody> {
    fn post(&self, request: Request<RequestBody>) -> PostFuture {
        Box::pin(self.request(request))
    }
}

/// One server per URL, in their order. Fails where the files that `clickhouse.tls` names cannot be used.
pub fn servers(config: &config::ClickHouse) -> crate::core::error::Result<Vec<Server>> {
    let server = |url: &String| {
        let tcp = tcp(config.connect_timeout);
        if url.starts_with("https://") {
            // Read here for the sake of its errors, which name the option.
            config.tls.client()?;
            Server::over(EncryptedConnector { tcp, tls: config.tls.clone() }, url, config)
        } else {
            Server::over(tcp, url, config)
        }
    };
    config.urls.iter().map(server).collect()
}

impl Server {
    /// A server that is reached over connections of `connector`.
    pub fn over<C: Connect + Clone + Send + Sync + 'static>(
        connector: C,
        url: &str,
        config: &config::ClickHouse,
    ) -> crate::core::error::Result<Server> {
        let user = HeaderValue::from_str(&config.username)
            .map_err(|_| Error::config("clickhouse.username", NOT_A_HEADER))?;
        let http = HttpClient {
            fresh: Arc::new(
                legacy::Client::builder(TokioExecutor::new())
                    .pool_max_idle_per_host(0)
                    .build(connector.clone()),
            ),
            http: Arc::new(pooled(connector)),
            kept: Arc::default(),
            base: base(url),
            user,
            password: config.password.clone(),
        };
        Ok(Server { url: masked_url(url), http })
    }
}

const NOT_A_HEADER: &str = "must not hold line breaks or other control characters";

/// Connections over TLS, each with the certificates as their files are when it is made.
#[derive(Clone)]
struct EncryptedConnector {
    tcp: HttpConnector,
    tls: Tls,
}

type ConnectError = Box<dyn std::error::Error + Send + Sync>;
type Connecting =
    Pin<Box<dyn Future<Output = Result<MaybeHttpsStream<TokioIo<TcpStream>>, ConnectError>> + Send>>;

impl Service<Uri> for EncryptedConnector {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = ConnectError;
    type Future = Connecting;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        self.tcp.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, to: Uri) -> Connecting {
        match self.tls.client() {
            Ok(client) => Box::pin(HttpsConnector::from((self.tcp.clone(), client)).call(to)),
            Err(error) => Box::pin(std::future::ready(Err(error.to_string().into()))),
        }
    }
}

/// Scheme, host and path; a path of `/` where there is none.
fn base(url: &str) -> String {
    let base = url.split(['?', '#']).next().unwrap_or(url);
    let has_path = base.split_once("://").is_some_and(|(_, rest)| rest.contains('/'));
    if has_path { base.to_owned() } else { format!("{base}/") }
}

impl HttpClient {
    /// Asks for the password of the next request.
    pub async fn login(&self) -> crate::core::error::Result<RequestLogin> {
        let Some(password) = &self.password else { return Ok(RequestLogin { password: None }) };
        let asked = password.current().await?;
        let header = header_of(password, &asked)?;
        Ok(RequestLogin { password: Some((asked, header)) })
    }

    /// The login after one that was refused; `None` if it is still the same.
    pub async fn login_after(
        &self,
        refused: &RequestLogin,
    ) -> crate::core::error::Result<Option<RequestLogin>> {
        let (Some(password), Some((asked, _))) = (&self.password, &refused.password) else { return Ok(None) };
        let Some(next) = password.after(asked).await? else { return Ok(None) };
        let header = header_of(password, &next)?;
        Ok(Some(RequestLogin { password: Some((next, header)) }))
    }

    /// Posts a body under this query string; `is_fresh`: over a new connection.
    pub async fn post(
        &self,
        query: &str,
        login: &RequestLogin,
        body: RequestBody,
        is_fresh: bool,
    ) -> Result<Response<Incoming>, RequestError> {
        let mut request = Request::new(body);
        if let Some(boundary) = request.body().boundary {
            let value = format!("multipart/form-data; boundary={}", boundary_text(boundary));
            let value = HeaderValue::from_str(&value).expect("a number in hexadecimal");
            request.headers_mut().insert(http::header::CONTENT_TYPE, value);
        }
        *request.method_mut() = http::Method::POST;
        let headers = request.headers_mut();
        headers.insert("x-clickhouse-user", self.user.clone());
        if let Some((_, password)) = &login.password {
            headers.insert("x-clickhouse-key", password.clone());
        }
        let agent = concat!("millrace/", env!("CARGO_PKG_VERSION"));
        headers.insert(http::header::USER_AGENT, HeaderValue::from_static(agent));
        *request.uri_mut() =
            format!("{}?{query}", self.base).parse().expect("a checked URL and an encoded query");
        if is_fresh {
            return self
                .fresh
                .post(request)
                .await
                .map_err(|error| RequestError::Http { error, is_kept: false });
        }
        match self.http.post(request).await {
            Ok(response) => {
                self.kept.answered(response.extensions());
                Ok(response)
            }
            Err(error) => {
                let mut info = http::Extensions::new();
                if let Some(connected) = error.connect_info() {
                    connected.get_extras(&mut info);
                }
                let is_kept = self.kept.forget(&info);
                Err(RequestError::Http { error, is_kept })
            }
        }
    }
}

fn header_of(password: &Credential, asked: &Asked) -> crate::core::error::Result<HeaderValue> {
    let mut header =
        HeaderValue::from_str(asked.secret.expose()).map_err(|_| password.failed(NOT_A_HEADER))?;
    header.set_sensitive(true);
    Ok(header)
}

/// The connections that have carried an answer, by the address of our end, which no two have at a time.
#[derive(Default)]
struct KeptConnections(Mutex<VecDeque<SocketAddr>>);

/// More connections than INSERTs are under way at a time.
const MAX_KEPT: usize = 256;

impl KeptConnections {
    fn answered(&self, info: &http::Extensions) {
        let Some(info) = info.get::<HttpInfo>() else { return };
        let mut kept = self.lock();
        if !kept.contains(&info.local_addr()) {
            kept.push_back(info.local_addr());
            if kept.len() > MAX_KEPT {
                kept.pop_front();
            }
        }
    }

    /// A connection ended; says whether it had carried an answer.
    fn forget(&self, info: &http::Extensions) -> bool {
        let Some(info) = info.get::<HttpInfo>() else { return false };
        let mut kept = self.lock();
        let at = kept.iter().position(|address| *address == info.local_addr());
        at.is_some_and(|at| kept.remove(at).is_some())
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<SocketAddr>> {
        lock(&self.0)
    }
}

/// The blocks of an INSERT as a request body, sent without a copy, or the text of a query.
pub struct RequestBody {
    frames: VecDeque<Bytes>,
    left: u64,
    /// Set where the body is a form of several parts.
    boundary: Option<u128>,
    /// Dropped with the body: hyper has taken all of it, or has given it up.
    _taken: Option<tokio::sync::oneshot::Sender<()>>,
}

impl RequestBody {
    /// The receiver ends when the body is taken.
    pub fn new(frames: &[Bytes]) -> (RequestBody, tokio::sync::oneshot::Receiver<()>) {
        let (sender, taken) = tokio::sync::oneshot::channel();
        let left = frames.iter().map(|frame| frame.len() as u64).sum();
        (
            RequestBody {
                frames: frames.iter().cloned().collect(),
                left,
                boundary: None,
                _taken: Some(sender),
            },
            taken,
        )
    }

    /// A text, such as a query.
    pub fn text(text: &str) -> RequestBody {
        RequestBody::new(&[Bytes::copy_from_slice(text.as_bytes())]).0
    }

    /// A form with one file of this name.
    pub fn form(name: &str, content: Bytes) -> RequestBody {
        let boundary = u128::from(random_bits()) << 64 | u128::from(random_bits());
        let text = boundary_text(boundary);
        let before = format!(
            "--{text}\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{name}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        );
        let after = format!("\r\n--{text}--\r\n");
        let (body, _) = RequestBody::new(&[before.into(), content, after.into()]);
        RequestBody { boundary: Some(boundary), ..body }
    }
}

fn boundary_text(boundary: u128) -> String {
    format!("millrace-{boundary:032x}")
}

/// Over TLS hyper copies each chunk of the body into one buffer that keeps its size, so chunks are
/// small.
const MAX_BODY_CHUNK: usize = 64 << 10;

impl RequestBody {
    fn next_chunk(&mut self) -> Option<Bytes> {
        let first = self.frames.front_mut()?;
        let chunk = first.split_to(first.len().min(MAX_BODY_CHUNK));
        if first.is_empty() {
            self.frames.pop_front();
        }
        self.left -= chunk.len() as u64;
        Some(chunk)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.next_chunk().map(|chunk| Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

fn pooled<C, B>(connector: C) -> legacy::Client<C, B>
where
    C: Connect + Clone,
    B: Body + Send,
    B::Data: Send,
{
    legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .build(connector)
}

fn tcp(connect_timeout: Duration) -> HttpConnector {
    let mut connector = HttpConnector::new();
    // The connector of TLS stands before this one, with URLs that are https.
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(connect_timeout));
    connector.set_keepalive(Some(Duration::from_secs(60)));
    connector
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_comes_in_chunks_that_are_not_copied() {
        let frames = [vec![1; 3 * MAX_BODY_CHUNK / 2], Vec::new(), vec![2; 10]].map(Bytes::from);
        let (mut body, _taken) = RequestBody::new(&frames);
        assert_eq!(body.size_hint().exact(), Some(3 * MAX_BODY_CHUNK as u64 / 2 + 10));
        let chunks: Vec<_> = std::iter::from_fn(|| body.next_chunk()).collect();
        let lengths: Vec<_> = chunks.iter().map(Bytes::len).collect();
        assert_eq!(lengths, [MAX_BODY_CHUNK, MAX_BODY_CHUNK / 2, 0, 10]);
        assert_eq!(chunks[0].as_ptr(), frames[0].as_ptr());
        assert_eq!((body.is_end_stream(), body.size_hint().exact()), (true, Some(0)));
    }

    #[test]
    fn a_form_has_its_file_between_boundaries() {
        let mut body = RequestBody::form("rows", Bytes::from_static(b"content"));
        let boundary = boundary_text(body.boundary.unwrap());
        let len = body.size_hint().exact().unwrap();
        let text = std::iter::from_fn(|| body.next_chunk()).flatten().collect::<Vec<_>>();
        assert_eq!(text.len() as u64, len);
        let text = String::from_utf8(text).unwrap();
        assert!(text.starts_with(&format!("--{boundary}\r\n")));
        assert!(text.ends_with(&format!("\r\n\r\ncontent\r\n--{boundary}--\r\n")));
    }

    #[test]
    fn a_query_of_the_url_is_left_out() {
        assert_eq!(base("http://host:8123"), "http://host:8123/");
        assert_eq!(base("https://host/ch?password=x"), "https://host/ch");
    }
}
