//! Answers as HTTP responses: status, header fields, and a JSON body.

use http::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, RETRY_AFTER,
    WWW_AUTHENTICATE,
};
use http::{HeaderMap, Response, StatusCode};
use serde::Serialize;

use crate::daemon::http::body::Body;
use crate::daemon::peer::Answer;
use crate::token::compact::Claims;
use crate::wire::{Code, Issued, Refusal, Verified};

/// The header with a token, in requests and in answers.
pub const USER_TOKEN: HeaderName = HeaderName::from_static("x-slurm-user-token");
/// The header with the name of its user.
pub const USER_NAME: HeaderName = HeaderName::from_static("x-slurm-user-name");
/// The header with a token in the place of the one that was verified.
const REFRESHED_TOKEN: HeaderName = HeaderName::from_static("x-slurm-refreshed-token");
/// The header with the code of an error, for proxies that drop its body.
const CODE: HeaderName = HeaderName::from_static("x-slurm-tokend-code");

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
const JWK_SET: HeaderValue = HeaderValue::from_static("application/jwk-set+json");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
/// As long as somebody may go without a key that is new.
const FIVE_MINUTES: HeaderValue = HeaderValue::from_static("public, max-age=300");

/// A response to a request.
pub fn response(answer: &Answer<'_>) -> Response<Body> {
    match answer {
        Answer::Token(issued) => {
            // Room for all of it: no copy of the token stays behind.
            let room = 256 + issued.token.len() + 2 * issued.user.len() + issued.kid.len();
            let mut response = json(StatusCode::OK, issued, room);
            insert_token(response.headers_mut(), USER_TOKEN, &issued.token);
            response
        }
        Answer::Refused(refusal) => refused(refusal),
        Answer::Verified(told) => verified(told, None),
        Answer::Metrics(metrics) => respond(
            StatusCode::OK,
            OPEN_METRICS,
            metrics.text.clone().into_bytes(),
        ),
        // Nobody asks for these here.
        Answer::Line(_) => internal(),
    }
}

/// The response to a token that is valid, and with one in its place where there is one.
pub fn verified(told: &Verified, fresh: Option<&Issued>) -> Response<Body> {
    let mut response = json(StatusCode::OK, told, 1024);
    let headers = response.headers_mut();
    insert(headers, USER_NAME, &told.user);
    insert(
        headers,
        HeaderName::from_static("x-slurm-claim-kid"),
        &told.kid,
    );
    insert_claims(headers, &told.claims);
    if let Some(fresh) = fresh {
        insert_token(headers, REFRESHED_TOKEN, &fresh.token);
    }
    response
}

fn insert_claims(headers: &mut HeaderMap, claims: &Claims) {
    let mut claim = |name: &'static str, value: Option<&str>| {
        if let Some(value) = value {
            insert(headers, HeaderName::from_static(name), value);
        }
    };
    let number = |number: Option<u64>| number.map(|number| number.to_string());
    let exp = number(Some(claims.exp));
    claim("x-slurm-claim-exp", exp.as_deref());
    claim("x-slurm-claim-iat", number(claims.iat).as_deref());
    claim("x-slurm-claim-nbf", number(claims.nbf).as_deref());
    claim(
        "x-slurm-claim-auth-time",
        number(claims.auth_time).as_deref(),
    );
    claim("x-slurm-claim-jti", claims.jti.as_deref());
    claim("x-slurm-claim-iss", claims.iss.as_deref());
    let audience = (!claims.aud.is_empty()).then(|| claims.aud.join(","));
    claim("x-slurm-claim-aud", audience.as_deref());
    let actor = claims.act.as_ref().map(|act| act.sub.as_str());
    claim("x-slurm-claim-act", actor);
    claim(
        "x-slurm-claim-uid",
        number(claims.uid.map(u64::from)).as_deref(),
    );
    claim(
        "x-slurm-claim-gid",
        number(claims.gid.map(u64::from)).as_deref(),
    );
    let groups = claims.id.as_ref().map(|id| {
        // A name with a comma in it would read as two.
        let names = id.groups.keys().map(String::as_str);
        names.filter(|name| !name.contains(',')).collect::<Vec<_>>()
    });
    let groups = groups
        .filter(|names| !names.is_empty())
        .map(|names| names.join(","));
    claim("x-slurm-claim-groups", groups.as_deref());
}

/// A refusal.
pub fn refused(refusal: &Refusal) -> Response<Body> {
    let mut response = json(status(refusal.code), refusal, 512);
    let headers = response.headers_mut();
    headers.insert(CODE, HeaderValue::from_static(refusal.code.as_str()));
    if let Some(seconds) = refusal.retry_after {
        headers.insert(RETRY_AFTER, seconds.into());
    }
    if let Some(challenge) = challenge(refusal) {
        headers.insert(WWW_AUTHENTICATE, challenge);
    }
    response
}

/// What answers a method that a path doesn't have.
pub fn not_this_method(refusal: &Refusal, allowed: &'static str) -> Response<Body> {
    let mut response = refused(refusal);
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

/// A refusal with a status of its own: HTTP tells some things apart that are
/// one to the protocol.
pub fn refused_as(status: StatusCode, refusal: &Refusal) -> Response<Body> {
    let mut response = refused(refusal);
    *response.status_mut() = status;
    response
}

/// A fault of our own.
pub fn internal() -> Response<Body> {
    refused(&Refusal::new(
        Code::Internal,
        "The daemon gave no answer to the request.",
        "Ask your administrator to look at the journal of slurm-tokend.",
    ))
}

/// The public keys, or that they are still those of this tag.
pub fn jwks(keys: &[u8], tag: &HeaderValue, is_known: bool) -> Response<Body> {
    let (status, body) = if is_known {
        (StatusCode::NOT_MODIFIED, Vec::new())
    } else {
        (StatusCode::OK, keys.to_vec())
    };
    let mut response = respond(status, JWK_SET, body);
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, FIVE_MINUTES);
    headers.insert(ETAG, tag.clone());
    response
}

/// Something in JSON; `room` is how much memory it most likely takes.
pub fn json<T: Serialize>(status: StatusCode, value: &T, room: usize) -> Response<Body> {
    let mut bytes = Vec::with_capacity(room);
    // Our answers hold strings, numbers and lists: nothing that JSON can't hold.
    if serde_json::to_writer(&mut bytes, value).is_err() {
        bytes.clear();
    }
    respond(status, JSON, bytes)
}

fn respond(status: StatusCode, form: HeaderValue, bytes: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::of(bytes));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.reserve(16);
    headers.insert(CONTENT_TYPE, form);
    headers.insert(CACHE_CONTROL, NO_STORE);
    response
}

/// This response is the last of its connection.
pub fn is_last(mut response: Response<Body>) -> Response<Body> {
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// The response as it stands on the wire, the last of a connection: for what
/// hyper has no part in.
pub fn written(response: &Response<Body>) -> Vec<u8> {
    let status = response.status();
    let mut text = format!("HTTP/1.1 {status}\r\n").into_bytes();
    for (name, value) in response.headers() {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    let length = response.body().bytes().len();
    text.extend_from_slice(
        format!("content-length: {length}\r\nconnection: close\r\n\r\n").as_bytes(),
    );
    text.extend_from_slice(response.body().bytes());
    text
}

/// Text from the claims; what can't stand in a header is left out.
fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

fn insert_token(headers: &mut HeaderMap, name: HeaderName, token: &str) {
    if let Some(value) = token_value(token) {
        headers.insert(name, value);
    }
}

/// A token as the value of a header, for nobody to print.
pub fn token_value(token: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(token).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The status of each code (RFC 9110 section 15, RFC 6750 section 3.1).
fn status(code: Code) -> StatusCode {
    match code {
        Code::MalformedRequest | Code::UnsupportedVersion | Code::BadLifespan => {
            StatusCode::BAD_REQUEST
        }
        Code::AuthorizationHeaderMissing
        | Code::InvalidHeader
        | Code::TokenExpired
        | Code::TokenInvalid => StatusCode::UNAUTHORIZED,
        Code::NotAllowed
        | Code::PrivilegedUser
        | Code::Blocked
        | Code::UnknownUser
        | Code::LifespanTooLong
        | Code::NotYourToken
        | Code::InsufficientRole => StatusCode::FORBIDDEN,
        Code::UnknownOperation => StatusCode::NOT_FOUND,
        Code::Timeout => StatusCode::REQUEST_TIMEOUT,
        Code::RequestTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        Code::Busy | Code::AuditUnavailable | Code::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
        Code::TokenTooLarge | Code::Internal | Code::Unknown => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// What RFC 6750 section 3 has a client told: nothing of an error where no
/// token came.
fn challenge(refusal: &Refusal) -> Option<HeaderValue> {
    let error = match refusal.code {
        Code::AuthorizationHeaderMissing => {
            return Some(HeaderValue::from_static("Bearer realm=\"slurm\""));
        }
        Code::InvalidHeader => "invalid_request",
        Code::TokenExpired | Code::TokenInvalid => "invalid_token",
        Code::InsufficientRole => "insufficient_scope",
        _ => return None,
    };
    // Quotes and backslashes are no part of a description, nor is what isn't ASCII.
    let description = refusal.message.chars().map(|character| match character {
        '"' | '\\' => '\'',
        ' '..='~' => character,
        _ => '?',
    });
    let description: String = description.collect();
    let challenge =
        format!("Bearer realm=\"slurm\", error=\"{error}\", error_description=\"{description}\"");
    HeaderValue::try_from(challenge).ok()
}
