//! TLS for both sides, the broker's and ClickHouse's: by rustls, with ring as its only cryptography.
//!
//! [`Tls`] is the `tls` section of either configuration. Its files are read when the first connection is wanted, by
//! [`Tls::client`], and again when a connection is wanted after they changed; all connections of that side share what comes
//! of them. [`explain`] finds in the error of any
//! connection what TLS had against it.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, InconsistentKeys, OtherError,
    RootCertStore, SignatureScheme,
};

use crate::core::error::{Error, Result};
use crate::core::lock::lock;

#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// Where these options are in the configuration, such as `mqtt.tls`.
    path: &'static str,
    /// The authorities to trust. `None`: the system's.
    pub ca: Option<Pem>,
    pub identity: Option<Identity>,
    /// The name that the server's certificate must be valid for. `None`: the host of the URL.
    pub server_name: Option<ServerName<'static>>,
    /// Takes any certificate.
    pub insecure: bool,
    /// The protocols that are offered within TLS, such as `x-amzn-mqtt-ca`.
    pub alpn: Vec<String>,
    /// Clones share it.
    loaded: Arc<Mutex<Option<Loaded>>>,
}

/// The configuration by the files, as they were then.
#[derive(Debug)]
struct Loaded {
    files: Vec<Option<FileStamp>>,
    client: Arc<ClientConfig>,
}

/// Differs when a file was written or replaced.
#[derive(Debug, PartialEq, Eq)]
struct FileStamp {
    modified: Option<SystemTime>,
    bytes: u64,
    /// Its number and the time of its last change, where the system has them: a file may be replaced by an older one.
    inode: (u64, i64, i64),
}

impl FileStamp {
    /// `None`: it cannot be read.
    fn of(file: &Path) -> Option<FileStamp> {
        let metadata = std::fs::metadata(file).ok()?;
        #[cfg(unix)]
        let inode = {
            use std::os::unix::fs::MetadataExt;
            (metadata.ino(), metadata.ctime(), metadata.ctime_nsec())
        };
        #[cfg(not(unix))]
        let inode = (0, 0, 0);
        Some(FileStamp { modified: metadata.modified().ok(), bytes: metadata.len(), inode })
    }
}

/// The client certificate and its key.
#[derive(Debug, Clone)]
pub struct Identity {
    pub cert: Pem,
    pub key: Pem,
}

#[derive(Clone)]
pub enum Pem {
    Text(String),
    File(PathBuf),
}

/// Whether a path is a key that lacks its lines of BEGIN and END. It must not be printed. All of DER that a key can be is a
/// SEQUENCE, whose base64 begins with an M, and is longer than 40 characters.
fn is_bare_key(path: &Path) -> bool {
    let text = path.as_os_str().as_encoded_bytes();
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/= ".contains(byte);
    text.len() > 40 && text[0] == b'M' && text.iter().all(is_base64)
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Pem::Text(_) => "a text",
            Pem::File(_) => "a file",
        })
    }
}

impl Pem {
    /// No path holds this mark, and every PEM text does, though other text may stand before it.
    pub fn new(given: String) -> Pem {
        if given.contains("-----BEGIN ") { Pem::Text(given) } else { Pem::File(given.into()) }
    }

    fn read(&self) -> Result<Cow<'_, [u8]>, String> {
        match self {
            Pem::Text(text) => Ok(text.as_bytes().into()),
            Pem::File(file) => std::fs::read(file).map(Cow::Owned).map_err(|error| match is_bare_key(file) {
                true => "is base64 without the lines of PEM around it: -----BEGIN … and -----END …".into(),
                false => format!("{} cannot be read: {error}", file.display()),
            }),
        }
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, String> {
        let found: Vec<_> = CertificateDer::pem_slice_iter(&self.read()?)
            .collect::<Result<_, _>>()
            .map_err(|error| format!("is not PEM: {error}"))?;
        if found.is_empty() { Err("holds no certificate in PEM".into()) } else { Ok(found) }
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>, String> {
        let text = self.read()?;
        match PrivateKeyDer::from_pem_slice(&text) {
            Err(_) if text.windows(9).any(|word| word == b"ENCRYPTED") => {
                Err("is encrypted: decrypt it, as `openssl pkey` does".into())
            }
            Err(pem::Error::NoItemsFound) => Err("holds no private key in PEM".into()),
            key => key.map_err(|error| format!("is not PEM: {error}")),
        }
    }
}

impl Tls {
    pub fn at(path: &'static str) -> Tls {
        Tls { path, ..Tls::default() }
    }

    /// The configuration of client connections, by the files as they are now. Errors are `CONFIG_INVALID` with the option's
    /// path.
    pub fn client(&self) -> Result<Arc<ClientConfig>> {
        // Before they are read: one that changes meanwhile is read again the next time.
        let files = self.files().map(FileStamp::of).collect();
        let mut loaded = lock(&self.loaded);
        if let Some(loaded) = loaded.as_ref().filter(|loaded| loaded.files == files) {
            return Ok(loaded.client.clone());
        }
        let mut client = self.load()?;
        client.alpn_protocols = self.alpn.iter().map(|name| name.clone().into_bytes()).collect();
        let client = Arc::new(client);
        *loaded = Some(Loaded { files, client: client.clone() });
        Ok(client)
    }

    /// The files that hold certificates and the key.
    fn files(&self) -> impl Iterator<Item = &Path> {
        let identity = self.identity.iter().flat_map(|identity| [&identity.cert, &identity.key]);
        self.ca.iter().chain(identity).filter_map(|pem| match pem {
            Pem::File(file) => Some(file.as_path()),
            Pem::Text(_) => None,
        })
    }

    fn load(&self) -> Result<ClientConfig> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| self.wrong("ca", error.to_string()))?;
        let builder = if self.insecure {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyServer(provider)))
        } else {
            builder.with_root_certificates(self.authorities().map_err(|message| self.wrong("ca", message))?)
        };
        let Some(Identity { cert, key }) = &self.identity else { return Ok(builder.with_no_client_auth()) };
        let chain = cert.certificates().map_err(|message| self.wrong("cert", message))?;
        let key = key.key().map_err(|message| self.wrong("key", message))?;
        builder.with_client_auth_cert(chain, key).map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                self.wrong("key", "is not the key of cert".into())
            }
            rustls::Error::InvalidCertificate(error) => self.wrong("cert", certificate_fault(&error)),
            error => self.wrong("key", error.to_string()),
        })
    }

    fn authorities(&self) -> Result<RootCertStore, String> {
        let mut roots = RootCertStore::empty();
        match &self.ca {
            Some(ca) => {
                for certificate in ca.certificates()? {
                    roots.add(certificate).map_err(|error| match error {
                        rustls::Error::InvalidCertificate(error) => certificate_fault(&error),
                        error => format!("cannot be used: {error}"),
                    })?;
                }
            }
            None => {
                let found = rustls_native_certs::load_native_certs();
                // A system may have certificates of obsolete kinds.
                roots.add_parsable_certificates(found.certs);
                if roots.is_empty() {
                    let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
                    return Err(format!(
                        "is needed: this system has no list of authorities{why}; installing ca-certificates \
                         usually brings one"
                    ));
                }
            }
        }
        Ok(roots)
    }

    fn wrong(&self, option: &str, message: String) -> Error {
        Error::config(format!("{}.{option}", self.path), message)
    }
}

/// `insecure`: any server is accepted, so that an attacker in between can read and change everything.
#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Why TLS refused a connection, in words for an operator; `None` if the error is not of TLS.
pub fn explain(error: &(dyn StdError + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref() {
            return Some(reason(error));
        }
        let io = error.downcast_ref::<io::Error>();
        if io.is_some_and(|io| io.kind() == io::ErrorKind::UnexpectedEof && io.to_string().contains(NO_CLOSE))
        {
            return Some("it closed the connection".into());
        }
        // The error within an `io::Error` is not its source but takes its place.
        next = match io.and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    None
}

/// A connection that ends without the farewell of TLS: rustls says so with the address of a manual.
const NO_CLOSE: &str = "without sending TLS close_notify";

fn reason(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(error) => format!("its certificate {}", certificate_fault(error)),
        rustls::Error::InvalidMessage(_) => {
            format!(
                "what it sent is not TLS: {error}; perhaps it is not encrypted here, which {PLAIN} is for"
            )
        }
        rustls::Error::AlertReceived(alert) => alert_reason(*alert),
        rustls::Error::PeerIncompatible(what) => {
            format!("it has no TLS in common with us, which is 1.2 or 1.3 with today's ciphers ({what:?})")
        }
        rustls::Error::PeerMisbehaved(what) => format!("it breaks the rules of TLS ({what:?})"),
        error => error.to_string(),
    }
}

/// The schemes of servers without encryption.
const PLAIN: &str = "mqtt://, ws:// or http://";

/// The meaning of an alert with which a server ends TLS; most often our certificate is the reason.
fn alert_reason(alert: AlertDescription) -> String {
    use AlertDescription as Alert;
    match alert {
        Alert::CertificateRequired => "it requires a client certificate: tls.cert and tls.key".into(),
        Alert::UnknownCA => {
            "it does not know the authority that issued our client certificate: have tls.cert issued by one that it \
             trusts, with all certificates between the two in the same file"
                .into()
        }
        Alert::CertificateExpired => {
            "it says that our client certificate has expired: renew tls.cert, or set its clock".into()
        }
        Alert::CertificateRevoked => "it says that our client certificate, tls.cert, was revoked".into(),
        Alert::UnsupportedCertificate => {
            "it does not take a client certificate such as ours: tls.cert may lack clientAuth in its extendedKeyUsage"
                .into()
        }
        Alert::BadCertificate | Alert::CertificateUnknown | Alert::AccessDenied => {
            format!("it refuses our client certificate, or requires one: tls.cert and tls.key ({alert:?})")
        }
        Alert::DecryptError => {
            "it says that a signature of ours is wrong: is tls.key the key of tls.cert, and known to it?".into()
        }
        // All that TLS 1.2 says where a client certificate is missing.
        Alert::HandshakeFailure => "it broke off the TLS handshake: it requires a client certificate, or has no cipher \
                                    in common with us"
            .into(),
        Alert::ProtocolVersion => "it has no version of TLS in common with us: 1.2 or 1.3".into(),
        Alert::NoApplicationProtocol => "it speaks none of the protocols in tls.alpn".into(),
        Alert::UnrecognisedName => "it has no certificate for the host of the URL".into(),
        alert => format!("it broke off TLS with the alert {alert:?}"),
    }
}

/// The fault of a certificate and its remedy: the end of a sentence that begins with the certificate.
fn certificate_fault(error: &CertificateError) -> String {
    let time = |at: &UnixTime| {
        let seconds = at.as_secs().try_into().unwrap_or(i64::MAX);
        jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |at| at.to_string())
    };
    let now = || time(&UnixTime::now());
    match error {
        CertificateError::ExpiredContext { not_after, .. } => {
            format!("expired at {}: renew it; our clock says {}", time(not_after), now())
        }
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!("is not valid before {}: our clock says {}", time(not_before), now())
        }
        CertificateError::UnknownIssuer => {
            "was not issued by an authority that we trust: those of tls.ca, or else the system's. Name the authority in \
             tls.ca, and have the server send the certificates between the two"
                .into()
        }
        CertificateError::NotValidForNameContext { expected, presented } if presented.is_empty() => format!(
            "is not valid for {}: it names no host (subjectAltName); its common name does not count",
            expected.to_str()
        ),
        CertificateError::NotValidForNameContext { expected, presented } => {
            format!("is not valid for {}, but for {}", expected.to_str(), presented.join(", "))
        }
        CertificateError::BadSignature => {
            "has a wrong signature: the authority in tls.ca has the name of the one that issued it and another key, or the \
             server holds the key of another certificate"
                .into()
        }
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "is signed in a way that is too weak or not known, such as with SHA-1: issue it anew, with SHA-256 and a key of \
             EC P-256 or RSA with 2,048 bits"
                .into()
        }
        CertificateError::InvalidPurposeContext { .. } => {
            "is not one for servers: its extendedKeyUsage lacks serverAuth".into()
        }
        CertificateError::Revoked => "was revoked".into(),
        CertificateError::Other(OtherError(error)) => match error.downcast_ref::<webpki::Error>() {
            Some(webpki::Error::UnsupportedCertVersion) => "is one of X.509 version 1 or 2, and TLS takes version 3: \
                `openssl x509 -req` makes version 1 unless it is given extensions, such as with `-extfile names.txt` where \
                names.txt has the line `subjectAltName = DNS:broker.example, IP:192.0.2.1`"
                .into(),
            Some(webpki::Error::CaUsedAsEndEntity) => {
                "is that of an authority (CA:TRUE), which a server must not show: it needs one that the authority issued, \
                 or one with CA:FALSE"
                    .into()
            }
            Some(webpki::Error::EndEntityUsedAsCa) => {
                "was issued by one that is not an authority's: that one needs basicConstraints = CA:TRUE".into()
            }
            _ => format!("is not valid: {error}"),
        },
        error => format!("is not valid: {error}"),
    }
}
