//! One installation: its processes, its network links, how it is built, and backups of its database.

mod backup;
mod builder;
mod links;
mod processes;
mod redis_group;
mod service_starter;

pub use self::backup::Backup;
pub use self::builder::StackBuilder;
pub use self::links::{Link, LinkEnds};
pub use self::processes::{Backend, Stack};
pub use self::redis_group::{RedisGroup, RedisMode};
