//! Classifies Redis errors: was the command executed, and may it be retried?

use redis::{ErrorKind, RedisError, ServerErrorKind};

use super::address::Node;

/// Whether the error proves that the command did not run, and is one that a failover or a move of slots ends.
pub(super) fn is_retryable(error: &RedisError) -> bool {
    let by_server = match error.kind() {
        ErrorKind::Server(kind) => matches!(
            kind,
            ServerErrorKind::Moved
                | ServerErrorKind::Ask
                | ServerErrorKind::TryAgain
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::MasterDown
                | ServerErrorKind::ReadOnly
                | ServerErrorKind::BusyLoading
        ),
        ErrorKind::ClusterConnectionNotFound | ErrorKind::MasterNameNotFoundBySentinel => true,
        _ => false,
    };
    by_server || error.is_connection_refusal()
}

/// The server that an error of this kind redirects to.
pub(super) fn redirect_target(error: &RedisError, kind: ServerErrorKind) -> Option<Node> {
    if error.kind() != ErrorKind::Server(kind) {
        return None;
    }
    let (host, port) = error.redirect_node()?.0.rsplit_once(':')?;
    // Without a host it means the server that was asked, which the next refresh of the topology finds.
    let host = Some(host).filter(|host| !host.is_empty() && *host != "?")?;
    Some(Node {
        host: host.trim_matches(['[', ']']).into(),
        port: port.parse().ok()?,
    })
}

/// True if the error proves that Redis did not execute the command: it refused the command, or was never reached.
///
/// Refusals are among others READONLY, MOVED, CLUSTERDOWN, TRYAGAIN, LOADING, MISCONF, NOREPLICAS and OOM. A connection
/// that broke, and a reply that did not come in time, prove nothing.
#[must_use]
pub fn is_refusal(error: &RedisError) -> bool {
    let kinds = matches!(
        error.kind(),
        ErrorKind::Server(_)
            | ErrorKind::Extension
            | ErrorKind::AuthenticationFailed
            | ErrorKind::Client
            | ErrorKind::InvalidClientConfig
            | ErrorKind::ClusterConnectionNotFound
            | ErrorKind::MasterNameNotFoundBySentinel
    );
    kinds || error.is_connection_refusal()
}

#[cfg(test)]
mod tests {
    use redis::parse_redis_value;

    use super::*;

    fn answer(raw: &str) -> RedisError {
        parse_redis_value(format!("-{raw}\r\n").as_bytes()).unwrap().extract_error().unwrap_err()
    }

    #[test]
    fn refused_command_was_not_executed() {
        for raw in [
            "READONLY You can't write against a read only replica.",
            "MOVED 3999 127.0.0.1:6381",
            "CLUSTERDOWN The cluster is down",
            "TRYAGAIN Multiple keys request during rehashing of slot",
            "MISCONF Errors writing to the AOF file",
            "NOREPLICAS Not enough good replicas to write.",
            "LOADING Redis is loading the dataset in memory",
            "OOM command not allowed when used memory > 'maxmemory'.",
            "NOPERM this user has no permissions",
        ] {
            assert!(is_refusal(&answer(raw)), "{raw}");
        }
        let io = |kind: std::io::ErrorKind| RedisError::from(std::io::Error::from(kind));
        assert!(is_refusal(&io(std::io::ErrorKind::ConnectionRefused)));
        for kind in [
            std::io::ErrorKind::BrokenPipe,
            std::io::ErrorKind::TimedOut,
            std::io::ErrorKind::ConnectionReset,
        ] {
            assert!(!is_refusal(&io(kind)), "{kind}");
            assert!(!is_retryable(&io(kind)), "{kind}");
        }
    }

    #[test]
    fn redirection_names_its_server() {
        let node = |host: &str, port| {
            Some(Node {
                host: host.into(),
                port,
            })
        };
        assert_eq!(redirect_target(&answer("MOVED 1 10.0.0.1:6381"), ServerErrorKind::Moved), node("10.0.0.1", 6381));
        assert_eq!(redirect_target(&answer("ASK 1 ::1:6381"), ServerErrorKind::Ask), node("::1", 6381));
        assert_eq!(redirect_target(&answer("MOVED 1 :6381"), ServerErrorKind::Moved), None);
        assert_eq!(redirect_target(&answer("ASK 1 10.0.0.1:6381"), ServerErrorKind::Moved), None);
    }
}
