//! What a run measured: figures, and what Linux and the gateways' logs show of the servers.

pub(crate) mod figures;
pub(crate) mod history_reads;
pub(crate) mod process_cost;
pub(crate) mod process_usage;
pub(crate) mod send_queues;
pub(crate) mod sync_times;
pub(crate) mod table;
pub(crate) mod typing;
pub(crate) mod window;
