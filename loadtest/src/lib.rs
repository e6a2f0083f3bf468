//! Load and benchmark clients for a running Anytime, light enough that hundreds of them share a thread.
//!
//! [`scenario`] says what happens, [`drive`] runs many [`client`]s on one thread, [`floor`] measures what sealing and
//! sending alone costs, [`server`] starts the server and reads what the kernel says of it, [`report`] prints. [`netem`]
//! is a narrow link to put between any client and a server.

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
