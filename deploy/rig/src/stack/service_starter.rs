//! Starts the workers and gateways of a stack, with the settings that lead them to Redis and the database.

use std::path::Path;

use super::links::{Link, LinkEnds};
use super::processes::{DATABASE, signing_key_file};
use crate::failure::Result;
use crate::gateway::Gateway;
use crate::postgres_server::PostgresServer;
use crate::worker::Worker;

/// Variables of the environment and their values.
pub(super) type Settings = Vec<(String, String)>;

/// Settings of every gateway unless the test sets others: limits are those of production, passwords may be those of the
/// specification's examples, and the first user is an admin.
const GATEWAY_SETTINGS: [(&str, &str); 3] = [
    ("PASSWORD_MIN_LENGTH", "4"),
    ("ALLOW_WEAK_PASSWORDS", "true"),
    ("FIRST_USER_IS_ADMIN", "true"),
];

/// The user as which everybody but the workers logs in there.
const USER: &str = "roomcast";

/// Starts the services of a stack with the settings that all of them share.
pub(super) struct ServiceStarter<'a> {
    pub(super) path: &'a Path,
    pub(super) redis_port: u16,
    pub(super) postgres: Option<&'a PostgresServer>,
    pub(super) settings: Settings,
    /// The proxied links so far; `None` if the stack has none.
    pub(super) links: Option<Vec<Link>>,
}

impl ServiceStarter<'_> {
    pub(super) async fn start_workers(&mut self, count: usize, settings: &[(String, String)]) -> Result<Vec<Worker>> {
        let mut workers = Vec::new();
        for number in 0..count {
            // The first one keeps the name it has when it is alone.
            let name = if number == 0 {
                "worker".to_owned()
            } else {
                format!("worker-{}", number + 1)
            };
            // The user's name tells Postgres which worker commits.
            if let Some(postgres) = self.postgres {
                postgres.create_user(&name).await?;
            }
            let connections = self
                .connection_settings(LinkEnds::WorkerRedis(number), LinkEnds::WorkerPostgres(number), &name)
                .await?;
            let settings = [&self.settings, settings, &connections].concat();
            let mut worker = Worker::new(&name, self.path, &settings)?;
            worker.start()?;
            workers.push(worker);
        }
        Ok(workers)
    }

    pub(super) async fn start_gateways(&mut self, count: usize, settings: &[(String, String)]) -> Result<Vec<Gateway>> {
        let defaults = GATEWAY_SETTINGS.map(|(variable, value)| (variable.to_owned(), value.to_owned()));
        let key = ("SIGNING_KEY_FILE".to_owned(), signing_key_file(self.path).display().to_string());
        let mut gateways = Vec::new();
        for number in 0..count {
            let connections = self
                .connection_settings(LinkEnds::GatewayRedis(number), LinkEnds::GatewayPostgres(number), USER)
                .await?;
            let settings = [
                &self.settings[..],
                &defaults,
                std::slice::from_ref(&key),
                settings,
                &connections,
            ]
            .concat();
            let mut gateway = Gateway::new(&format!("gateway-{}", number + 1), self.path, &settings)?;
            gateway.start()?;
            if let Some(links) = &mut self.links {
                links.push(Link::to(gateway.port(), LinkEnds::ClientGateway(number)).await?);
            }
            gateways.push(gateway);
        }
        Ok(gateways)
    }

    /// The settings with which one service connects to Redis, and to Postgres as `user`; through links of its own if the
    /// stack has links.
    async fn connection_settings(&mut self, redis: LinkEnds, postgres: LinkEnds, user: &str) -> Result<Settings> {
        let mut settings = Vec::new();
        if let Some(links) = &mut self.links {
            let link = Link::to(self.redis_port, redis).await?;
            settings.push(("REDIS_URL".to_owned(), format!("redis://127.0.0.1:{}", link.proxy.port())));
            links.push(link);
        }
        if let Some(server) = self.postgres {
            let mut port = server.port();
            if let Some(links) = &mut self.links {
                let link = Link::to(port, postgres).await?;
                port = link.proxy.port();
                links.push(link);
            }
            settings.push(("DATABASE_URL".to_owned(), format!("postgres://{user}@127.0.0.1:{port}/{DATABASE}")));
        }
        Ok(settings)
    }
}
