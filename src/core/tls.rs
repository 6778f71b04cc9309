//! TLS for both sides, the broker's and ClickHouse's: by rustls, with ring as its only cryptography.
//!
//! [`Tls`] is the `tls` section of either configuration. Its files are read when the first connection is wanted, by
//! [`Tls::client`]; all connections of that side share what comes of it. [`explain`] finds in the error of any
//! connection what TLS had against it.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, InconsistentKeys, OtherError,
    RootCertStore, SignatureScheme,
};

use crate::core::error::{Error, Result};

#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// Where these options are in the configuration, such as `mqtt.tls`.
    path: &'static str,
    /// The authorities to trust. `None`: the system's.
    pub ca: Option<Pem>,
    pub identity: Option<Identity>,
    /// What the server's certificate must be valid for. `None`: the host of the URL.
    pub server_name: Option<ServerName<'static>>,
    /// Takes any certificate.
    pub insecure: bool,
    client: OnceLock<Arc<ClientConfig>>,
}

/// What we show to a server that asks who we are.
#[derive(Debug, Clone)]
pub struct Identity {
    pub cert: Pem,
    pub key: Pem,
}

#[derive(Debug, Clone)]
pub enum Pem {
    Text(String),
    File(PathBuf),
}

impl Pem {
    /// No path holds this mark, and every PEM text does, though other text may stand before it.
    pub fn new(given: String) -> Pem {
        if given.contains("-----BEGIN ") { Pem::Text(given) } else { Pem::File(given.into()) }
    }

    fn read(&self) -> Result<Cow<'_, [u8]>, String> {
        match self {
            Pem::Text(text) => Ok(text.as_bytes().into()),
            Pem::File(file) => std::fs::read(file)
                .map(Cow::Owned)
                .map_err(|error| format!("{} cannot be read: {error}", file.display())),
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

    /// What connections of this side are made with. Errors are `CONFIG_INVALID` with the option's path.
    pub fn client(&self) -> Result<Arc<ClientConfig>> {
        if let Some(client) = self.client.get() {
            return Ok(client.clone());
        }
        let client = Arc::new(self.load()?);
        Ok(self.client.get_or_init(|| client).clone())
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
            rustls::Error::InvalidCertificate(error) => self.wrong("cert", error.to_string()),
            error => self.wrong("key", error.to_string()),
        })
    }

    fn authorities(&self) -> Result<RootCertStore, String> {
        let mut roots = RootCertStore::empty();
        match &self.ca {
            Some(ca) => {
                for certificate in ca.certificates()? {
                    roots.add(certificate).map_err(|error| format!("cannot be used: {error}"))?;
                }
            }
            None => {
                let found = rustls_native_certs::load_native_certs();
                // A system may have certificates of kinds that nobody uses any more.
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

/// `insecure`: whoever answers is taken for the server, so that anybody on the way can read and change everything.
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

/// What TLS had against a connection, in words for whoever runs it; `None` if it was something else.
pub fn explain(error: &(dyn StdError + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref() {
            return Some(reason(error));
        }
        // What an `io::Error` wraps is not its source, but in its place.
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    None
}

fn reason(error: &rustls::Error) -> String {
    use AlertDescription as Alert;
    match error {
        rustls::Error::InvalidCertificate(error) => certificate(error),
        rustls::Error::InvalidMessage(_) => format!("what it sent is not TLS: {error}"),
        rustls::Error::AlertReceived(alert) => match alert {
            Alert::CertificateRequired => "it requires a client certificate: tls.cert and tls.key".into(),
            Alert::UnknownCA => "it does not know the authority that issued our client certificate".into(),
            Alert::CertificateExpired => "it says that our client certificate has expired".into(),
            Alert::BadCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateUnknown
            | Alert::UnsupportedCertificate => {
                format!("it refuses our client certificate, or requires one ({alert:?})")
            }
            // All that TLS 1.2 says where a client certificate is missing.
            Alert::HandshakeFailure => {
                "it broke off the TLS handshake: it requires a client certificate, or has no \
                                        cipher in common with us"
                    .into()
            }
            Alert::ProtocolVersion => "it has no version of TLS in common with us: 1.2 or 1.3".into(),
            alert => format!("it broke off TLS with the alert {alert:?}"),
        },
        error => error.to_string(),
    }
}

fn certificate(error: &CertificateError) -> String {
    let time = |at: &UnixTime| {
        let seconds = at.as_secs().try_into().unwrap_or(i64::MAX);
        jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |at| at.to_string())
    };
    match error {
        CertificateError::ExpiredContext { not_after, .. } => {
            format!("its certificate expired at {}", time(not_after))
        }
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!("its certificate is not valid before {}", time(not_before))
        }
        CertificateError::UnknownIssuer => {
            "its certificate was not issued by an authority that we trust: those of tls.ca, or else the system's".into()
        }
        CertificateError::NotValidForNameContext { expected, presented } if presented.is_empty() => {
            format!("its certificate is not valid for {}: it names no host (subjectAltName)", expected.to_str())
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            format!("its certificate is not valid for {}, but for {}", expected.to_str(), presented.join(", "))
        }
        CertificateError::Other(OtherError(error))
            if error.downcast_ref() == Some(&webpki::Error::CaUsedAsEndEntity) =>
        {
            "its certificate is that of an authority (CA:TRUE), which a server must not show: it needs one that the \
             authority issued, or one with CA:FALSE"
                .into()
        }
        error => format!("its certificate is not valid: {error}"),
    }
}
