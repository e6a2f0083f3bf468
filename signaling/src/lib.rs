//! The signaling service: access tokens, HTTP, WebSocket sessions and the call page.
//!
//! [`http::serve`] accepts a connection and applies the limits, [`http::router`] routes the request, and
//! [`token::verify`] checks its token, once. The parameters of a join become [`http::join::JoinParameters`], with which
//! [`session`] runs the session. This library never links the media node: the two share only the commands and events of
//! `sfu-protocol`.

pub mod app;
pub mod config;
pub mod directory;
pub mod http;
pub mod nodes;
pub mod session;
pub mod token;
