//! What TLS is spoken with: certificates, keys and authorities out of the user's files.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tempos_abi::PluginError;

/// The options of TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The file of our own certificate, with those between it and the authority.
    pub certificate: Option<PathBuf>,
    /// The file of its private key.
    pub key: Option<PathBuf>,
    /// The file of the authority that the peer's certificate is checked against.
    pub authority: Option<PathBuf>,
    /// The name in the receiver's certificate.
    pub server_name: Option<String>,
}

impl Tls {
    /// What a listener speaks; with an authority it takes only senders with a certificate of that authority.
    ///
    /// # Errors
    /// One sentence: which file is wrong, and why.
    pub fn server(&self, channel: &str) -> Result<Arc<ServerConfig>, PluginError> {
        let wrong = |sentence: String| wrong(channel, &sentence);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong(format!("TLS: {error}")))?;
        let builder = match &self.authority {
            None => builder.with_no_client_auth(),
            Some(file) => {
                let roots = Arc::new(authority(channel, file)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
                let told = |error| wrong(format!("authority {}: {error}", file.display()));
                builder.with_client_cert_verifier(verifier.map_err(told)?)
            }
        };
        let Some((certificates, key)) = self.own(channel)? else {
            return Err(wrong(String::from(
                "tls needs certificate and key, the files of the listener's own",
            )));
        };
        let config = builder.with_single_cert(certificates, key);
        config.map(Arc::new).map_err(|error| wrong(format!("certificate and key do not fit: {error}")))
    }

    /// What a sender speaks, and the name that the receiver's certificate is to have.
    ///
    /// # Errors
    /// As [`Tls::server`].
    pub fn client(
        &self,
        channel: &str,
        to: IpAddr,
    ) -> Result<(Arc<ClientConfig>, ServerName<'static>), PluginError> {
        let wrong = |sentence: String| wrong(channel, &sentence);
        let Some(file) = &self.authority else {
            return Err(wrong(String::from("tls needs authority, the file to check the receiver against")));
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong(format!("TLS: {error}")))?
            .with_root_certificates(authority(channel, file)?);
        let config = match self.own(channel)? {
            None => builder.with_no_client_auth(),
            Some((certificates, key)) => builder
                .with_client_auth_cert(certificates, key)
                .map_err(|error| wrong(format!("certificate and key do not fit: {error}")))?,
        };
        let name = match &self.server_name {
            None => ServerName::IpAddress(to.into()),
            Some(name) => ServerName::try_from(name.clone()).map_err(|_| {
                wrong(format!("server_name = {name:?} is neither a host's name nor an address"))
            })?,
        };
        Ok((Arc::new(config), name))
    }

    fn own(&self, channel: &str) -> Result<Option<Own>, PluginError> {
        let (certificate, key) = match (&self.certificate, &self.key) {
            (None, None) => return Ok(None),
            (Some(certificate), Some(key)) => (certificate, key),
            _ => return Err(wrong(channel, "certificate and key go together; give both or neither")),
        };
        let certificates = certificates(channel, "certificate", certificate)?;
        let key = PrivateKeyDer::from_pem_file(key).map_err(|error| {
            wrong(channel, &format!("key {} holds no private key in PEM: {error}", key.display()))
        })?;
        Ok(Some((certificates, key)))
    }
}

type Own = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn wrong(channel: &str, sentence: &str) -> PluginError {
    PluginError::bad_option(format!("tcp channel \"{channel}\": {sentence}"))
}

fn certificates(channel: &str, what: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>, PluginError> {
    let no_file =
        |error| wrong(channel, &format!("{what} {} holds no certificate in PEM: {error}", file.display()));
    let all: Vec<_> = CertificateDer::pem_file_iter(file).and_then(Iterator::collect).map_err(no_file)?;
    match all.is_empty() {
        true => Err(wrong(channel, &format!("{what} {} holds no certificate in PEM", file.display()))),
        false => Ok(all),
    }
}

fn authority(channel: &str, file: &Path) -> Result<RootCertStore, PluginError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(channel, "authority", file)? {
        roots.add(certificate).map_err(|error| {
            wrong(channel, &format!("authority {} cannot be trusted: {error}", file.display()))
        })?;
    }
    Ok(roots)
}
