//! What the heads of requests say: whose token comes along, who passed the
//! request on, and whether it's one request.

use http::header::{
    AUTHORIZATION, CONTENT_TYPE, FORWARDED, HOST, HeaderName, ORIGIN, TRANSFER_ENCODING, VIA,
};
use http::{HeaderMap, Version};
use serde::Deserialize;

use crate::daemon::http::answer::{USER_NAME, USER_TOKEN};
use crate::token::bearer;
use crate::wire::{Code, LifespanWord, Refusal, Request, TokenText, shorten};

/// Whatever passed a request on says so in one of these, or in one that begins
/// with [`X_FORWARDED`].
const PASSED_ON: [HeaderName; 4] = [FORWARDED, VIA, ORIGIN, HeaderName::from_static("x-real-ip")];
const X_FORWARDED: &str = "x-forwarded-";

/// Is it clear where a request ends and to whom it goes: proxies before us
/// could have seen another one (RFC 9112 sections 3.2 and 6.1).
pub fn check_framing(version: Version, headers: &HeaderMap) -> Result<(), Refusal> {
    if headers.contains_key(TRANSFER_ENCODING) {
        return Err(malformed(
            "it has a Transfer-Encoding",
            "Send a short body, with its Content-Length, or none.",
        ));
    }
    let hosts = headers.get_all(HOST).iter().count();
    if hosts > 1 || (hosts == 0 && version == Version::HTTP_11) {
        return Err(malformed(
            "it must have one Host, and has none or several",
            "Send one, such as Host: localhost.",
        ));
    }
    Ok(())
}

/// Refuses what a proxy or a browser's page made: it may be asked for by
/// somebody else than the peer.
pub fn check_passed_on(headers: &HeaderMap) -> Result<(), Refusal> {
    let passed_on =
        |name: &&HeaderName| PASSED_ON.contains(name) || name.as_str().starts_with(X_FORWARDED);
    match headers.keys().find(passed_on) {
        None => Ok(()),
        Some(name) => Err(Refusal::new(
            Code::NotAllowed,
            format!(
                "The request was passed on by a proxy or comes from a web page, as its header \
                 {name} says, and a token goes only to who asks for it."
            ),
            "Connect to this socket yourself, without a proxy between.",
        )),
    }
}

/// Refuses a token where none is asked for: whoever sends one expects it to matter.
pub fn check_no_token(headers: &HeaderMap) -> Result<(), Refusal> {
    if headers.contains_key(AUTHORIZATION) || headers.contains_key(USER_TOKEN) {
        return Err(malformed(
            "it brings a token, and whoever asks here is known by the socket",
            "Send no token; for a new one in its place ask for /authenticate/refresh.",
        ));
    }
    Ok(())
}

/// A request to verify the token that came along: none, or in one of two headers.
pub fn verification(headers: &HeaderMap) -> Result<Request, Refusal> {
    let [authorization, token] = [AUTHORIZATION, USER_TOKEN].map(|name| texts(headers, &name));
    let (authorization, token) = (authorization?, token?);
    if authorization.len() + token.len() > 1 {
        return Err(bearer::invalid(
            "The request has more than one header that carries a token.",
        ));
    }
    let only = |texts: Vec<&str>| texts.first().map(|text| TokenText::new((*text).to_owned()));
    Ok(Request::Verify {
        token: only(token),
        authorization: only(authorization),
    })
}

/// The same, to have it refreshed.
pub fn renewal(headers: &HeaderMap) -> Result<Request, Refusal> {
    let verification = verification(headers)?;
    let token = verification.shown_token()?.to_owned();
    Ok(Request::Refresh {
        token: Some(TokenText::new(token)),
    })
}

/// The user that is named beside the token.
pub fn named_user(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    match texts(headers, &USER_NAME)?[..] {
        [] => Ok(None),
        [name] => Ok(Some(name.to_owned())),
        _ => Err(bearer::invalid(
            "The request has more than one header that names a user.",
        )),
    }
}

/// The values of a header. What proxies pass on of one that wasn't there is none.
fn texts<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Vec<&'h str>, Refusal> {
    let values = headers.get_all(name).iter().map(|value| {
        value
            .to_str()
            .map_err(|_| bearer::invalid("A header has bytes in it that no token has."))
    });
    let values = values.collect::<Result<Vec<_>, _>>()?;
    let there = values
        .into_iter()
        .filter(|text| !text.trim_ascii().is_empty());
    Ok(there.collect())
}

/// What `/authenticate` takes in its body.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    lifespan: Option<LifespanWord>,
    #[serde(rename = "for")]
    target: Option<String>,
}

/// A request for a token, by the body that came with it.
pub fn issue(headers: &HeaderMap, body: &[u8]) -> Result<Request, Refusal> {
    const HELP: &str = "Send no body, or a JSON object such as {\"lifespan\":600,\"for\":\"alice\"} \
                        with Content-Type: application/json.";
    let wanted = if body.is_empty() {
        Wanted::default()
    } else if !is_json(headers) {
        return Err(malformed("its Content-Type is not application/json", HELP));
    } else if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(malformed("its body is no JSON object", HELP));
    } else {
        serde_json::from_slice(body).map_err(|e| malformed(&shorten(&e.to_string()), HELP))?
    };
    Ok(Request::Issue {
        lifespan: wanted.lifespan,
        target: wanted.target,
    })
}

fn is_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (Some(only), None) = (types.next(), types.next()) else {
        return false;
    };
    let essence = only.to_str().unwrap_or_default().split(';').next();
    essence.is_some_and(|e| e.trim_ascii().eq_ignore_ascii_case("application/json"))
}

/// A request that can't be read.
pub fn malformed(what: &str, help: &str) -> Refusal {
    Refusal::new(
        Code::MalformedRequest,
        format!("The request can't be read: {what}."),
        help,
    )
}
