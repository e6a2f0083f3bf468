//! Tests of the plumbing over real sockets on the loopback address. The media plane is only the other end of its two
//! channels. What sessions send and do is tested elsewhere, without sockets.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::SinkExt;
use livekit_protocol::signal_request::Message as Ask;
use livekit_protocol::signal_response::Message as Say;
use prost::Message as _;
use sfu_protocol::{EndReason, ParticipantSid, Target};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::{Error as ClientError, Message as Frame};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::*;
use crate::directory::MemoryDirectory;
use crate::nodes::Direct;
use crate::session::{
    Grants, JoinParameters, ParticipantDescription, Resume, Rooms, RoomsConfig, SignalMode,
};

/// Timeout far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

type Client = WebSocketStream<MaybeTlsStream<TcpStream>>;

struct CountingIssuer;

impl TokenIssuer for CountingIssuer {
    fn issue(&self, claims: &RefreshClaims, unix_s: u64) -> Option<String> {
        assert!(unix_s > 1_700_000_000);
        Some(format!("token of {}", claims.name))
    }
}

fn grants(identity: &str) -> Grants {
    Grants {
        room: "hall".into(),
        participant: ParticipantDescription {
            identity: identity.into(),
            name: "Somebody".into(),
            metadata: String::new(),
            attributes: BTreeMap::new(),
            kind: proto::participant_info::Kind::Standard,
            kind_details: vec![],
            permission: proto::ParticipantPermission {
                can_subscribe: true,
                can_publish: true,
                ..Default::default()
            },
        },
        room_config: None,
        issuer: Arc::new(CountingIssuer),
    }
}

fn parameters() -> JoinParameters {
    JoinParameters {
        mode: SignalMode::Single,
        client: proto::ClientInfo { protocol: 17, ..Default::default() },
        auto_subscribe: true,
        adaptive_stream: false,
        never_pause: false,
        metadata: String::new(),
        attributes: BTreeMap::new(),
        add_tracks: vec![],
        offer: None,
        resume: None,
        sync_state: None,
    }
}

/// The signaling service, with the media plane's ends of the channels.
struct Service {
    rooms: Rooms,
    directory: Arc<MemoryDirectory>,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<Event>,
    url: String,
    /// Parameters of the next client's join.
    parameters: Arc<Mutex<JoinParameters>>,
}

#[derive(Clone)]
struct App {
    rooms: Rooms,
    parameters: Arc<Mutex<JoinParameters>>,
}

async fn upgrade(State(app): State<App>, upgrade: WebSocketUpgrade) -> Response {
    let limits = app.rooms.0.config.socket.clone();
    let parameters = app.parameters.lock().unwrap().clone();
    match app.rooms.admit(parameters, grants("me")).await {
        Ok(admitted) => limits.apply(upgrade).on_upgrade(move |socket| serve(socket, admitted)),
        Err(error) => (error.status, error.text).into_response(),
    }
}

impl Service {
    async fn start(config: RoomsConfig) -> Self {
        Self::start_with(config, parameters()).await
    }

    async fn start_with(config: RoomsConfig, parameters: JoinParameters) -> Self {
        let (to_plane, commands) = mpsc::channel(16);
        let (events, from_plane) = mpsc::channel(16);
        let link = Arc::new(Direct::new(to_plane));
        let pump = Arc::clone(&link);
        tokio::spawn(async move { pump.run(from_plane).await });
        let directory = Arc::new(MemoryDirectory::default());
        let rooms = Rooms::new(config, directory.clone(), link);
        let parameters = Arc::new(Mutex::new(parameters));
        let app = App { rooms: rooms.clone(), parameters: Arc::clone(&parameters) };
        let router = Router::new().route("/rtc", get(upgrade)).with_state(app);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/rtc", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { rooms, directory, commands, events, url, parameters }
    }

    async fn command(&mut self) -> Command {
        timeout(PATIENCE, self.commands.recv()).await.expect("a command in time").expect("a command")
    }

    /// Connects a client that the media plane admits, and reads its join response.
    async fn connect(&mut self) -> (Client, ParticipantSid) {
        let url = self.url.clone();
        let client = tokio::spawn(async move { connect_async(url).await });
        let Command::Join(join) = self.command().await else { panic!("no join") };
        self.events
            .send(Event::Joined { participant: join.participant.clone(), roster: vec![] })
            .await
            .unwrap();
        let (mut client, _) = client.await.unwrap().unwrap();
        assert!(matches!(say(&mut client).await, Say::Join(_)), "the first message");
        assert_eq!(say(&mut client).await, Say::RefreshToken("token of Somebody".into()));
        (client, join.participant)
    }

    /// Like `connect`, and also connects the media.
    async fn connect_active(&mut self) -> (Client, ParticipantSid) {
        let (mut client, sid) = self.connect().await;
        let connected = Event::TransportConnected { participant: sid.clone(), target: Target::Publisher };
        self.events.send(connected).await.unwrap();
        assert!(matches!(self.command().await, Command::Announce { .. }));
        assert!(matches!(say(&mut client).await, Say::Update(_)));
        (client, sid)
    }

    /// Connects the client again to resume its session; reads nothing.
    async fn resume(&self, participant: &ParticipantSid) -> Client {
        let reason = proto::ReconnectReason::RrSignalDisconnected;
        let resume = Resume { participant: participant.clone(), reason };
        *self.parameters.lock().unwrap() = JoinParameters { resume: Some(resume), ..parameters() };
        connect_async(&self.url).await.unwrap().0
    }

    /// Waits until no session is left, and checks that everything has been released.
    async fn all_gone(&self) {
        let mut open = self.rooms.0.open.subscribe();
        timeout(PATIENCE, open.wait_for(|open| *open == 0)).await.expect("sessions end").unwrap();
        assert_eq!(self.rooms.stats().open.load(Ordering::Relaxed), 0);
        assert!(self.rooms.0.doors.is_empty());
        let later = Instant::now() + Duration::from_secs(1000);
        let closed = crate::directory::Directory::sweep(&*self.directory, later).await;
        assert!(closed.iter().all(|room| room.left.is_empty()), "{closed:?}");
        assert!(self.directory.is_empty());
    }
}

async fn frame(client: &mut Client) -> Frame {
    timeout(PATIENCE, client.next()).await.expect("a frame in time").expect("a frame").expect("no error")
}

async fn say(client: &mut Client) -> Say {
    loop {
        match frame(client).await {
            Frame::Binary(bytes) => {
                return proto::SignalResponse::decode(bytes).unwrap().message.unwrap();
            }
            Frame::Ping(_) | Frame::Pong(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn ask(client: &mut Client, ask: Ask) {
    let request = proto::SignalRequest { message: Some(ask) };
    client.send(Frame::Binary(request.encode_to_vec().into())).await.unwrap();
}

/// Code of the next close frame, which is answered.
async fn close_code(client: &mut Client) -> u16 {
    match frame(client).await {
        Frame::Close(Some(close)) => {
            assert!(matches!(timeout(PATIENCE, client.next()).await, Ok(None)), "nothing after it");
            close.code.into()
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn binary_is_answered_in_binary_and_text_in_text() {
    let mut service = Service::start(RoomsConfig::default()).await;
    let (mut client, _) = service.connect_active().await;
    let ping = proto::Ping { timestamp: 7, rtt: 0 };
    ask(&mut client, Ask::PingReq(ping)).await;
    assert!(matches!(say(&mut client).await, Say::PongResp(pong) if pong.last_ping_timestamp == 7));
    client.send(Frame::Text(r#"{"pingReq":{"timestamp":"8"}}"#.into())).await.unwrap();
    let Frame::Text(text) = frame(&mut client).await else { panic!("not text") };
    let response: proto::SignalResponse = serde_json::from_str(&text).unwrap();
    assert!(matches!(response.message, Some(Say::PongResp(pong)) if pong.last_ping_timestamp == 8));
}

#[tokio::test]
async fn a_leave_reaches_the_media_plane_and_the_socket_is_closed_properly() {
    let mut service = Service::start(RoomsConfig::default()).await;
    let (mut client, sid) = service.connect_active().await;
    ask(&mut client, Ask::Leave(proto::LeaveRequest::default())).await;
    let leave = Command::Leave { participant: sid, reason: LeaveReason::ClientInitiated };
    assert_eq!(service.command().await, leave);
    assert_eq!(close_code(&mut client).await, 1000);
    service.all_gone().await;
}

#[tokio::test]
async fn what_is_queued_is_written_before_the_close() {
    let mut service = Service::start(RoomsConfig::default()).await;
    let (mut client, sid) = service.connect_active().await;
    let sdp = "x".repeat(200_000);
    let answer =
        |id| Event::Answer { participant: sid.clone(), id, sdp: sdp.clone(), mid_to_track: BTreeMap::new() };
    for id in 0..5 {
        service.events.send(answer(id)).await.unwrap();
    }
    let ended = Event::Ended { participant: sid.clone(), reason: EndReason::Panicked };
    service.events.send(ended).await.unwrap();
    for id in 0..5 {
        assert!(matches!(say(&mut client).await, Say::Answer(answer) if answer.id == id));
    }
    let Say::Leave(leave) = say(&mut client).await else { panic!("no leave") };
    assert_eq!(leave.action(), proto::leave_request::Action::Reconnect);
    assert_eq!(close_code(&mut client).await, 1000);
    service.all_gone().await;
    assert!(service.commands.try_recv().is_err(), "it is gone there already");
}

#[tokio::test]
async fn a_resume_is_told_to_start_anew_with_the_first_message() {
    let resume = Resume {
        participant: ParticipantSid::new("PA_gone"),
        reason: proto::ReconnectReason::RrSignalDisconnected,
    };
    let parameters = JoinParameters { resume: Some(resume), ..parameters() };
    let service = Service::start_with(RoomsConfig::default(), parameters).await;
    let (mut client, _) = connect_async(&service.url).await.unwrap();
    let Say::Leave(leave) = say(&mut client).await else { panic!("no leave") };
    assert_eq!(leave.reason(), proto::DisconnectReason::StateMismatch);
    assert_eq!(leave.action(), proto::leave_request::Action::Reconnect);
    assert_eq!(close_code(&mut client).await, 1000);
    service.all_gone().await;
    assert_eq!(service.rooms.stats().resumes_refused.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_media_plane_that_does_not_answer_or_refuses_is_a_503() {
    let config = RoomsConfig { join_timeout: Duration::from_millis(50), ..RoomsConfig::default() };
    let mut service = Service::start(config).await;
    let status = |error| match error {
        ClientError::Http(response) => response.status().as_u16(),
        other => panic!("{other:?}"),
    };
    let error = connect_async(&service.url).await.unwrap_err();
    assert_eq!(status(error), 503);
    let Command::Join(join) = service.command().await else { panic!("no join") };
    let leave = Command::Leave { participant: join.participant, reason: LeaveReason::SignalClosed };
    assert_eq!(service.command().await, leave);
    service.all_gone().await;

    let mut service = Service::start(RoomsConfig::default()).await;
    let url = service.url.clone();
    let client = tokio::spawn(async move { connect_async(url).await });
    let Command::Join(join) = service.command().await else { panic!("no join") };
    let full = Event::Ended { participant: join.participant, reason: EndReason::NodeFull };
    service.events.send(full).await.unwrap();
    assert_eq!(status(client.await.unwrap().unwrap_err()), 503);
    service.all_gone().await;
    assert!(service.commands.try_recv().is_err());
}

#[tokio::test]
async fn a_place_that_is_not_used_is_given_back() {
    let mut service = Service::start(RoomsConfig::default()).await;
    let rooms = service.rooms.clone();
    let admitted = tokio::spawn(async move { rooms.admit(parameters(), grants("me")).await });
    let Command::Join(join) = service.command().await else { panic!("no join") };
    service
        .events
        .send(Event::Joined { participant: join.participant.clone(), roster: vec![] })
        .await
        .unwrap();
    drop(admitted.await.unwrap().unwrap());
    let leave = Command::Leave { participant: join.participant, reason: LeaveReason::SignalClosed };
    assert_eq!(service.command().await, leave);
    service.all_gone().await;
}

#[tokio::test]
async fn joins_beyond_the_limits_name_the_field() {
    let config = RoomsConfig { auto_create: false, ..RoomsConfig::default() };
    let service = Service::start(config).await;
    let with = |change: fn(&mut Grants)| {
        let mut grants = grants("me");
        change(&mut grants);
        grants
    };
    let cases = [
        (with(|g| g.participant.identity = "i".repeat(257)), 400, "`identity`"),
        (with(|g| g.participant.identity.clear()), 400, "`identity`"),
        (with(|g| g.room = "r".repeat(257)), 400, "`room`"),
        (with(|g| g.room.clear()), 400, "`room`"),
        (with(|g| g.participant.name = "n".repeat(257)), 400, "`name`"),
        (with(|g| g.participant.metadata = "m".repeat(65_537)), 400, "`metadata`"),
        (
            with(|g| drop(g.participant.attributes.insert("k".repeat(65_537), String::new()))),
            400,
            "`attributes`",
        ),
        (grants("me"), 404, "requested room does not exist"),
    ];
    for (grants, status, text) in cases {
        let checked = service.rooms.check(&parameters(), &grants).await.unwrap_err();
        let admitted = service.rooms.admit(parameters(), grants).await.unwrap_err();
        assert_eq!(checked, admitted);
        assert_eq!(checked.status.as_u16(), status);
        assert!(checked.text.contains(text), "{}", checked.text);
    }
}

#[tokio::test]
async fn metadata_of_the_request_counts_only_with_the_right_to_it() {
    for allowed in [false, true] {
        let given = JoinParameters {
            metadata: "mine".into(),
            attributes: BTreeMap::from([("a".into(), "mine".into()), ("b".into(), String::new())]),
            ..parameters()
        };
        let mut service = Service::start(RoomsConfig::default()).await;
        let mut grants = grants("me");
        grants.participant.metadata = "token's".into();
        grants.participant.attributes = BTreeMap::from([("a".into(), "t".into()), ("b".into(), "t".into())]);
        grants.participant.permission.can_update_metadata = allowed;
        let rooms = service.rooms.clone();
        let admitting = tokio::spawn(async move { rooms.admit(given, grants).await });
        let Command::Join(join) = service.command().await else { panic!("no join") };
        admitting.abort();
        let info = proto::ParticipantInfo::decode(join.info).unwrap();
        assert_eq!(info.metadata, if allowed { "mine" } else { "token's" });
        assert_eq!(
            (info.attributes["a"].as_str(), info.attributes["b"].as_str()),
            (if allowed { "mine" } else { "t" }, "t")
        );
    }
}

#[tokio::test]
async fn a_panic_ends_one_session_with_a_leave() {
    let mut service = Service::start(RoomsConfig::default()).await;
    let (mut client, sid) = service.connect_active().await;
    let (mut other, _) = service.connect_active().await;
    let scenario = Some(proto::simulate_scenario::Scenario::SpeakerUpdate(666));
    ask(&mut client, Ask::Simulate(proto::SimulateScenario { scenario })).await;
    let Say::Leave(leave) = say(&mut client).await else { panic!("no leave") };
    assert_eq!(leave.action(), proto::leave_request::Action::Reconnect);
    assert_eq!(close_code(&mut client).await, 1000);
    let leave = Command::Leave { participant: sid, reason: LeaveReason::MediaFailure };
    assert_eq!(service.command().await, leave);
    assert_eq!(service.rooms.stats().panics.load(Ordering::Relaxed), 1);
    ask(&mut other, Ask::Ping(1)).await;
    assert!(matches!(say(&mut other).await, Say::Pong(_)));
}

#[tokio::test]
async fn frames_over_the_limit_are_told_and_far_over_it_cost_the_socket() {
    let mut config = RoomsConfig::default();
    config.socket.frame = 256 * 1024;
    let mut service = Service::start(config).await;
    let (mut client, sid) = service.connect().await;
    client.send(Frame::Binary(vec![0; 300 * 1024].into())).await.unwrap();
    let Say::RequestResponse(response) = say(&mut client).await else { panic!("no answer") };
    assert!(response.message.contains("larger than 262144 bytes"), "{}", response.message);
    ask(&mut client, Ask::Ping(1)).await;
    assert!(matches!(say(&mut client).await, Say::Pong(_)));
    // The server may close the socket before the frame is written entirely.
    let _refused = client.send(Frame::Binary(vec![0; 2 * 1024 * 1024].into())).await;
    let leave = Command::Leave { participant: sid, reason: LeaveReason::SignalClosed };
    assert_eq!(service.command().await, leave);
    service.all_gone().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_given_up() {
    let mut config = RoomsConfig::default();
    config.limits.resume = Duration::from_millis(10);
    config.socket.queued_bytes = 512 * 1024;
    let mut service = Service::start(config).await;
    let (_client, sid) = service.connect_active().await;
    let sdp = "x".repeat(200_000);
    // More than the socket's own buffers hold as well.
    for id in 0.. {
        let (participant, sdp) = (sid.clone(), sdp.clone());
        let answer = Event::Answer { participant, id, sdp, mid_to_track: BTreeMap::new() };
        tokio::select! {
            sent = service.events.send(answer) => sent.unwrap(),
            command = service.commands.recv() => {
                let leave = Command::Leave { participant: sid, reason: LeaveReason::SignalClosed };
                assert_eq!(command, Some(leave));
                break;
            }
        }
        tokio::task::yield_now().await;
    }
    service.all_gone().await;
    assert_eq!(service.rooms.stats().slow_clients.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_client_of_which_nothing_is_heard_is_given_up() {
    let mut config = RoomsConfig::default();
    config.socket.idle = Duration::from_millis(100);
    let mut service = Service::start(config).await;
    let (_client, sid) = service.connect().await;
    let leave = Command::Leave { participant: sid, reason: LeaveReason::SignalClosed };
    assert_eq!(service.command().await, leave);
    service.all_gone().await;
    assert_eq!(service.rooms.stats().silent_clients.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn clients_are_pinged_so_that_the_living_are_heard() {
    let mut config = RoomsConfig::default();
    config.socket.ping = Duration::from_millis(10);
    let mut service = Service::start(config).await;
    let (mut client, _) = service.connect().await;
    let mut pings = 0;
    while pings < 3 {
        pings += usize::from(matches!(frame(&mut client).await, Frame::Ping(_)));
    }
}

#[tokio::test]
async fn a_lost_socket_leaves_the_participant_until_its_next_session_comes() {
    let mut config = RoomsConfig::default();
    config.limits.resume = PATIENCE;
    let mut service = Service::start(config).await;
    let (client, first) = service.connect_active().await;
    drop(client);
    let (_next, _) = service.connect().await;
    // The media plane replaces the earlier session with the new one.
    assert_eq!(*service.rooms.0.open.borrow(), 2);
    let ended = Event::Ended { participant: first, reason: EndReason::DuplicateIdentity };
    service.events.send(ended).await.unwrap();
    let mut open = service.rooms.0.open.subscribe();
    timeout(PATIENCE, open.wait_for(|open| *open == 1)).await.expect("the old one ends").unwrap();
    assert!(service.commands.try_recv().is_err());
}

#[tokio::test]
async fn shutdown_tells_everybody_and_lets_nobody_in() {
    let mut service = Service::start(RoomsConfig::default()).await;
    let (mut client, sid) = service.connect_active().await;
    let rooms = service.rooms.clone();
    let shutdown = tokio::spawn(async move { rooms.shutdown(PATIENCE).await });
    let Say::Leave(leave) = say(&mut client).await else { panic!("no leave") };
    assert_eq!(leave.reason(), proto::DisconnectReason::ServerShutdown);
    assert_eq!(leave.action(), proto::leave_request::Action::Reconnect);
    assert_eq!(close_code(&mut client).await, 1000);
    let leave = Command::Leave { participant: sid, reason: LeaveReason::ServerShutdown };
    assert_eq!(service.command().await, leave);
    drop(client);
    assert!(shutdown.await.unwrap());
    let refused = service.rooms.admit(parameters(), grants("late")).await.unwrap_err();
    assert_eq!(refused.status.as_u16(), 503);
    service.all_gone().await;
}

#[tokio::test]
async fn a_session_can_be_ended_from_outside() {
    let mut service = Service::start(RoomsConfig::default()).await;
    let (mut client, sid) = service.connect_active().await;
    assert!(service.rooms.end(&sid, LeaveReason::Removed));
    let Say::Leave(leave) = say(&mut client).await else { panic!("no leave") };
    assert_eq!(leave.reason(), proto::DisconnectReason::ParticipantRemoved);
    assert_eq!(close_code(&mut client).await, 1000);
    service.all_gone().await;
    assert!(!service.rooms.end(&sid, LeaveReason::Removed));
}

#[tokio::test]
async fn rights_can_be_changed_from_outside() {
    let mut service = Service::start(RoomsConfig::default()).await;
    let (mut client, sid) = service.connect_active().await;
    let nothing = proto::ParticipantPermission::default();
    assert!(service.rooms.set_permission(&sid, nothing.clone()));
    let permissions = sfu_protocol::Permissions { publish: false, subscribe: false, publish_data: false };
    assert_eq!(service.command().await, Command::SetPermissions { participant: sid, permissions });
    assert!(matches!(say(&mut client).await, Say::RefreshToken(_)));
    let Say::Update(update) = say(&mut client).await else { panic!("no update") };
    assert_eq!(update.participants[0].permission, Some(nothing.clone()));
    assert!(!service.rooms.set_permission(&ParticipantSid::new("PA_nobody"), nothing));
}

#[tokio::test]
async fn everybody_is_told_when_the_media_plane_goes() {
    let mut service = Service::start(RoomsConfig::default()).await;
    let (mut client, _) = service.connect_active().await;
    drop(service.commands);
    drop(service.events);
    let Say::Leave(leave) = say(&mut client).await else { panic!("no leave") };
    assert_eq!(leave.action(), proto::leave_request::Action::Reconnect);
    assert_eq!(close_code(&mut client).await, 1000);
}

/// Reads the first messages to a client that resumes.
async fn hear_resumed(client: &mut Client) {
    assert!(matches!(say(client).await, Say::Reconnect(_)), "the first message");
    let Say::Update(update) = say(client).await else { panic!("no update") };
    assert_eq!(update.participants.len(), 1, "itself");
    assert!(matches!(say(client).await, Say::RoomUpdate(_)));
    assert!(matches!(say(client).await, Say::RefreshToken(_)));
}

#[tokio::test]
async fn a_client_that_lost_its_socket_goes_on_with_another() {
    let mut service = Service::start(RoomsConfig::default()).await;
    let (client, sid) = service.connect_active().await;
    drop(client);
    let mut client = service.resume(&sid).await;
    hear_resumed(&mut client).await;
    ask(&mut client, Ask::Ping(1)).await;
    assert!(matches!(say(&mut client).await, Say::Pong(_)));
    // The client resumes again, this time before the loss of the old socket is noticed: the session drops the old
    // socket. Older clients do not name their session, so it is found by identity.
    let mut next = service.resume(&ParticipantSid::new("")).await;
    hear_resumed(&mut next).await;
    assert!(matches!(timeout(PATIENCE, client.next()).await, Ok(None | Some(Err(_)))));
    // It is the same session throughout, so the media plane was told nothing.
    assert!(service.commands.try_recv().is_err());
    assert_eq!(*service.rooms.0.open.borrow(), 1);
    assert_eq!(service.rooms.stats().resumed.load(Ordering::Relaxed), 2);
    ask(&mut next, Ask::Leave(proto::LeaveRequest::default())).await;
    let leave = Command::Leave { participant: sid.clone(), reason: LeaveReason::ClientInitiated };
    assert_eq!(service.command().await, leave);
    assert_eq!(close_code(&mut next).await, 1000);
    service.all_gone().await;
    // A session that has ended cannot be resumed.
    let Say::Leave(leave) = say(&mut service.resume(&sid).await).await else { panic!("no leave") };
    assert_eq!(leave.action(), proto::leave_request::Action::Reconnect);
}

#[tokio::test]
async fn nobody_goes_on_with_a_session_of_somebody_else_or_of_another_kind() {
    let mut service = Service::start(RoomsConfig::default()).await;
    let (_client, participant) = service.connect_active().await;
    let wish = |reason, mode| JoinParameters {
        resume: Some(Resume { participant: participant.clone(), reason }),
        mode,
        ..parameters()
    };
    let lost = proto::ReconnectReason::RrSignalDisconnected;
    let other_room = Grants { room: "attic".into(), ..grants("me") };
    for (parameters, grants) in [
        (wish(lost, SignalMode::Single), grants("eve")),
        (wish(lost, SignalMode::Single), other_room),
        (wish(lost, SignalMode::Dual), grants("me")),
    ] {
        let admitted = service.rooms.admit(parameters, grants).await.unwrap();
        assert!(matches!(admitted.0, Admission::StartAnew(_)));
    }
    let admitted = service.rooms.admit(wish(lost, SignalMode::Single), grants("me")).await.unwrap();
    assert!(matches!(admitted.0, Admission::Resume(_)));
}

#[test]
fn a_receiving_connection_that_failed_needs_a_new_session() {
    use proto::ReconnectReason::{RrPublisherFailed, RrSubscriberFailed, RrSwitchCandidate, RrUnknown};
    use sfu_protocol::ConnectionMode::{Dual, Single};
    let two = Dual { subscriber_primary: true };
    for (reason, mode, possible) in [
        (RrUnknown, two, true),
        (RrPublisherFailed, two, true),
        (RrSubscriberFailed, two, false),
        (RrSwitchCandidate, two, false),
        (RrSubscriberFailed, Single, true),
        (RrSwitchCandidate, Single, true),
    ] {
        let signal = if mode == Single { SignalMode::Single } else { SignalMode::Dual };
        let asked = JoinParameters { mode: signal, ..parameters() };
        let resume = Resume { participant: ParticipantSid::new("PA_me"), reason };
        let can = crate::session::admit::can_resume(&resume, &asked, mode);
        assert_eq!(can, possible, "{reason:?} {mode:?}");
    }
}
