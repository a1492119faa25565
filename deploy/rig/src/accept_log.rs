//! Reads the accept log, on whichever servers of Redis it is.

use std::collections::{HashMap, HashSet};

use futures_util::future::try_join_all;
use redis::aio::MultiplexedConnection;
use uuid::Uuid;

use crate::failure::Result;
use crate::redis_connection::patient_connection;
use crate::redis_server::RedisServer;

/// An entry as Redis sends it: its id and its fields.
type Entry = (String, Vec<(String, Vec<u8>)>);

/// The servers that hold it.
#[derive(Clone)]
pub(crate) struct AcceptLog {
    servers: Vec<String>,
}

impl AcceptLog {
    /// The accept log on the servers at these URLs. Replicas are left out at each call.
    pub(crate) fn new(servers: Vec<String>) -> Self {
        Self { servers }
    }

    /// The ids of all messages in it. Fails while a server does not answer, because its messages would seem to be lost.
    pub(crate) async fn ids(&self) -> Result<HashSet<Uuid>> {
        let mut ids = HashSet::new();
        for mut master in self.masters().await? {
            for stream in RedisServer::accept_streams(&mut master).await? {
                let entries: Vec<Entry> = range(&mut master, &stream, "-").await?;
                let fields = entries.into_iter().flat_map(|(_, fields)| fields);
                let of_ids = fields.filter(|(name, _)| name == "id");
                ids.extend(of_ids.filter_map(|(_, id)| std::str::from_utf8(&id).ok()?.parse::<Uuid>().ok()));
            }
        }
        Ok(ids)
    }

    /// How many entries lie above the cursors of their partitions.
    pub(crate) async fn entries_above(&self, cursors: &HashMap<i64, (i64, i64)>) -> Result<u64> {
        let mut above = 0;
        for mut master in self.masters().await? {
            for stream in RedisServer::accept_streams(&mut master).await? {
                let partition = stream.split_once('{').and_then(|(_, rest)| rest.strip_suffix("}:in"));
                let (ms, counter) =
                    partition.and_then(|number| cursors.get(&number.parse().ok()?)).copied().unwrap_or_default();
                let entries: Vec<redis::Value> = range(&mut master, &stream, &format!("({ms}-{counter}")).await?;
                above += u64::try_from(entries.len())?;
            }
        }
        Ok(above)
    }

    async fn masters(&self) -> Result<Vec<MultiplexedConnection>> {
        let all = try_join_all(self.servers.iter().map(|url| async {
            let mut connection = patient_connection(url).await?;
            let role: Vec<redis::Value> = redis::cmd("ROLE").query_async(&mut connection).await?;
            let is_master = role.first().is_some_and(|role| *role == redis::Value::BulkString(b"master".to_vec()));
            Ok::<_, redis::RedisError>(is_master.then_some(connection))
        }));
        Ok(all.await?.into_iter().flatten().collect())
    }
}

async fn range<T: redis::FromRedisValue>(master: &mut MultiplexedConnection, stream: &str, from: &str) -> Result<T> {
    Ok(redis::cmd("XRANGE").arg(stream).arg(from).arg("+").query_async(master).await?)
}
