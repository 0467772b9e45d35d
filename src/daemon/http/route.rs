//! One request of the HTTP door: from its head to the operation that it asks
//! for, and back with the answer.

use std::sync::Arc;
use std::time::Instant;

use http::header::IF_NONE_MATCH;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use serde::Serialize;

use crate::daemon::Daemon;
use crate::daemon::http::HttpDoor;
use crate::daemon::http::answer::{self, USER_TOKEN};
use crate::daemon::http::body::{self, Body};
use crate::daemon::http::query::Conditions;
use crate::daemon::http::request;
use crate::daemon::http::stream::{Guest, Stage};
use crate::daemon::http::visit::Visit;
use crate::daemon::metrics::Kind;
use crate::daemon::peer::Peer;
use crate::daemon::quotas::Payer;
use crate::daemon::serve::Exchange;
use crate::wire::{self, Code, Exposition, Refusal};

/// What `/healthz` answers.
#[derive(Serialize)]
struct Health {
    status: &'static str,
    version: &'static str,
}

/// What `/authenticate` stands for in the record while its body isn't read.
const UNREAD: wire::Request = wire::Request::Issue {
    lifespan: None,
    target: None,
};

impl Daemon {
    /// Serves one request.
    pub(super) async fn serve_http(
        self: &Arc<Self>,
        guest: &Arc<Guest>,
        request: Request<Incoming>,
    ) -> Response<Body> {
        guest.is_at(Stage::Served);
        let response = match request::check_framing(request.version(), request.headers()) {
            Ok(()) => self.route(guest, request).await,
            // Where it ends, nobody can say for sure.
            Err(refusal) => answer::is_last(self.unread(guest, &refusal)),
        };
        guest.is_at(Stage::Answering);
        let stopping = self.http.as_ref().is_some_and(HttpDoor::is_stopping);
        if stopping && !guest.is_deaf() {
            return answer::is_last(response);
        }
        response
    }

    async fn route(
        self: &Arc<Self>,
        guest: &Arc<Guest>,
        request: Request<Incoming>,
    ) -> Response<Body> {
        let allowed = match request.uri().path() {
            "/verify" => return self.verify_http(guest, &request).await,
            "/authenticate" | "/authenticate/refresh" => "POST",
            "/.well-known/jwks.json" | "/healthz" | "/metrics" => "GET, HEAD",
            _ => {
                let path = wire::shorten(request.uri().path());
                return self.unread(guest, &unknown(&format!("There is nothing at {path}.")));
            }
        };
        if !allowed.split(", ").any(|method| request.method() == method) {
            let refusal = unknown(&format!(
                "{} does not take {}.",
                request.uri().path(),
                wire::shorten(request.method().as_str())
            ));
            self.record_unread(guest.caller, refusal.code);
            return answer::not_this_method(&refusal, allowed);
        }
        match request.uri().path() {
            "/authenticate" => self.authenticate(guest, request).await,
            "/authenticate/refresh" => self.authenticate_anew(guest, &request).await,
            "/metrics" => {
                let metrics = wire::Request::Metrics {
                    format: Exposition::OpenMetrics,
                };
                self.ask(guest, Kind::Other, metrics).await
            }
            "/healthz" => {
                let health = Health {
                    status: "ok",
                    version: env!("CARGO_PKG_VERSION"),
                };
                answer::json(StatusCode::OK, &health, 64)
            }
            _ => {
                let engine = self.engine();
                let (keys, tag) = &engine.jwks;
                answer::jwks(keys, tag, is_known(request.headers(), tag.as_bytes()))
            }
        }
    }

    /// Forward authentication: is the token valid, and does it meet the
    /// conditions of the query.
    async fn verify_http(
        self: &Arc<Self>,
        guest: &Arc<Guest>,
        request: &Request<Incoming>,
    ) -> Response<Body> {
        let mut conditions = match Conditions::of_query(request.uri().query()) {
            Ok(conditions) => conditions,
            Err(refusal) => return self.unread(guest, &refusal),
        };
        let headers = request.headers();
        let wanted = request::named_user(headers).and_then(|named| {
            conditions.named = named;
            request::verification(headers)
        });
        let wanted = match wanted {
            Ok(wanted) => wanted,
            Err(refusal) => return self.refuse_header(guest, NO_TOKEN, &refusal).await,
        };
        // What is valid is passed on as it is.
        let token = wanted.shown_token().ok().map(answer::token_value);
        let (visit, answered) = Visit::new(guest, Kind::Other, conditions);
        self.visit(visit, wanted);
        let mut response = answered.await.unwrap_or_else(|_| answer::internal());
        if let Some(Some(token)) = token
            && response.status() == StatusCode::OK
        {
            response.headers_mut().insert(USER_TOKEN, token);
        }
        response
    }

    /// A token for the peer, or with `for` for somebody else.
    async fn authenticate(
        self: &Arc<Self>,
        guest: &Arc<Guest>,
        request: Request<Incoming>,
    ) -> Response<Body> {
        if let Err(refusal) = request::check_passed_on(request.headers()) {
            return self.refuse_passed_on(guest, UNREAD, &refusal).await;
        }
        let fit = request::check_no_token(request.headers())
            .and_then(|()| no_query(request.uri().query()));
        if let Err(refusal) = fit {
            return self.unread(guest, &refusal);
        }
        let patience = self.engine().config.limits.request_timeout;
        let (head, body) = request.into_parts();
        let wanted = match body::read(body, patience).await {
            Ok(body) => request::issue(&head.headers, &body),
            // The rest of it would be taken for the next request.
            Err(refusal) => return answer::is_last(self.unread(guest, &refusal)),
        };
        match wanted {
            Ok(wanted) => self.ask(guest, Kind::Issue, wanted).await,
            Err(refusal) => self.unread(guest, &refusal),
        }
    }

    /// A token in the place of the one that comes along.
    async fn authenticate_anew(
        self: &Arc<Self>,
        guest: &Arc<Guest>,
        request: &Request<Incoming>,
    ) -> Response<Body> {
        const NONE: wire::Request = wire::Request::Refresh { token: None };
        let headers = request.headers();
        if let Err(refusal) = request::check_passed_on(headers) {
            return self.refuse_passed_on(guest, NONE, &refusal).await;
        }
        if !request.body().is_end_stream() {
            let refusal =
                request::malformed("it has a body", "Send the token in a header and no body.");
            return self.unread(guest, &refusal);
        }
        if let Err(refusal) = no_query(request.uri().query()) {
            return self.unread(guest, &refusal);
        }
        match request::renewal(headers) {
            Ok(wanted) => self.ask(guest, Kind::Issue, wanted).await,
            Err(refusal) => self.refuse_header(guest, NONE, &refusal).await,
        }
    }

    /// Has a request go its way through the daemon, and waits for its answer.
    async fn ask(
        self: &Arc<Self>,
        guest: &Arc<Guest>,
        kind: Kind,
        request: wire::Request,
    ) -> Response<Body> {
        let (visit, answered) = Visit::new(guest, kind, Conditions::default());
        self.visit(visit, request);
        answered.await.unwrap_or_else(|_| answer::internal())
    }

    fn visit(self: &Arc<Self>, visit: Visit, request: wire::Request) {
        let now = Instant::now();
        // An answer comes by the visit's own way; there is no line to go on with.
        let _ = self.attend_to(self.exchange(visit, request), now);
    }

    fn exchange(&self, visit: Visit, request: wire::Request) -> Exchange {
        Exchange {
            engine: self.engine(),
            peer: Peer::Http(visit),
            request,
            on_behalf: None,
        }
    }

    /// Refuses a request that was passed on, for the record as any other.
    async fn refuse_passed_on(
        self: &Arc<Self>,
        guest: &Arc<Guest>,
        request: wire::Request,
        refusal: &Refusal,
    ) -> Response<Body> {
        let (visit, answered) = Visit::new(guest, Kind::Issue, Conditions::default());
        let _ = self.refuse(self.exchange(visit, request), None, refusal);
        answered.await.unwrap_or_else(|_| answer::internal())
    }

    /// Refuses headers that don't carry one token, as often as they may come.
    async fn refuse_header(
        self: &Arc<Self>,
        guest: &Arc<Guest>,
        request: wire::Request,
        refusal: &Refusal,
    ) -> Response<Body> {
        let (visit, answered) = Visit::new(guest, Kind::Other, Conditions::default());
        let payer = Payer::HttpVerifier(guest.caller.uid);
        let _ = self.refuse_noted(self.exchange(visit, request), None, payer, refusal);
        answered.await.unwrap_or_else(|_| answer::internal())
    }

    /// Refuses a request that can't be read.
    fn unread(&self, guest: &Guest, refusal: &Refusal) -> Response<Body> {
        self.record_unread(guest.caller, refusal.code);
        answer::refused(refusal)
    }
}

/// A verification whose token can't be told.
const NO_TOKEN: wire::Request = wire::Request::Verify {
    token: None,
    authorization: None,
};

fn no_query(query: Option<&str>) -> Result<(), Refusal> {
    match query {
        None | Some("") => Ok(()),
        Some(_) => Err(request::malformed(
            "it has a query",
            "Send what you ask for in the body.",
        )),
    }
}

fn unknown(what: &str) -> Refusal {
    Refusal::new(
        Code::UnknownOperation,
        what,
        "slurm-tokend-http(7) has all paths and their methods.",
    )
}

/// Does the peer have what has this tag already (RFC 9110 section 13.1.2).
fn is_known(headers: &HeaderMap, tag: &[u8]) -> bool {
    let lists = headers.get_all(IF_NONE_MATCH).iter();
    lists
        .flat_map(|list| list.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .any(|known| known == b"*" || known.strip_prefix(b"W/").unwrap_or(known) == tag)
}
