//! The signal connection of one client: a task that carries messages between the WebSocket and the media thread.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use futures_util::{SinkExt, StreamExt};
use jsonwebtoken::{EncodingKey, Header};
use livekit_protocol::{
    ClientInfo, JoinRequest, Ping, SignalRequest, SignalResponse, WrappedJoinRequest, client_info::Sdk,
    signal_request, signal_response, wrapped_join_request::Compression,
};
use mio::Waker;
use prost::Message as _;
use serde::Serialize;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

/// Something of one client's signal connection.
#[derive(Debug)]
pub enum Signal {
    /// The server said something.
    Message(Box<signal_response::Message>),
    /// The connection is over.
    Closed(String),
}

/// Where all clients' signal tasks report to.
#[derive(Debug, Clone)]
pub struct Inbox {
    /// Client number and what happened.
    pub sender: Sender<(usize, Signal)>,
    /// Wakes the media thread.
    pub waker: Arc<Waker>,
}

impl Inbox {
    fn put(&self, client: usize, signal: Signal) {
        // The media thread is gone at the end of a run; then nobody listens, and that is the end of the task too.
        let _ = self.sender.send((client, signal));
        let _ = self.waker.wake();
    }
}

/// Connects in the background and carries messages until either side ends.
pub fn connect(
    runtime: &Handle,
    client: usize,
    url: &str,
    token: &str,
    join: &JoinRequest,
    inbox: Inbox,
) -> UnboundedSender<signal_request::Message> {
    let wrapped =
        WrappedJoinRequest { compression: Compression::None as i32, join_request: join.encode_to_vec() };
    let join = URL_SAFE.encode(wrapped.encode_to_vec());
    let url = format!("{url}/rtc/v1?access_token={token}&join_request={join}");
    let (sender, outgoing) = unbounded_channel();
    runtime.spawn(async move {
        let reason = match carry(&url, client, outgoing, &inbox).await {
            Ok(()) => "closed".to_owned(),
            Err(error) => error.to_string(),
        };
        inbox.put(client, Signal::Closed(reason));
    });
    sender
}

/// A join token of the key that `--dev` adds.
pub fn dev_token(room: &str, identity: &str) -> Result<String, jsonwebtoken::errors::Error> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let video = VideoGrant { room, room_join: true };
    let claims = Claims { iss: "devkey", sub: identity, exp: now.as_secs() + 6 * 3600, video };
    jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(b"secret"))
}

/// What these clients say of themselves: a stack that takes AEAD_AES_128_GCM, one peer connection.
pub fn client_info() -> ClientInfo {
    ClientInfo {
        sdk: Sdk::Rust as i32,
        version: "0.0.0-loadtest".to_owned(),
        protocol: 17,
        os: "linux".to_owned(),
        ..ClientInfo::default()
    }
}

async fn carry(
    url: &str,
    client: usize,
    mut outgoing: UnboundedReceiver<signal_request::Message>,
    inbox: &Inbox,
) -> Result<(), tokio_tungstenite::tungstenite::Error> {
    let (mut socket, _) = tokio_tungstenite::connect_async(url.into_client_request()?).await?;
    let mut pings = tokio::time::interval(PING_INTERVAL);
    loop {
        let request = tokio::select! {
            message = socket.next() => match message {
                Some(Ok(Message::Binary(bytes))) => {
                    if let Ok(SignalResponse { message: Some(message) }) = SignalResponse::decode(bytes) {
                        inbox.put(client, Signal::Message(Box::new(message)));
                    }
                    continue;
                }
                Some(Ok(_)) => continue,
                Some(Err(error)) => return Err(error),
                None => return Ok(()),
            },
            request = outgoing.recv() => match request {
                Some(request) => request,
                None => return socket.close(None).await,
            },
            _ = pings.tick() => signal_request::Message::PingReq(Ping::default()),
        };
        let bytes = SignalRequest { message: Some(request) }.encode_to_vec();
        socket.send(Message::Binary(bytes.into())).await?;
    }
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    exp: u64,
    video: VideoGrant<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct VideoGrant<'a> {
    room: &'a str,
    room_join: bool,
}

/// What the server's join response asks for.
const PING_INTERVAL: Duration = Duration::from_secs(5);
