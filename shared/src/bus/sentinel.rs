//! Asks the sentinels which server is the master.

use std::collections::HashMap;

use futures_util::future::join_all;
use redis::{ErrorKind, RedisResult, Value, cmd, from_redis_value};

use super::COMMAND_TIMEOUT;
use super::address::Node;
use super::connection_factory::ConnectionFactory;

/// The master called `name`, which must itself agree that it is one.
///
/// Every sentinel is asked and the majority wins: during a failover one that was cut off still names the old master.
pub(super) async fn find_master(connections: &ConnectionFactory, sentinels: &[Node], name: &str) -> RedisResult<Node> {
    let answers = join_all(sentinels.iter().map(|sentinel| ask(connections, sentinel, name))).await;
    let mut votes: HashMap<Node, usize> = HashMap::new();
    let mut failure = None;
    for answer in answers {
        match answer {
            Ok(node) => *votes.entry(node).or_default() += 1,
            Err(error) => failure = Some(error),
        }
    }
    match votes.into_iter().max_by_key(|(_, count)| *count) {
        Some((node, _)) => is_master(connections, &node).await.map(|()| node),
        None => Err(failure
            .unwrap_or_else(|| (ErrorKind::MasterNameNotFoundBySentinel, "there are no sentinels to ask").into())),
    }
}

async fn ask(connections: &ConnectionFactory, sentinel: &Node, name: &str) -> RedisResult<Node> {
    let for_sentinels = connections.for_sentinels();
    let connection = match for_sentinels.dedicated(sentinel, COMMAND_TIMEOUT).await {
        // The password may be for the servers alone.
        Err(error) if error.kind() == ErrorKind::AuthenticationFailed => {
            for_sentinels.without_login().dedicated(sentinel, COMMAND_TIMEOUT).await
        }
        outcome => outcome,
    };
    let master: Option<(String, u16)> =
        cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(name).query_async(&mut connection?).await?;
    let unknown = (ErrorKind::MasterNameNotFoundBySentinel, "the sentinels know no master of this name");
    master
        .map(|(host, port)| Node {
            host: host.into(),
            port,
        })
        .ok_or_else(|| unknown.into())
}

/// Fails unless the server is a master, which takes writes.
pub(super) async fn is_master(connections: &ConnectionFactory, node: &Node) -> RedisResult<()> {
    let role: Vec<Value> = cmd("ROLE").query_async(&mut connections.dedicated(node, COMMAND_TIMEOUT).await?).await?;
    let role: Option<String> = role.into_iter().next().and_then(|role| from_redis_value(role).ok());
    match role.as_deref() {
        Some("master") => Ok(()),
        _ => Err((ErrorKind::MasterNameNotFoundBySentinel, "the server is no longer the master").into()),
    }
}
