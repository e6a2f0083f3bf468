//! The signaling service: access tokens, HTTP, WebSocket sessions and the call page.
//!
//! A request enters by [`http::serve`] (a socket with limits), is routed by [`http::router`], its token is
//! checked once by [`token::verify`], its wish becomes [`http::join::JoinParameters`], and [`session`] takes it
//! from there. This library never links the media node: commands and events of `sfu-protocol` are all they share.

pub mod app;
pub mod config;
pub mod directory;
pub mod http;
pub mod nodes;
pub mod session;
pub mod token;
