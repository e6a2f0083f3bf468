//! Load-test and benchmark clients for a running Anytime server. Hundreds of clients share one thread.
//!
//! [`scenario`] defines the test runs. [`drive`] runs many [`client`]s on one thread. [`floor`] measures the cost of
//! encrypting and sending alone, the lower bound for any forwarder. [`server`] starts the server and reads its CPU time
//! and memory from the kernel. [`report`] formats the results. [`netem`] emulates a bad link between any client and a
//! server.

pub mod client;
pub mod crowd;
pub mod drive;
pub mod error;
pub mod floor;
pub mod netem;
pub mod report;
pub mod scenario;
pub mod server;
pub mod socket;
