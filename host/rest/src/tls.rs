//! What TLS is spoken with: the node's certificate and key, and the authority of those who may come in.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tempos_control::{Mistake, Origin};

/// What the listener speaks; with an authority it takes only clients with a certificate of that authority.
///
/// # Errors
/// Which file is wrong, and why.
pub fn server(
    certificate: &Path,
    key: &Path,
    authority: Option<&Path>,
) -> Result<Arc<ServerConfig>, Mistake> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(certificate, format!("TLS: {error}")))?;
    let builder = match authority {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(file)? {
                let told = |error| wrong(file, format!("this authority cannot be trusted: {error}"));
                roots.add(certificate).map_err(told)?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| wrong(file, error.to_string()))?)
        }
    };
    let own = certificates(certificate)?;
    let secret = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| wrong(key, format!("it holds no private key in PEM: {error}")))?;
    let mut config = builder
        .with_single_cert(own, secret)
        .map_err(|error| wrong(certificate, format!("the certificate and the key do not fit: {error}")))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn wrong(file: &Path, sentence: String) -> Mistake {
    Mistake::new(&Origin::new(file.display().to_string(), 0), sentence)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Mistake> {
    let all: Vec<_> = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
        .map_err(|error| wrong(file, format!("it holds no certificate in PEM: {error}")))?;
    match all.is_empty() {
        true => Err(wrong(file, "it holds no certificate in PEM".into())),
        false => Ok(all),
    }
}
