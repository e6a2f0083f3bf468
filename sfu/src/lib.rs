//! The media node: worker threads, batched UDP, mailboxes and metrics around the sans-IO engine.
//!
//! [`Node::start`] binds an IPv4 and an IPv6 socket per worker and starts the threads. [`Node::send`] routes a command
//! to the worker that holds its participant. Events come back over a channel.

mod clock;
mod config;
mod interfaces;
mod mailbox;
mod metrics;
mod node;
mod routes;
mod udp;
mod worker;

pub use config::NodeConfig;
pub use interfaces::machine_addresses;
pub use node::{Node, NodeError, TrySendError};
pub use udp::UdpError;
