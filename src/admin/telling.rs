//! The daemon's answers as people read them. Pure.

use crate::block::Block;
use crate::client::plain;
use crate::token::moment::{Away, Utc};
use crate::wire::{Blocked, Forgotten, Holder, Origin, Sessions, Status, Unblocked};

/// The columns of [`sessions`].
const HEAD: [&str; 9] = [
    "USER",
    "UID",
    "LIVE",
    "LAST ENDS",
    "ISSUED",
    "FOR OTHERS",
    "REFUSED",
    "A MINUTE",
    "SEEN",
];

type Row = [String; HEAD.len()];

pub(super) fn status(status: &Status, now: u64) -> String {
    let key = &status.key;
    let age = key.changed_at.map_or_else(
        || "of unknown age".to_owned(),
        |at| format!("changed {}", away(now, at)),
    );
    let end = key.last_expiry.map_or_else(String::new, |at| {
        format!("; the last expires {}", away(now, at))
    });
    let log = status.audit_trouble.as_ref().map_or_else(
        || "the log takes records".to_owned(),
        |trouble| format!("the log takes no records: {}", plain(trouble)),
    );
    let missing = match status.audit_lost {
        0 => String::new(),
        records => format!("; {records} records were lost since the start"),
    };
    let Status {
        live_tokens,
        issued,
        users,
        connections,
        connections_limit,
        signatures_waiting,
        lookups,
        blocked,
        ..
    } = status;
    let mut lines = vec![
        format!(
            "slurm-tokend {}, process {}, started {} ({})",
            plain(&status.version),
            status.pid,
            Utc(status.started_at),
            away(now, status.started_at)
        ),
        format!(
            "configuration  {}, read {}",
            plain(&status.configuration),
            away(now, status.configured_at)
        ),
        format!(
            "key            {}, {}, {age}",
            plain(&key.kid),
            plain(&key.algorithm)
        ),
        format!(
            "tokens         {live_tokens} live of {issued} issued since the start, {users} users{end}"
        ),
        format!("connections    {connections} of {connections_limit}"),
        format!("waiting        {signatures_waiting} signatures, {lookups} account look-ups"),
        format!("blocked        {blocked} users"),
        format!("audit          {log}{missing}"),
    ];
    lines.extend(forgotten(&status.forgotten, now));
    text(&lines)
}

pub(super) fn sessions(sessions: &Sessions, user: Option<&str>, now: u64) -> String {
    let mut lines = Vec::new();
    let rows: Vec<Row> = sessions.users.iter().map(|h| row(h, now)).collect();
    if rows.is_empty() {
        let whom = user.map_or_else(|| "Nobody".to_owned(), plain);
        lines.push(format!(
            "{whom} has asked for nothing here, and is not blocked."
        ));
    } else {
        let head = HEAD.map(str::to_owned);
        let widths: [usize; HEAD.len()] = std::array::from_fn(|column| {
            let cells = std::iter::once(&head).chain(&rows);
            cells.map(|row| row[column].len()).max().unwrap_or(0)
        });
        let line = |row: &Row| {
            let cells = row.iter().zip(widths);
            let line: Vec<String> = cells.map(|(cell, w)| format!("{cell:<w$}")).collect();
            line.join("  ").trim_end().to_owned()
        };
        lines.push(line(&head));
        for (holder, row) in sessions.users.iter().zip(&rows) {
            lines.push(line(row));
            lines.extend(details(holder, now));
        }
    }
    lines.push(format!(
        "Nothing before {} is known, when the daemon started.",
        Utc(sessions.since)
    ));
    lines.extend(forgotten(&sessions.forgotten, now));
    text(&lines)
}

fn row(holder: &Holder, now: u64) -> Row {
    let bound = if holder.at_most { "<=" } else { "" };
    let or_none =
        |at: Option<u64>| at.map_or_else(|| "-".to_owned(), |at| away(now, at).to_string());
    [
        plain(&holder.user),
        holder.uid.to_string(),
        format!("{bound}{}", holder.live_tokens),
        or_none(holder.latest_expiry),
        holder.issued.to_string(),
        holder.for_others.to_string(),
        holder.refused.to_string(),
        format!("{} (peak {})", holder.per_minute, holder.peak_per_minute),
        or_none(holder.last),
    ]
}

fn details(holder: &Holder, now: u64) -> Vec<String> {
    let mut lines = Vec::new();
    lines.extend(holder.blocked.as_ref().map(|block| {
        let reason = block.reason.as_deref();
        let reason = reason.map_or_else(String::new, |reason| format!(": {}", plain(reason)));
        let (by, at) = (plain(&block.by), away(now, block.since));
        format!("    blocked {} by {by}, {at}{reason}", end(block, now))
    }));
    lines.extend(holder.origins.iter().map(|o| origin(o, now)));
    if holder.unseen > 0 {
        lines.push(format!(
            "    {} tokens of processes that were not looked at",
            holder.unseen
        ));
    }
    if holder.forgotten_origins > 0 {
        lines.push(format!(
            "    {} more places, forgotten for want of room",
            holder.forgotten_origins
        ));
    }
    lines
}

fn origin(origin: &Origin, now: u64) -> String {
    let doubt = if origin.pinned { "" } else { " (not for sure)" };
    let mut parts = vec![
        format!("    {}", plain(&origin.place)),
        format!("process {}{doubt}", origin.pid),
    ];
    parts.extend(origin.executable.as_deref().map(plain));
    parts.extend(origin.terminal.as_deref().map(plain));
    parts.push(format!("{} tokens", origin.tokens));
    parts.push(format!("first {}", away(now, origin.first)));
    parts.push(format!("last {}", away(now, origin.last)));
    parts.join(", ")
}

fn end(block: &Block, now: u64) -> String {
    block.until.map_or_else(
        || "until it's lifted".to_owned(),
        |at| format!("until {} ({})", Utc(at), away(now, at)),
    )
}

pub(super) fn blocked(blocked: &Blocked, now: u64) -> String {
    let Blocked { block, .. } = blocked;
    let user = plain(&block.user);
    let mut lines = vec![
        format!(
            "{user} (uid {}) gets no token from this node {}.",
            block.uid,
            end(block, now)
        ),
        "This covers this node only: block the user on the others, too.".to_owned(),
    ];
    lines.push(match blocked.latest_expiry {
        None => "No token that was issued since the daemon's start is live.".to_owned(),
        Some(at) => format!(
            "Slurm knows nothing of this: {} tokens live on at the most; the last expires {} ({}).",
            blocked.live_tokens,
            Utc(at),
            away(now, at)
        ),
    });
    let before = blocked
        .since
        .saturating_add(blocked.longest_lifespan.into());
    if before > now {
        lines.push(format!(
            "Tokens from before the daemon's start are not counted; all will have expired {} ({}).",
            Utc(before),
            away(now, before)
        ));
    }
    if blocked.latest_expiry.is_some() || before > now {
        lines.push(format!(
            "To end them now: take the kid {} out of slurmctld's JWKS, which ends all tokens of this node.",
            plain(&blocked.kid)
        ));
    }
    text(&lines)
}

pub(super) fn unblocked(unblocked: &Unblocked) -> String {
    let lines: Vec<String> = unblocked
        .lifted
        .iter()
        .map(|block| {
            let (user, uid) = (plain(&block.user), block.uid);
            format!("{user} (uid {uid}) is no longer blocked on this node.")
        })
        .collect();
    text(&lines)
}

fn forgotten(forgotten: &Forgotten, now: u64) -> Option<String> {
    let latest = forgotten.latest_expiry.filter(|at| *at >= now);
    let tokens = latest.map_or_else(String::new, |at| {
        format!(
            ", and {} live tokens of theirs, of which the last expires {}",
            forgotten.live_tokens,
            away(now, at)
        )
    });
    let users = forgotten.users;
    (users > 0).then(|| format!("{users} users were forgotten for want of room{tokens}."))
}

fn away(now: u64, time: u64) -> Away {
    Away { time, now }
}

fn text(lines: &[String]) -> String {
    lines.join("\n") + "\n"
}
