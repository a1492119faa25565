//! Creates connections to one server of the installation: credentials, TLS and socket options.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig, MultiplexedConnection};
use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo as _, ProtocolVersion, RedisConnectionInfo,
    RedisResult, TlsCertificates,
};

use super::address::{Address, Node};
use super::{COMMAND_TIMEOUT, CONNECT_TIMEOUT, MAX_RECONNECT_PAUSE};

/// How long a connection may be silent before the kernel probes whether the other side is still there.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(2);

/// Commands that may wait in the pipeline of one shared connection. Further callers wait to enqueue theirs.
const PIPELINE_COMMANDS: usize = 4_096;

/// Creates connections to every server of the installation. Clones share the certificates.
#[derive(Clone)]
pub(super) struct ConnectionFactory {
    login: RedisConnectionInfo,
    tls: bool,
    /// The certificate authorities to trust, in PEM; without them Mozilla's list.
    authorities: Option<Arc<Vec<u8>>>,
}

impl ConnectionFactory {
    /// The factory for the installation at `address`. It trusts `authorities`, in PEM, instead of the public ones.
    pub(super) fn new(address: &Address, authorities: Option<Vec<u8>>) -> Self {
        if address.tls {
            // The driver uses the process's default provider and panics where there is none. A second call changes nothing.
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        }
        let mut login = RedisConnectionInfo::default().set_db(address.db);
        if let Some(user) = &address.user {
            login = login.set_username(user);
        }
        if let Some(password) = &address.password {
            login = login.set_password(password.expose());
        }
        Self {
            login,
            tls: address.tls,
            authorities: authorities.map(Arc::new),
        }
    }

    /// The same for a sentinel, which has no databases.
    pub(super) fn for_sentinels(&self) -> Self {
        Self {
            login: self.login.clone().set_db(0),
            ..self.clone()
        }
    }

    /// The same without user and password.
    pub(super) fn without_login(&self) -> Self {
        Self {
            login: RedisConnectionInfo::default(),
            ..self.clone()
        }
    }

    /// A client of `node`, which connects to nothing yet.
    ///
    /// Its connections set TCP_NODELAY: the driver leaves it off, and small commands would wait for the other side's delayed
    /// acknowledgement. The kernel closes them when Redis acknowledges nothing for some seconds: the driver keeps a connection
    /// whose answers stay out.
    pub(super) fn client(&self, node: &Node) -> RedisResult<Client> {
        let keepalive =
            TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(Duration::from_secs(1)).with_retries(3);
        let tcp = TcpSettings::default()
            .set_nodelay(true)
            .set_keepalive(keepalive)
            .set_user_timeout(KEEPALIVE_AFTER * 2);
        let (host, port) = (node.host.to_string(), node.port);
        let address = if self.tls {
            ConnectionAddr::TcpTls {
                host,
                port,
                insecure: false,
                tls_params: None,
            }
        } else {
            ConnectionAddr::Tcp(host, port)
        };
        let info = address.into_connection_info()?.set_redis_settings(self.login.clone()).set_tcp_settings(tcp);
        match &self.authorities {
            Some(authorities) if self.tls => {
                let root_cert = Some(authorities.to_vec());
                Client::build_with_tls(
                    info,
                    TlsCertificates {
                        client_tls: None,
                        root_cert,
                    },
                )
            }
            _ => Client::open(info),
        }
    }

    /// A connection that many tasks share and that connects, and reconnects, by itself.
    ///
    /// An outage becomes an error of each command that is sent meanwhile; none is sent a second time.
    pub(super) fn managed(&self, node: &Node) -> RedisResult<ConnectionManager> {
        let config = ConnectionManagerConfig::new()
            .set_response_timeout(Some(COMMAND_TIMEOUT))
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_max_delay(MAX_RECONNECT_PAUSE)
            .set_number_of_retries(1)
            .set_pipeline_buffer_size(PIPELINE_COMMANDS);
        ConnectionManager::new_lazy_with_config(self.client(node)?, config)
    }

    /// A connection for one caller, which does not reconnect. Its commands are answered within `answers_within`.
    pub(super) async fn dedicated(&self, node: &Node, answers_within: Duration) -> RedisResult<MultiplexedConnection> {
        let client = self.client(node)?;
        client.get_multiplexed_async_connection_with_config(&connection_config(answers_within)).await
    }

    /// A connection for subscriptions. Messages that the server pushes go to `pushes`, which must not block.
    pub(super) async fn subscribing(
        &self,
        node: &Node,
        answers_within: Duration,
        pushes: impl redis::aio::AsyncPushSender,
    ) -> RedisResult<MultiplexedConnection> {
        // Only in the third version of the protocol do commands and messages share a connection.
        let login = self.login.clone().set_protocol(ProtocolVersion::RESP3);
        let client = Self { login, ..self.clone() }.client(node)?;
        let config = connection_config(answers_within).set_push_sender(pushes);
        client.get_multiplexed_async_connection_with_config(&config).await
    }
}

/// The settings of connections that do not reconnect.
pub(super) fn connection_config(answers_within: Duration) -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(answers_within))
}
