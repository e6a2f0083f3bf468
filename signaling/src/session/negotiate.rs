//! Relays session descriptions and ICE candidates between the client and the media plane.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use livekit_protocol as proto;
use livekit_protocol::request_response::{Reason, Request};
use livekit_protocol::signal_response::Message;
use serde::Deserialize;
use sfu_protocol::{Command, ConnectionMode, NegotiationError, Target, TrackSid};

use super::timers::Timer;
use super::{Discard, Phase, Session};

/// Twice the interval between a client's pings.
const TWO_PINGS: Duration = Duration::from_secs(10);

impl Session {
    /// The client's offer, for its only connection or for its publishing connection.
    pub(super) fn on_offer(&mut self, offer: proto::SessionDescription) {
        if let Err(error) = check_description(&offer, "offer") {
            return self.refuse(Discard::Malformed, Reason::InvalidRequest, error, None);
        }
        let participant = self.config.sid.clone();
        self.command(Command::Offer { participant, id: offer.id, sdp: offer.sdp });
    }

    /// The client's answer, for its receiving connection.
    pub(super) fn on_answer(&mut self, answer: proto::SessionDescription) {
        if self.config.mode == ConnectionMode::Single {
            return self.discard(Discard::UnexpectedAnswer);
        }
        if let Err(error) = check_description(&answer, "answer") {
            return self.refuse(Discard::Malformed, Reason::InvalidRequest, error, None);
        }
        self.missed.note_answer(answer.id);
        if self.missed.waiting_offer().is_none() {
            self.timers.stop(Timer::Answer);
        }
        let participant = self.config.sid.clone();
        self.command(Command::Answer { participant, id: answer.id, sdp: answer.sdp });
    }

    /// An ICE candidate of the client. The server is ICE-lite: it answers connectivity checks and sends none, so it
    /// does not use the candidate. It only checks the syntax, and tells the client about an error.
    pub(super) fn on_trickle(&mut self, trickle: proto::TrickleRequest) {
        if trickle.r#final && trickle.candidate_init.is_empty() {
            return;
        }
        if let Err(error) = serde_json::from_str::<CandidateInit>(&trickle.candidate_init) {
            let text = format!("trickle.candidateInit: {error}");
            let request = Some(Request::Trickle(trickle));
            self.refuse(Discard::Malformed, Reason::UnclassifiedError, text, request);
        }
    }

    /// The media plane has answered the client's offer.
    pub(super) fn on_answer_made(&mut self, id: u32, sdp: String, mids: BTreeMap<String, TrackSid>) {
        self.signal(Message::Answer(description("answer", id, sdp, mids)));
    }

    /// The media plane sends an offer for the client's receiving connection.
    pub(super) fn on_offer_made(
        &mut self,
        now: Instant,
        id: u32,
        sdp: String,
        mids: BTreeMap<String, TrackSid>,
    ) {
        if self.config.mode != ConnectionMode::Single {
            let offer = description("offer", id, sdp, mids);
            self.missed.note_offer(&offer);
            self.tell_offer(now, offer);
        }
    }

    /// Sends an offer to a connected client, which must answer it in time.
    pub(super) fn tell_offer(&mut self, now: Instant, offer: proto::SessionDescription) {
        if self.phase == Phase::Joined {
            self.timers.set(Timer::Answer, now + self.config.limits.answer);
            self.signal(Message::Offer(offer));
        }
    }

    /// The server's offer was not answered in time. A client that has sent nothing at all lately may have lost its
    /// connection, and the offer with it. In that case the session waits until the loss is noticed; the client then
    /// has time to resume, and receives the offer again.
    pub(super) fn on_answer_due(&mut self, now: Instant) {
        if now.saturating_duration_since(self.heard) < TWO_PINGS {
            self.on_broken();
        } else {
            self.timers.set(Timer::Answer, now + TWO_PINGS);
        }
    }

    /// A description could not be used. The protocol has no message for this, so the general response names the
    /// description and the faulty line of it.
    pub(super) fn on_negotiation_failed(
        &mut self,
        now: Instant,
        target: Target,
        id: u32,
        error: &NegotiationError,
    ) {
        let which = match target {
            Target::Publisher => "offer",
            Target::Subscriber => {
                self.missed.note_refused_answer();
                // No timer while the client is away: it receives the offer again when it resumes.
                if self.phase == Phase::Joined && self.missed.waiting_offer().is_some() {
                    self.timers.set(Timer::Answer, now + self.config.limits.answer);
                }
                "answer"
            }
        };
        let text = format!("{which} {id}: {}: {}", error.field, error.reason);
        self.refuse(Discard::Malformed, Reason::UnclassifiedError, text, None);
    }
}

fn description(
    kind: &str,
    id: u32,
    sdp: String,
    mid_to_track: BTreeMap<String, TrackSid>,
) -> proto::SessionDescription {
    let mid_to_track_id = mid_to_track.into_iter().map(|(mid, track)| (mid, track.to_string())).collect();
    proto::SessionDescription { r#type: kind.to_owned(), sdp, id, mid_to_track_id }
}

fn check_description(description: &proto::SessionDescription, kind: &'static str) -> Result<(), String> {
    // The type may be empty, since the message itself says whether this is an offer or an answer.
    if !description.r#type.is_empty() && description.r#type != kind {
        return Err(format!("{kind}.type: must be `{kind}`"));
    }
    if description.sdp.is_empty() {
        return Err(format!("{kind}.sdp: is empty"));
    }
    Ok(())
}

/// An `RTCIceCandidateInit`, parsed only to check its syntax. Every field may be missing. One without a candidate
/// marks the end of candidates, and native clients that know no index send -1.
#[derive(Deserialize)]
#[expect(dead_code, reason = "its shape is what is checked")]
struct CandidateInit {
    #[serde(default)]
    candidate: Option<String>,
    #[serde(rename = "sdpMid", default)]
    sdp_mid: Option<String>,
    #[serde(rename = "sdpMLineIndex", default)]
    sdp_m_line_index: Option<i32>,
    #[serde(rename = "usernameFragment", default)]
    username_fragment: Option<String>,
}
