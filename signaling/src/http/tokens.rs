//! `POST /v1/token`: LiveKit's standard token endpoint. Clients of the chat app present the JWT of their identity
//! provider and get an access token for a room.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode, header, uri::Authority};
use axum::response::{IntoResponse, Response};
use rand::Rng;
use rand::distr::Alphanumeric;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::bearer;
use super::error::ApiError;
use crate::app::AppState;
use crate::config::{Config, RequestField};
use crate::token::idp::{Caller, CallerError, IdentityProvider};
use crate::token::policy::{Decision, Policy, PolicyError, Wish};
use crate::token::{Grants, Kind, TokenError, VideoGrant, issue, object};

/// Rule that decides who gets a token.
pub enum TokenPolicy {
    /// Everybody gets a token (`--dev` without an identity provider).
    Everybody,
    /// Callers that the identity provider authenticates and the policy admits.
    Checked(Box<(IdentityProvider, Policy)>),
    /// Nobody gets a token, because no identity provider is configured.
    Nobody,
}

/// Body of a token request, with field names in snake case or camel case. Unknown fields, which newer clients may send,
/// are ignored.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TokenRequest {
    #[serde(alias = "roomName")]
    room_name: Option<String>,
    #[serde(alias = "participantName")]
    participant_name: Option<String>,
    #[serde(alias = "participantIdentity")]
    participant_identity: Option<String>,
    #[serde(alias = "participantMetadata")]
    participant_metadata: Option<String>,
    #[serde(alias = "participantAttributes")]
    #[serde(deserialize_with = "object::texts")]
    participant_attributes: Option<BTreeMap<String, String>>,
    #[serde(alias = "roomConfig")]
    room_config: Option<serde_json::Map<String, Value>>,
}

#[derive(Debug, Serialize)]
struct TokenResponse {
    server_url: String,
    participant_token: String,
}

pub(super) async fn create(
    State(app): State<AppState>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    match try_create(&app, &headers, body).await {
        Ok(answer) => {
            app.http_metrics().token("issued");
            let no_store = [(header::CACHE_CONTROL, "no-store")];
            (StatusCode::CREATED, no_store, Json(answer)).into_response()
        }
        Err(error) => {
            app.http_metrics().token(error.code);
            tracing::debug!(status = %error.status, code = error.code, "token refused");
            error.into_response()
        }
    }
}

async fn try_create(
    app: &AppState,
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<TokenResponse, ApiError> {
    let server_url = server_url(app.config(), headers)?;
    let request = match app.token_policy() {
        TokenPolicy::Nobody => return Err(not_configured()),
        TokenPolicy::Everybody => return finish(app, server_url, free(parse(body)?)),
        TokenPolicy::Checked(checked) => {
            let (provider, policy) = checked.as_ref();
            let token = bearer::from_header(headers)?.ok_or(TokenError::Missing)?;
            let caller = provider.authenticate(token).await?;
            let request = parse(body)?;
            let wish = wish(app.config(), &caller, request)?;
            check_sizes(app, &caller.identity, &wish)?;
            let decision = policy.decide(&caller, &wish).await?;
            granted(caller, wish, decision)
        }
    };
    finish(app, server_url, request)
}

fn not_configured() -> ApiError {
    ApiError::new(
        503,
        "no_identity_provider",
        "this server has no identity provider configured (identity_provider.issuer), so it gives nobody a token",
    )
}

fn parse(body: Result<Bytes, BytesRejection>) -> Result<TokenRequest, ApiError> {
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            ApiError::new(413, "body_too_large", "the body is larger than 1 MiB")
        }
        status => ApiError::new(status.as_u16(), "body", "the body could not be read"),
    })?;
    if body.is_empty() {
        return Ok(TokenRequest::default());
    }
    object::from_slice(&body).map_err(|error| {
        ApiError::new(400, "body", format!("the body is not a JSON object of a token request: {error}"))
            .of_field("body")
    })
}

/// Grants everything that the request asks for. For development.
fn free(request: TokenRequest) -> Grants {
    let or_random = |value: Option<String>, prefix: &str| {
        value.filter(|text| !text.is_empty()).unwrap_or_else(|| random_name(prefix))
    };
    let room = or_random(request.room_name, "room");
    Grants {
        identity: or_random(request.participant_identity, "guest"),
        name: request.participant_name.unwrap_or_default(),
        metadata: request.participant_metadata.unwrap_or_default(),
        attributes: request.participant_attributes.unwrap_or_default(),
        room_config: request.room_config.map(Value::Object),
        ..plain_grants(room)
    }
}

/// What the request asks for, limited to the fields that the caller may choose. A name that it may not choose comes from
/// its token; other fields are left out.
fn wish(config: &Config, caller: &Caller, request: TokenRequest) -> Result<Wish, ApiError> {
    let accepted = &config.token_endpoint.accept_from_request;
    let accepts = |field| accepted.contains(&field);
    let room = request.room_name.filter(|room| !room.is_empty()).ok_or_else(|| {
        ApiError::new(400, "no_room", "say which room: `room_name` is missing").of_field("room_name")
    })?;
    Ok(Wish {
        room,
        name: request
            .participant_name
            .filter(|name| accepts(RequestField::Name) && !name.is_empty())
            .unwrap_or_else(|| caller.name.clone()),
        metadata: request
            .participant_metadata
            .filter(|_| accepts(RequestField::Metadata))
            .unwrap_or_default(),
        attributes: request
            .participant_attributes
            .filter(|_| accepts(RequestField::Attributes))
            .unwrap_or_default(),
        room_config: request.room_config.filter(|_| accepts(RequestField::RoomConfig)).map(Value::Object),
    })
}

fn granted(caller: Caller, wish: Wish, decision: Decision) -> Grants {
    let mut grants = plain_grants(wish.room);
    decision.apply(&mut grants.video);
    grants.identity = caller.identity;
    grants.name = decision.name.unwrap_or(wish.name);
    grants.metadata = decision.metadata.unwrap_or(wish.metadata);
    grants.attributes = decision.attributes.unwrap_or(wish.attributes);
    grants.room_config = decision.room_config.map(Value::Object).or(wish.room_config);
    grants
}

fn plain_grants(room: String) -> Grants {
    Grants {
        identity: String::new(),
        name: String::new(),
        metadata: String::new(),
        attributes: BTreeMap::new(),
        kind: Kind::Standard,
        kind_details: Vec::new(),
        video: VideoGrant { room_join: true, room: Some(room), ..VideoGrant::default() },
        room_preset: String::new(),
        room_config: None,
        expires_at: 0,
    }
}

/// Checks the sizes of identity, room, name, metadata and attributes. Called before the chat app is asked, and again
/// for the final grants.
fn check_sizes(app: &AppState, identity: &str, wish: &Wish) -> Result<(), ApiError> {
    let limits = app.config().token_limits();
    let too_long = |field, length: usize, limit: usize| {
        if length > limit { Err(TokenError::TooLong { field, length, limit }) } else { Ok(()) }
    };
    too_long("participant_identity", identity.len(), limits.identity)?;
    too_long("room_name", wish.room.len(), limits.room)?;
    Ok(limits.check(&wish.name, &wish.metadata, &wish.attributes)?)
}

fn finish(app: &AppState, server_url: String, mut grants: Grants) -> Result<TokenResponse, ApiError> {
    let wish = Wish {
        room: grants.room().to_owned(),
        name: grants.name.clone(),
        metadata: grants.metadata.clone(),
        attributes: grants.attributes.clone(),
        room_config: None,
    };
    check_sizes(app, &grants.identity, &wish)?;
    if let Some(config) = &grants.room_config {
        serde_json::from_value::<livekit_protocol::RoomConfiguration>(object::without_nulls(config.clone()))
            .map_err(|error| {
                ApiError::new(400, "room_config", format!("`room_config` is not usable: {error}"))
                    .of_field("room_config")
            })?;
    }
    let now = app.clock().now().unix;
    let life = Duration::from(app.config().token_endpoint.valid_for).as_secs();
    grants.expires_at = now.saturating_add(life);
    let key = app.keys().signing().ok_or(issue::IssueError::NoKey);
    let token = key.and_then(|key| issue::issue(key, &grants, now));
    let participant_token = token.map_err(|error| ApiError::new(500, "issue", error.to_string()))?;
    Ok(TokenResponse { server_url, participant_token })
}

/// URL that clients connect to: as configured, or the address that this request was sent to.
fn server_url(config: &Config, headers: &HeaderMap) -> Result<String, ApiError> {
    if !config.server_url.is_empty() {
        return Ok(config.server_url.clone());
    }
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text("host").and_then(|host| host.parse::<Authority>().ok()).ok_or_else(|| {
        ApiError::new(
            400,
            "no_host",
            "the request has no usable Host header, and `server_url` is not configured",
        )
        .of_field("Host")
    })?;
    let forwarded = text("x-forwarded-proto").map(|proto| proto.split(',').next().unwrap_or_default().trim());
    let scheme = if matches!(forwarded, Some("https" | "wss")) { "wss" } else { "ws" };
    Ok(format!("{scheme}://{}", without_user(&host)))
}

fn without_user(host: &Authority) -> &str {
    host.as_str().rsplit('@').next().unwrap_or_default()
}

fn random_name(prefix: &str) -> String {
    let letters: String = rand::rng().sample_iter(Alphanumeric).take(10).map(char::from).collect();
    format!("{prefix}-{}", letters.to_ascii_lowercase())
}

impl From<TokenError> for ApiError {
    fn from(error: TokenError) -> Self {
        let api = Self::new(error.status(), error.code(), error.to_string());
        match error {
            TokenError::TooLong { field, .. } => api.of_field(field),
            TokenError::Missing | TokenError::NotBearer => api.of_field("Authorization"),
            _ => api,
        }
    }
}

impl From<CallerError> for ApiError {
    fn from(error: CallerError) -> Self {
        Self::new(error.status(), error.code(), error.to_string()).of_field("Authorization")
    }
}

impl From<PolicyError> for ApiError {
    fn from(error: PolicyError) -> Self {
        let api = Self::new(error.status(), error.code(), error.to_string());
        if matches!(error, PolicyError::Denied { .. }) { api.of_field("room_name") } else { api }
    }
}
