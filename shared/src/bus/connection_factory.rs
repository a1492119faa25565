//! How one server of the installation is connected to: credentials, TLS and the behaviour of the socket.

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

/// How long a connection may be silent before the kernel asks whether the other side is still there.
const SILENCE: Duration = Duration::from_secs(2);

/// Commands that may wait in the pipeline of one shared connection; further callers wait to enqueue theirs.
const PIPELINE_COMMANDS: usize = 4_096;

/// The keys to every server. Clones share them.
#[derive(Clone)]
pub(super) struct ConnectionFactory {
    login: RedisConnectionInfo,
    tls: bool,
    /// Whom to believe, in PEM; Mozilla's list of authorities if there is none.
    authorities: Option<Arc<Vec<u8>>>,
}

impl ConnectionFactory {
    /// The access that `address` describes. `authorities`, in PEM, are believed instead of the public ones.
    pub(super) fn new(address: &Address, authorities: Option<Vec<u8>>) -> Self {
        if address.tls {
            // The driver takes the process's choice and panics where none was made. A second call changes nothing.
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

    /// The access to a sentinel: the same, but it has no databases.
    pub(super) fn to_sentinels(&self) -> Self {
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
    /// Every connection made from it has TCP_NODELAY: the driver leaves it off, and small commands would wait for the
    /// other side's delayed acknowledgement. And it is given up by the kernel when Redis acknowledges nothing for some
    /// seconds: the driver keeps a connection whose answers stay out.
    pub(super) fn client(&self, node: &Node) -> RedisResult<Client> {
        let keepalive = TcpKeepalive::new().with_time(SILENCE).with_interval(Duration::from_secs(1)).with_retries(3);
        let tcp = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive).set_user_timeout(SILENCE * 2);
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
    /// An outage shows as an error of each command given meanwhile; none is sent a second time.
    pub(super) fn shared(&self, node: &Node) -> RedisResult<ConnectionManager> {
        let config = ConnectionManagerConfig::new()
            .set_response_timeout(Some(COMMAND_TIMEOUT))
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_max_delay(MAX_RECONNECT_PAUSE)
            .set_number_of_retries(1)
            .set_pipeline_buffer_size(PIPELINE_COMMANDS);
        ConnectionManager::new_lazy_with_config(self.client(node)?, config)
    }

    /// A connection of one's own, whose commands are answered within `answers_within`.
    pub(super) async fn own(&self, node: &Node, answers_within: Duration) -> RedisResult<MultiplexedConnection> {
        let client = self.client(node)?;
        client.get_multiplexed_async_connection_with_config(&config(answers_within)).await
    }

    /// A connection for subscriptions. What the server says unasked goes to `pushes`, which must not block.
    pub(super) async fn listening(
        &self,
        node: &Node,
        answers_within: Duration,
        pushes: impl redis::aio::AsyncPushSender,
    ) -> RedisResult<MultiplexedConnection> {
        // Only in the third version of the protocol do commands and messages share a connection.
        let login = self.login.clone().set_protocol(ProtocolVersion::RESP3);
        let client = Self { login, ..self.clone() }.client(node)?;
        client
            .get_multiplexed_async_connection_with_config(&config(answers_within).set_push_sender(pushes))
            .await
    }
}

/// The settings of connections that do not repair themselves.
pub(super) fn config(answers_within: Duration) -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(answers_within))
}
