//! A Redis that requires TLS, and a user with a password and few rights.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::failure::Result;
use crate::ports::free_port;
use crate::redis_node::RedisNode;

/// The user of the services.
const USER: &str = "roomcast";

/// Their password, with characters that have a meaning in a URL.
const PASSWORD: &str = "s3cret:p@ss/word";

/// A server whose certificate is issued by an authority of its own.
pub struct RedisTls {
    /// The server; its port without TLS is for inspecting its data.
    pub server: RedisNode,
    port: u16,
    authority: PathBuf,
    foreign_authority: PathBuf,
}

impl RedisTls {
    /// Starts one under `directory` on which the user of the services has `rights`, as rules of an access control list.
    pub async fn start(directory: &Path, rights: &str) -> Result<Self> {
        let issue = |name: &str| -> Result<(CertifiedIssuer<'static, KeyPair>, PathBuf)> {
            let mut params = CertificateParams::new(Vec::new())?;
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
            let file = directory.join(format!("{name}.pem"));
            fs::write(&file, authority.pem())?;
            Ok((authority, file))
        };
        let (issuer, authority) = issue("authority")?;
        let (_, foreign_authority) = issue("foreign-authority")?;
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()])?.signed_by(&key, &issuer)?;
        let path = |name: &str| directory.join(name).display().to_string();
        let (certificate_file, key_file) = (path("redis.pem"), path("redis.key"));
        fs::write(&certificate_file, certificate.pem())?;
        fs::write(&key_file, key.serialize_pem())?;

        let port = free_port()?;
        let (port_text, user) = (port.to_string(), format!("--user {USER} on >{PASSWORD} {rights}"));
        let tls = [
            "--tls-port",
            &port_text,
            "--tls-cert-file",
            &certificate_file,
            "--tls-key-file",
            &key_file,
        ];
        let rest = ["--tls-auth-clients", "no", "--tls-ca-cert-file", &certificate_file];
        let user: Vec<&str> = user.split_whitespace().collect();
        let server = RedisNode::start("redis-tls", directory, &[&tls[..], &rest, &user].concat()).await?;
        Ok(Self {
            server,
            port,
            authority,
            foreign_authority,
        })
    }

    /// The URL for clients, with `password`.
    fn url_with(&self, password: &str) -> String {
        format!("rediss://{USER}:{password}@127.0.0.1:{}", self.port)
    }

    /// The URL for clients.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_with(&PASSWORD.replace(':', "%3A").replace('@', "%40").replace('/', "%2F"))
    }

    /// The URL with a password that Redis does not know.
    #[must_use]
    pub fn url_with_wrong_password(&self) -> String {
        self.url_with("gu3ss")
    }

    /// The certificate of the authority that issued the server's.
    #[must_use]
    pub fn authority(&self) -> String {
        self.authority.display().to_string()
    }

    /// The certificate of another authority.
    #[must_use]
    pub fn foreign_authority(&self) -> String {
        self.foreign_authority.display().to_string()
    }
}
