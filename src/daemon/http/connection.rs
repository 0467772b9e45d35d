//! One connection: request after request by hyper, each stage in its time,
//! and a word to the peer where hyper has none.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use http::StatusCode;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use tokio::time::{sleep_until, timeout};

use crate::config::Limits;
use crate::daemon::Daemon;
use crate::daemon::http::stream::{Guest, Stage, Stream};
use crate::daemon::http::{HttpDoor, answer};
use crate::daemon::quotas::Seat;
use crate::wire::{Code, Refusal};

/// The most that a request's head may have, in bytes.
const MOST_HEAD: usize = 32 * 1024;
/// What is still taken of a peer once its connection ends, and for how long.
const LEFTOVERS: (usize, Duration) = (64 * 1024, Duration::from_secs(1));

/// How a connection ended.
enum End {
    /// By hyper's word.
    Said(hyper::Result<()>),
    /// The time for this was over.
    Late(Stage),
}

/// Serves a connection to its end.
pub async fn serve(daemon: Arc<Daemon>, guest: Arc<Guest>, limits: Limits, seat: Seat) {
    let end = converse(&daemon, &guest, &limits).await;
    let stopping = daemon.http.as_ref().is_some_and(HttpDoor::is_stopping);
    let last = last_word(&end, stopping).filter(|_| !guest.is_midway());
    if let Some((status, refusal)) = &last {
        daemon.record_unread(guest.caller, refusal.code);
        guest.send_last(&answer::written(&answer::refused_as(*status, refusal)));
    }
    if last.is_some() || matches!(end, End::Said(Ok(()))) {
        let (most, patience) = LEFTOVERS;
        // A peer who goes on sending has been told.
        let _ = timeout(patience, guest.part(most)).await;
    }
    drop(seat);
}

async fn converse(daemon: &Arc<Daemon>, guest: &Arc<Guest>, limits: &Limits) -> End {
    let service = service_fn(|request| {
        let (daemon, guest) = (Arc::clone(daemon), Arc::clone(guest));
        async move { Ok::<_, Infallible>(daemon.serve_http(&guest, request).await) }
    });
    let connection = Builder::new()
        .max_buf_size(MOST_HEAD)
        // A peer that sends no more may still wait for its answer.
        .half_close(true)
        .serve_connection(Stream(Arc::clone(guest)), service);
    let mut connection = pin!(connection);
    let mut stop = pin!(async {
        match &daemon.http {
            Some(door) => door.stop.cancelled().await,
            None => std::future::pending().await,
        }
    });
    let mut stopping = false;
    let mut alarm = pin!(sleep_until((Instant::now() + limits.idle_timeout).into()));
    poll_fn(move |context| {
        if let Poll::Ready(said) = connection.as_mut().poll(context) {
            return Poll::Ready(End::Said(said));
        }
        if !stopping && stop.as_mut().poll(context).is_ready() {
            stopping = true;
            match guest.stage() {
                // It will have sent its next request already, or not at all.
                Stage::Idle => guest.hear_no_more(),
                // One who connected and hasn't asked yet is about to.
                Stage::Fresh => guest.is_at(Stage::Fresh),
                Stage::Head | Stage::Served | Stage::Answering => {}
            }
        }
        // The alarm is set anew only when it would come too late, or has come
        // too early: most requests pass without.
        while let Some(deadline) = guest.deadline(limits, stopping) {
            if deadline <= Instant::now() {
                return Poll::Ready(End::Late(guest.stage()));
            }
            if alarm.deadline() > deadline.into() {
                alarm.as_mut().reset(deadline.into());
            }
            match alarm.as_mut().poll(context) {
                Poll::Ready(()) => alarm.as_mut().reset(deadline.into()),
                Poll::Pending => break,
            }
        }
        Poll::Pending
    })
    .await
}

/// What a peer is told whose connection ends without an answer.
fn last_word(end: &End, stopping: bool) -> Option<(StatusCode, Refusal)> {
    let told =
        |status, code, what: &str, help: &str| Some((status, Refusal::new(code, what, help)));
    match end {
        End::Late(Stage::Head) => told(
            StatusCode::REQUEST_TIMEOUT,
            Code::Timeout,
            "The rest of the request did not arrive in time.",
            "Send a request at once.",
        ),
        End::Late(Stage::Fresh) if stopping => told(
            StatusCode::SERVICE_UNAVAILABLE,
            Code::ShuttingDown,
            "The daemon is stopping, and the request has not arrived.",
            "Connect again and send it anew.",
        ),
        End::Said(Err(error)) if error.is_parse_too_large() => told(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Code::RequestTooLarge,
            "The request's line and header fields have more than 32 KiB, or are more than 100.",
            "Send fewer or shorter ones: a token has at most 12 KiB.",
        ),
        End::Said(Err(error)) if error.is_parse() || error.is_incomplete_message() => told(
            StatusCode::BAD_REQUEST,
            Code::MalformedRequest,
            "The request is no HTTP/1.1, or ended early.",
            "Send a request as slurm-tokend-http(7) shows it.",
        ),
        End::Late(_) | End::Said(_) => None,
    }
}
