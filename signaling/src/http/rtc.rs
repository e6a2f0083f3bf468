//! Endpoints that open a session: `/rtc`, `/rtc/v1` and their `validate`.
//!
//! Everything that can fail is done before the WebSocket handshake completes, so that failures are reported by HTTP
//! status.

use std::sync::Arc;

use axum::Extension;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use livekit_protocol::RoomConfiguration;
use sfu_protocol::ParticipantSid;

use super::bearer;
use super::join::query::JoinQuery;
use super::join::{self, JoinError};
use super::long_lines::{LongQuery, query_of};
use super::serve::Connection;
use crate::app::AppState;
use crate::session::{self, AdmitError, RefreshClaims, SocketLimits, TokenIssuer};
use crate::token::{Grants, TokenError, claims_from_permission, issue, object, verify};

/// Refusal of a join. The body is plain text, because clients show it to people.
struct Refusal {
    status: StatusCode,
    code: &'static str,
    text: String,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, [(header::CACHE_CONTROL, "no-store")], self.text).into_response()
    }
}

impl From<TokenError> for Refusal {
    fn from(error: TokenError) -> Self {
        let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::UNAUTHORIZED);
        Self { status, code: error.code(), text: error.to_string() }
    }
}

impl From<JoinError> for Refusal {
    fn from(error: JoinError) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code: error.code(), text: error.to_string() }
    }
}

impl From<AdmitError> for Refusal {
    fn from(error: AdmitError) -> Self {
        Self { status: error.status, code: "not_admitted", text: error.text }
    }
}

/// Handles a join: upgrades to a WebSocket and runs a session on it.
pub(super) async fn join(
    State(app): State<AppState>,
    Extension(connection): Extension<Connection>,
    RawQuery(query): RawQuery,
    long: Option<Extension<LongQuery>>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let Ok(upgrade) = upgrade else {
        return (StatusCode::NOT_FOUND, "this address takes WebSocket connections only\n").into_response();
    };
    let admitted = match request(&app, &connection, query_of(query.as_deref(), long.as_deref()), &headers) {
        Ok((parameters, grants)) => app.rooms().admit(parameters, grants).await.map_err(Refusal::from),
        Err(refusal) => Err(refusal),
    };
    match admitted {
        Ok(admitted) => {
            app.http_metrics().join("admitted");
            connection.ticket.became_session();
            SocketLimits::default().apply(upgrade).on_upgrade(async move |socket| {
                session::socket::serve(socket, admitted).await;
                drop(connection);
            })
        }
        Err(refusal) => {
            app.http_metrics().join(refusal.code);
            tracing::debug!(status = %refusal.status, text = refusal.text, "join refused");
            refusal.into_response()
        }
    }
}

/// Tells whether [`join`] would admit the client. Web pages ask here, because a browser does not report why a WebSocket
/// failed.
pub(super) async fn validate(
    State(app): State<AppState>,
    Extension(connection): Extension<Connection>,
    RawQuery(query): RawQuery,
    long: Option<Extension<LongQuery>>,
    headers: HeaderMap,
) -> Response {
    let checked = match request(&app, &connection, query_of(query.as_deref(), long.as_deref()), &headers) {
        Ok((parameters, grants)) => app.rooms().check(&parameters, &grants).await.map_err(Refusal::from),
        Err(refusal) => Err(refusal),
    };
    match checked {
        Ok(()) => ([(header::CACHE_CONTROL, "no-store")], "success").into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

/// Checks the token, then decodes the join parameters. In this order nothing large is decoded for clients without a
/// token.
fn request(
    app: &AppState,
    connection: &Connection,
    query: &str,
    headers: &HeaderMap,
) -> Result<(session::JoinParameters, session::Grants), Refusal> {
    let query = JoinQuery::parse(query)?;
    let token = match (bearer::from_header(headers), query.value("access_token")?) {
        (Ok(Some(token)), _) | (Ok(None) | Err(_), Some(token)) => token,
        (Ok(None), None) => return Err(TokenError::Missing.into()),
        (Err(error), None) => return Err(error.into()),
    };
    let limits = app.config().token_limits();
    let grants = verify::verify_join(app.keys(), &limits, token, app.clock().now().unix)?;
    let agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
    let mut parameters = query.join_parameters(agent)?;
    parameters.client_info.address = connection.remote.to_string();
    let grants = with_publish_only(grants, parameters.publish_only.as_deref(), limits.identity)?;
    Ok((session_parameters(parameters), session_grants(app, grants)?))
}

/// For a connection that only publishes, appends `suffix` to the identity and forbids subscribing. Such a second
/// connection of the same person needs its own identity.
fn with_publish_only(mut grants: Grants, suffix: Option<&str>, limit: usize) -> Result<Grants, TokenError> {
    let Some(suffix) = suffix else { return Ok(grants) };
    let suffix = format!("#{suffix}");
    // The identity in a refreshed token already has the suffix.
    if !grants.identity.ends_with(&suffix) {
        grants.identity.push_str(&suffix);
    }
    grants.video.can_subscribe = Some(false);
    if grants.identity.len() > limit {
        return Err(TokenError::TooLong { field: "publish", length: grants.identity.len(), limit });
    }
    Ok(grants)
}

fn session_parameters(parameters: join::JoinParameters) -> session::JoinParameters {
    session::JoinParameters {
        mode: match parameters.mode {
            join::SignalMode::Single => session::SignalMode::Single,
            join::SignalMode::Dual => session::SignalMode::Dual,
        },
        client: parameters.client_info,
        auto_subscribe: parameters.auto_subscribe,
        adaptive_stream: parameters.adaptive_stream,
        never_pause: parameters.subscriber_allow_pause == Some(false),
        metadata: parameters.metadata,
        attributes: parameters.attributes,
        add_tracks: parameters.add_track_requests,
        offer: parameters.publisher_offer,
        resume: parameters.resume.map(|resume| session::Resume {
            participant: ParticipantSid::new(resume.participant_sid),
            reason: resume.reason,
        }),
        sync_state: parameters.sync_state,
    }
}

fn session_grants(app: &AppState, grants: Grants) -> Result<session::Grants, Refusal> {
    let room_config = grants.room_config.clone().map(object::without_nulls);
    let room_config = room_config
        .map(serde_json::from_value::<RoomConfiguration>)
        .transpose()
        .map_err(|error| Refusal::from(TokenError::BadClaims(format!("roomConfig: {error}"))))?;
    Ok(session::Grants {
        room: grants.room().to_owned(),
        participant: session::ParticipantDescription {
            identity: grants.identity.clone(),
            name: grants.name.clone(),
            metadata: grants.metadata.clone(),
            attributes: grants.attributes.clone(),
            kind: grants.kind,
            kind_details: grants.kind_details.clone(),
            permission: grants.permission(),
        },
        room_config,
        issuer: Arc::new(Refresher { app: app.clone(), grants }),
    })
}

/// Issues refreshed tokens for a session, based on the grants of its first token.
struct Refresher {
    app: AppState,
    grants: Grants,
}

impl TokenIssuer for Refresher {
    fn issue(&self, claims: &RefreshClaims, unix_s: u64) -> Option<String> {
        let mut grants = self.grants.clone();
        grants.name.clone_from(&claims.name);
        grants.metadata.clone_from(&claims.metadata);
        grants.attributes.clone_from(&claims.attributes);
        claims_from_permission(&mut grants.video, &claims.permission);
        match issue::refresh(self.app.keys(), &grants, unix_s) {
            Ok(token) => Some(token),
            Err(error) => {
                tracing::error!(%error, "no fresh token for a session");
                None
            }
        }
    }
}
