//! Resumes a session on a new socket after its signal connection was lost.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use livekit_protocol as proto;
use livekit_protocol::signal_response::Message;
use sfu_protocol::{ConnectionQuality, ParticipantQuality, TrackSid};

use super::roster::Departure;
use super::simulate::SignalDrop;
use super::timers::Timer;
use super::{Discard, Output, Phase, Session, leaving};

/// Most departures that are stored for a client that is away, or may be. If a client missed more than these, it must
/// start a new session.
const MISSED: usize = 1024;

/// Request of a client that resumes its session.
#[derive(Debug, Clone, PartialEq)]
pub struct Resumed {
    /// The client's current description of itself. Protocol number 0 means that the client sent none.
    pub client: proto::ClientInfo,
    /// SDP offer with fresh ICE credentials, if it came with the request.
    pub offer: Option<proto::SessionDescription>,
    /// State of the client (its tracks and subscriptions), if it came with the request.
    pub sync_state: Option<proto::SyncState>,
}

/// What a client must be told again when it resumes.
#[derive(Debug, Default)]
pub(super) struct Missed {
    /// Departures that the client may have missed, with the time of each. They include departures that were sent
    /// while the connection still seemed alive: a lost connection goes unnoticed for a while.
    gone: VecDeque<(Instant, Departure)>,
    /// Time of the newest departure that was evicted because there were too many.
    dropped: Option<Instant>,
    /// The last offer for the client's receiving connection. The media plane reports only answers that it cannot use,
    /// so an answered offer is stored until the next one.
    offer: Option<Offered>,
}

#[derive(Debug)]
struct Offered {
    description: proto::SessionDescription,
    /// Answers passed to the media plane and not refused by it. At 0 the offer is still unanswered.
    answers: u32,
}

impl Offered {
    fn is_waiting(&self) -> bool {
        self.answers == 0
    }
}

impl Missed {
    fn note_gone(&mut self, now: Instant, departure: Departure) {
        if self.gone.len() >= MISSED {
            self.dropped = self.gone.pop_front().map(|(at, _)| at);
        }
        self.gone.push_back((now, departure));
    }

    /// Removes departures that were sent to the client more than `unnoticed` ago; those messages have arrived.
    fn forget_before(&mut self, now: Instant, unnoticed: Duration) {
        let old = |at: Instant| now.saturating_duration_since(at) > unnoticed;
        while self.gone.pop_front_if(|(at, _)| old(*at)).is_some() {}
        self.dropped.take_if(|at| old(*at));
    }

    /// All stored departures, about to be sent. Their times are set to `now`, since these messages may be lost as
    /// well.
    fn tell_gone(&mut self, now: Instant) -> impl Iterator<Item = &Departure> {
        self.gone.iter_mut().map(move |(at, departure)| {
            *at = now;
            &*departure
        })
    }

    /// Stores an offer that replaces the previous one. There is one offer at a time.
    pub(super) fn note_offer(&mut self, offer: &proto::SessionDescription) {
        self.offer = Some(Offered { description: offer.clone(), answers: 0 });
    }

    /// Counts an answer. An answer without a number counts for the last offer: many clients do not number their
    /// answers, or number them in their own way. An earlier number does not count.
    pub(super) fn note_answer(&mut self, id: u32) {
        let answered = self.offer.as_mut().filter(|offer| id == 0 || id >= offer.description.id);
        if let Some(offer) = answered {
            offer.answers = offer.answers.saturating_add(1);
        }
    }

    /// The media plane refused an answer.
    pub(super) fn note_refused_answer(&mut self) {
        if let Some(offer) = &mut self.offer {
            offer.answers = offer.answers.saturating_sub(1);
        }
    }

    /// The last offer, unless it has a usable answer.
    pub(super) fn waiting_offer(&self) -> Option<&proto::SessionDescription> {
        self.offer.as_ref().filter(|offer| offer.is_waiting()).map(|offer| &offer.description)
    }
}

impl Session {
    /// The client is back on a new socket. It is first told what it needs to continue, then what it missed. Its media
    /// was connected all the time, or is reconnected by the client's next offer.
    pub(super) fn on_resumed(&mut self, now: Instant, resumed: Resumed) {
        if self.phase == Phase::Joining {
            return self.on_broken();
        }
        self.forget_arrived(now);
        // From here on messages are sent to the client again.
        self.phase = Phase::Joined;
        if self.missed.dropped.is_some() {
            return self.on_broken();
        }
        self.updates.clear();
        self.timers.stop(Timer::Linger);
        // A client that sends no description is the same as before.
        if resumed.client.protocol != 0 {
            self.config.client = resumed.client;
        }
        let signal_drop = self.signal_drop.take();
        if signal_drop != Some(SignalDrop::AtOnce) {
            self.tell_missed(now);
        }
        if signal_drop.is_some() {
            return self.drop_signal(now);
        }
        if let Some(state) = resumed.sync_state {
            self.on_sync_state(now, state);
        }
        if let Some(offer) = resumed.offer.filter(|_| self.phase == Phase::Joined) {
            self.on_offer(offer);
        }
    }

    /// A participant left. The client is told now, or when it resumes.
    pub(super) fn depart(&mut self, now: Instant, departure: Departure) {
        if self.phase == Phase::Joined {
            self.update(departure.info());
        }
        self.missed.note_gone(now, departure);
    }

    /// Removes departures that the client knows of by now. While the client is away it receives nothing, so nothing
    /// is removed.
    pub(super) fn forget_arrived(&mut self, now: Instant) {
        if self.phase == Phase::Joined {
            self.missed.forget_before(now, self.config.unnoticed);
        }
    }

    fn tell_missed(&mut self, now: Instant) {
        let reconnect = proto::ReconnectResponse {
            ice_servers: self.config.server.ice_servers.clone(),
            client_configuration: Some(self.config.server.client_configuration()),
            server_info: Some(self.config.server.to_proto()),
            // The number of the last reliable data message is known only to the media plane, which does not report
            // it. Data channels outlive the loss of a signal connection, so nothing is missing. With 0,
            // livekit-client resends nothing; other clients resend everything that they have buffered, and receivers
            // drop duplicates.
            last_message_seq: 0,
        };
        self.signal(Message::Reconnect(reconnect));
        let (roster, by_identity) = (&self.roster, self.replaces_by_identity());
        let gone = self.missed.tell_gone(now).filter(|departure| !roster.is_back(departure, by_identity));
        self.updates = gone.map(Departure::info).collect();
        self.flush_updates();
        self.updates = std::iter::once(self.own.info().clone()).chain(self.roster.infos()).collect();
        self.flush_updates();
        self.timers.stop(Timer::RoomCounts);
        let room = self.room_now();
        self.signal(Message::RoomUpdate(proto::RoomUpdate { room: Some(room) }));
        self.refresh_token(now);
        // The last messages may have been lost with the socket.
        self.tell_pending_again();
        self.tell_permissions_again();
        self.measured.tell_all_again();
        self.tell_wanted_again(now);
        if let Some(offer) = self.missed.waiting_offer().cloned() {
            self.tell_offer(now, offer);
        }
    }

    /// The state that the client believes it has. A client that publishes a track unknown to this session must start
    /// a new session.
    pub(super) fn on_sync_state(&mut self, now: Instant, state: proto::SyncState) {
        let published = state.publish_tracks.iter().filter_map(|published| published.track.as_ref());
        let mut published = published.map(|track| TrackSid::new(track.sid.as_str()));
        if published.any(|sid| !self.tracks.knows(&sid)) || !state.publish_data_tracks.is_empty() {
            return self.on_broken();
        }
        if self.check_sids("sync_state", &state.track_sids_disabled) {
            for sid in state.track_sids_disabled {
                self.switch_off(&TrackSid::new(sid));
            }
        }
        if let Some(wish) = state.subscription {
            self.on_subscription(now, wish);
        }
    }

    /// Connection qualities of participants have changed. If the media of this participant is lost while its signal
    /// connection is lost, too, the session waits for its client only for a short time.
    pub(super) fn on_qualities(&mut self, now: Instant, changes: Vec<ParticipantQuality>) {
        let me = &self.config.sid;
        let lost = |change: &ParticipantQuality| {
            change.participant == *me && change.quality == ConnectionQuality::Lost
        };
        if self.phase == Phase::Lingering && changes.iter().any(lost) {
            self.timers.set_earliest(Timer::Linger, now + self.config.limits.linger);
        }
        self.measure_qualities(changes);
    }

    /// Closes the signal connection as if the network had failed.
    pub(super) fn drop_signal(&mut self, now: Instant) {
        self.flush_updates();
        self.out.push_back(Output::CloseSocket { code: leaving::CLOSE_GOING_AWAY });
        self.on_signal_lost(now, false);
    }

    /// Disables the track and leaves the rest of its demand unchanged.
    fn switch_off(&mut self, track: &TrackSid) {
        let Some(demand) = self.subscriptions.demand_of(track) else {
            return self.discard(Discard::UnknownTrack);
        };
        self.set_demand(track, sfu_protocol::TrackDemand { enabled: false, ..demand });
    }
}
