//! Going on with a session after its signal connection was lost: a new socket takes its place.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use livekit_protocol as proto;
use livekit_protocol::signal_response::Message;
use sfu_protocol::{ConnectionQuality, ParticipantQuality, TrackSid};

use super::roster::Departure;
use super::simulate::SignalDrop;
use super::timers::Timer;
use super::{Discard, Output, Phase, Session, leaving};

/// Participants that may go while the client is away, or may be. After more than that it starts anew.
const MISSED: usize = 1024;

/// What a client says when it goes on with its session.
#[derive(Debug, Clone, PartialEq)]
pub struct Resumed {
    /// What it says of itself now.
    pub client: proto::ClientInfo,
    /// Its offer, with fresh ICE credentials, if it came with the request.
    pub offer: Option<proto::SessionDescription>,
    /// What it has, if that came with the request.
    pub sync_state: Option<proto::SyncState>,
}

/// What a client must hear of when it comes back.
#[derive(Debug, Default)]
pub(super) struct Missed {
    /// Those who went while it was away, and when. Also those who went while it seemed to be there: a connection is
    /// dead for a while before anybody notices.
    gone: VecDeque<(Instant, Departure)>,
    /// When the last of those went that were too many to be kept.
    dropped: Option<Instant>,
    /// Our last offer for its receiving connection. The media plane tells only of answers that it cannot use, so an offer
    /// that was answered is kept until the next one.
    offer: Option<Offered>,
}

#[derive(Debug)]
struct Offered {
    description: proto::SessionDescription,
    /// Answers that the media plane was given and has not refused. The offer waits while there is none.
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

    /// What the client was told longer ago than that has reached it.
    fn forget_before(&mut self, now: Instant, unnoticed: Duration) {
        let old = |at: Instant| now.saturating_duration_since(at) > unnoticed;
        while self.gone.pop_front_if(|(at, _)| old(*at)).is_some() {}
        self.dropped.take_if(|at| old(*at));
    }

    /// All who went. They are told now, which may be lost again.
    fn tell_gone(&mut self, now: Instant) -> impl Iterator<Item = &Departure> {
        self.gone.iter_mut().map(move |(at, departure)| {
            *at = now;
            &*departure
        })
    }

    /// We have offered. There is one offer at a time.
    pub(super) fn note_offer(&mut self, offer: &proto::SessionDescription) {
        self.offer = Some(Offered { description: offer.clone(), answers: 0 });
    }

    /// The client has answered an offer. Unless it says that it answers an earlier one, it is the last: many clients
    /// do not number their answers, or in their own way.
    pub(super) fn note_answer(&mut self, id: u32) {
        let answered = self.offer.as_mut().filter(|offer| id == 0 || id >= offer.description.id);
        if let Some(offer) = answered {
            offer.answers = offer.answers.saturating_add(1);
        }
    }

    /// The media plane cannot use an answer.
    pub(super) fn note_refused_answer(&mut self) {
        if let Some(offer) = &mut self.offer {
            offer.answers = offer.answers.saturating_sub(1);
        }
    }

    /// The offer that has no usable answer yet.
    pub(super) fn waiting_offer(&self) -> Option<&proto::SessionDescription> {
        self.offer.as_ref().filter(|offer| offer.is_waiting()).map(|offer| &offer.description)
    }
}

impl Session {
    /// The client is back on a new socket: it is told what it needs to go on, then what it missed. Media was there
    /// all the time, or comes back with the client's next offer.
    pub(super) fn on_resumed(&mut self, now: Instant, resumed: Resumed) {
        if self.phase == Phase::Joining {
            return self.on_broken();
        }
        self.forget_arrived(now);
        // Somebody is there to be told again.
        self.phase = Phase::Joined;
        if self.missed.dropped.is_some() {
            return self.on_broken();
        }
        self.updates.clear();
        self.timers.stop(Timer::Linger);
        // Who says nothing of itself is who it was.
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

    /// Somebody went. The client is told, now or when it is back.
    pub(super) fn depart(&mut self, now: Instant, departure: Departure) {
        if self.phase == Phase::Joined {
            self.update(departure.info());
        }
        self.missed.note_gone(now, departure);
    }

    /// Forgets departures of which the client has heard by now. While it is away it hears nothing.
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
            // Reliable data is seen by the media plane alone, which tells nothing of it. Data channels outlive the loss
            // of a signal connection, so nothing is missing: at 0 livekit-client sends nothing again, others all that
            // they keep, and receivers know what they have.
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
        // What was said last may have been lost with the socket.
        self.tell_pending_again();
        self.tell_permissions_again();
        self.measured.tell_all_again();
        self.tell_wanted_again(now);
        if let Some(offer) = self.missed.waiting_offer().cloned() {
            self.tell_offer(now, offer);
        }
    }

    /// What the client believes to have. If it publishes what is not known here, it must start anew.
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

    /// How well participants are connected. If that is not at all, and our own client has no signal connection
    /// either, it is not awaited for long.
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

    /// Lets the signal connection go as if the network had.
    pub(super) fn drop_signal(&mut self, now: Instant) {
        self.flush_updates();
        self.out.push_back(Output::CloseSocket { code: leaving::CLOSE_GOING_AWAY });
        self.on_signal_lost(now, false);
    }

    /// Nothing of a track is wanted, whatever else was.
    fn switch_off(&mut self, track: &TrackSid) {
        let Some(demand) = self.subscriptions.demand_of(track) else {
            return self.discard(Discard::UnknownTrack);
        };
        self.set_demand(track, sfu_protocol::TrackDemand { enabled: false, ..demand });
    }
}
