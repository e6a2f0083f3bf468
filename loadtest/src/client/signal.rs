//! Signaling connection of one client: a task that passes messages between the WebSocket and the media thread.

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

/// Event of one client's signaling connection.
#[derive(Debug)]
pub enum Signal {
    /// The server sent a message.
    Message(Box<signal_response::Message>),
    /// The connection ended; the text gives the reason.
    Closed(String),
}

/// Sending end of the queue of signaling events, shared by the tasks of all clients.
#[derive(Debug, Clone)]
pub struct Inbox {
    /// Queue of events, each with the number of its client.
    pub sender: Sender<(usize, Signal)>,
    /// Waker of the media thread.
    pub waker: Arc<Waker>,
}

impl Inbox {
    fn put(&self, client: usize, signal: Signal) {
        // Errors are ignored: at the end of a run the media thread is gone, and nothing reads the events.
        let _ = self.sender.send((client, signal));
        let _ = self.waker.wake();
    }
}

/// Connects in the background and passes messages in both directions until either side closes the connection. Returns
/// the queue of the client's requests.
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

/// Creates a join token, signed with the key that `--dev` adds.
pub fn dev_token(room: &str, identity: &str) -> Result<String, jsonwebtoken::errors::Error> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let video = VideoGrant { room, room_join: true };
    let claims = Claims { iss: "devkey", sub: identity, exp: now.as_secs() + 6 * 3600, video };
    jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(b"secret"))
}

/// Client info of a load-test client. The server derives from it that the client supports AEAD_AES_128_GCM and uses one
/// peer connection.
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

/// Ping interval that the server's join response asks for.
const PING_INTERVAL: Duration = Duration::from_secs(5);
