//! The server's certificate: read from two PEM files, read again when they change or at SIGHUP. One that
//! cannot be used is refused with a line in the log, and the one before stays.

use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, ServerConfig};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio_rustls::TlsAcceptor;

/// How often is looked whether the files are others. They count once they have stayed the same for as long:
/// whoever renews them writes one after the other.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Where a certificate and its key are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, then those that lead to the authority's, as PEM.
    pub cert: PathBuf,
    /// Its private key as PEM: PKCS#8, PKCS#1 or SEC1, not encrypted.
    pub key: PathBuf,
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("the {what} file {path}")]
    File {
        /// `certificate` or `key`.
        what: &'static str,
        /// Which.
        path: String,
        /// Why.
        source: pem::Error,
    },
    /// It holds nothing of the kind.
    #[error("{path} holds no {what} in PEM form")]
    Empty {
        /// `certificate` or `private key without a passphrase`.
        what: &'static str,
        /// Which.
        path: String,
    },
    /// The two do not belong together.
    #[error("the key in {key} is not that of the certificate in {cert}")]
    Mismatch {
        /// The certificate's file.
        cert: String,
        /// The key's file.
        key: String,
    },
    /// rustls does not take it.
    #[error("the certificate in {cert} cannot be used")]
    Unusable {
        /// Its file.
        cert: String,
        /// Why.
        source: rustls::Error,
    },
}

/// The certificate that is shown now.
#[derive(Debug)]
pub struct Certificate {
    files: TlsFiles,
    shown: RwLock<Arc<CertifiedKey>>,
}

/// When and how large the files are: whether they are others.
type Stamp = [Option<(i64, i64, u64, u64)>; 2];

impl Certificate {
    /// Reads the files.
    pub fn load(files: TlsFiles) -> Result<Arc<Self>, TlsError> {
        let shown = RwLock::new(Arc::new(read(&files)?));
        Ok(Arc::new(Self { files, shown }))
    }

    /// What listeners shake hands with: TLS 1.2 and 1.3, HTTP/1.1.
    pub fn acceptor(self: &Arc<Self>) -> Result<TlsAcceptor, TlsError> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|source| TlsError::Unusable { cert: self.files.cert.display().to_string(), source })?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as _);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    /// Looks after the files until the server ends.
    pub async fn keep(self: Arc<Self>) {
        let Ok(mut hangup) = signal(SignalKind::hangup()) else { return };
        let (mut known, mut last) = (stamp(&self.files), stamp(&self.files));
        loop {
            let asked = tokio::select! {
                _ = hangup.recv() => true,
                () = tokio::time::sleep(LOOK_EVERY) => false,
            };
            let now = stamp(&self.files);
            if asked || (now != known && now == last) {
                self.reload().await;
                known = now;
            }
            last = now;
        }
    }

    async fn reload(&self) {
        let files = self.files.clone();
        let cert = files.cert.display().to_string();
        match tokio::task::spawn_blocking(move || read(&files)).await {
            Ok(Ok(found)) => {
                *self.shown.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(found);
                tracing::info!(cert, "the certificate was read again");
            }
            Ok(Err(error)) => {
                let error = crate::gateway::committer::chain(&error);
                tracing::error!(error, "the new certificate is refused: the one before stays");
            }
            Err(error) => tracing::error!(%error, "the certificate was not read again"),
        }
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.shown.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn read(files: &TlsFiles) -> Result<CertifiedKey, TlsError> {
    let (cert, key) = (files.cert.display().to_string(), files.key.display().to_string());
    let file = |what, path: &str| {
        let path = path.to_owned();
        move |source| TlsError::File { what, path, source }
    };
    let chain = CertificateDer::pem_file_iter(&files.cert).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(file("certificate", &cert))?;
    if chain.is_empty() {
        return Err(TlsError::Empty { what: "certificate", path: cert });
    }
    let private = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| match error {
        pem::Error::NoItemsFound => TlsError::Empty { what: "private key without a passphrase", path: key.clone() },
        error => file("key", &key)(error),
    })?;
    CertifiedKey::from_der(chain, private, &ring::default_provider()).map_err(|source| match source {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => TlsError::Mismatch { cert, key },
        source => TlsError::Unusable { cert, source },
    })
}

fn stamp(files: &TlsFiles) -> Stamp {
    let of = |path: &Path| {
        std::fs::metadata(path).ok().map(|meta| (meta.mtime(), meta.mtime_nsec(), meta.len(), meta.ino()))
    };
    [of(&files.cert), of(&files.key)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(folder: &Path, cert: &str, key: &str) -> TlsFiles {
        let files = TlsFiles { cert: folder.join("cert.pem"), key: folder.join("key.pem") };
        std::fs::write(&files.cert, cert).unwrap();
        std::fs::write(&files.key, key).unwrap();
        files
    }

    #[test]
    fn what_is_no_certificate_or_key_is_said_to_be_none() {
        let folder = tempfile::tempdir().unwrap();
        let said = |files: TlsFiles| Certificate::load(files).unwrap_err().to_string();
        assert!(said(files(folder.path(), "", "")).ends_with("cert.pem holds no certificate in PEM form"));
        let cert = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
        let key = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
        assert!(
            said(files(folder.path(), cert, key))
                .ends_with("key.pem holds no private key without a passphrase in PEM form")
        );
        let missing = TlsFiles { cert: folder.path().join("none"), key: folder.path().join("none") };
        assert!(said(missing).starts_with("the certificate file "));
    }
}
