//! What was counted, as text: `OpenMetrics` 1.0, or the text format of
//! Prometheus, which `node_exporter`'s textfile collector reads. The two differ
//! in how a counter's family is called, in units, and in the end mark.

use std::fmt::{self, Display, Write as _};

use crate::daemon::engine::Engine;
use crate::daemon::http::HttpDoor;
use crate::daemon::metrics::{BOUNDS, Counted, Kind, Lookup};
use crate::daemon::{Daemon, unix_now};
use crate::wire::{Code, Exposition};

/// A text in the making.
pub struct Text {
    format: Exposition,
    text: String,
}

/// A label and its value.
pub type Label<'a> = (&'static str, &'a str);

impl Text {
    /// An empty one.
    pub fn new(format: Exposition) -> Self {
        Self {
            format,
            text: String::with_capacity(16 * 1024),
        }
    }

    /// What goes up only. Its samples get the ending `_total`.
    pub fn counter<'a>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Vec<Label<'a>>, u64)>,
    ) {
        let total = format!("{name}_total");
        let family = match self.format {
            Exposition::OpenMetrics => name,
            Exposition::Prometheus => &total,
        };
        self.family(family, "counter", None, help);
        for (labels, value) in samples {
            self.sample(&total, &labels, value);
        }
    }

    /// What goes up and down.
    pub fn gauge<'a, V: Display>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Vec<Label<'a>>, V)>,
    ) {
        let unit = name.ends_with("_seconds").then_some("seconds");
        self.family(name, "gauge", unit, help);
        for (labels, value) in samples {
            self.sample(name, &labels, value);
        }
    }

    /// Times. The name ends in `_seconds`.
    pub fn histogram<'a>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (Vec<Label<'a>>, Counted)>,
    ) {
        self.family(name, "histogram", Some("seconds"), help);
        for (labels, counted) in series {
            let mut sum = 0;
            let bounds = BOUNDS.iter().map(|bound| seconds(*bound));
            let ends = bounds.chain([String::from("+Inf")]);
            for (end, count) in ends.zip(counted.buckets) {
                sum += count;
                let mut labels = labels.clone();
                labels.push(("le", &end));
                self.sample(&format!("{name}_bucket"), &labels, sum);
            }
            self.sample(&format!("{name}_count"), &labels, sum);
            let took = seconds(counted.nanoseconds);
            self.sample(&format!("{name}_sum"), &labels, took);
        }
    }

    fn family(&mut self, name: &str, kind: &str, unit: Option<&str>, help: &str) {
        self.line(format_args!("# TYPE {name} {kind}"));
        if let (Exposition::OpenMetrics, Some(unit)) = (self.format, unit) {
            self.line(format_args!("# UNIT {name} {unit}"));
        }
        self.line(format_args!("# HELP {name} {help}"));
    }

    fn sample(&mut self, name: &str, labels: &[Label<'_>], value: impl Display) {
        let pairs: Vec<String> = labels
            .iter()
            .map(|(label, value)| format!("{label}=\"{}\"", escaped(value)))
            .collect();
        if pairs.is_empty() {
            self.line(format_args!("{name} {value}"));
        } else {
            self.line(format_args!("{name}{{{}}} {value}", pairs.join(",")));
        }
    }

    fn line(&mut self, line: fmt::Arguments<'_>) {
        // To write to a string fails never.
        let _ = writeln!(self.text, "{line}");
    }

    /// The whole text.
    pub fn finish(mut self) -> String {
        if self.format == Exposition::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }
}

/// Nanoseconds in seconds, exactly, and as `OpenMetrics` wants a number: with a
/// full stop and without zeros at the end.
fn seconds(nanoseconds: u64) -> String {
    let whole = nanoseconds / 1_000_000_000;
    let part = format!("{:09}", nanoseconds % 1_000_000_000);
    match part.trim_end_matches('0') {
        "" => format!("{whole}.0"),
        part => format!("{whole}.{part}"),
    }
}

fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

impl Daemon {
    /// All that was counted, and how things are now.
    pub(super) fn exposition(&self, engine: &Engine, format: Exposition) -> String {
        let mut text = Text::new(format);
        self.write_traffic(&mut text);
        self.write_ledger(&mut text, unix_now());
        self.write_state(&mut text, engine, unix_now());
        text.finish()
    }

    fn write_traffic(&self, text: &mut Text) {
        let metrics = &self.metrics;
        text.histogram(
            "slurm_tokend_request_duration_seconds",
            "From a request's arrival to its answer, refusals included.",
            Kind::ALL.map(|kind| (vec![("op", kind.as_str())], metrics.requests(kind))),
        );
        text.counter(
            "slurm_tokend_refusals",
            "Requests and connections that were refused, by code.",
            Code::ALL.map(|code| (vec![("code", code.as_str())], metrics.refusals(code))),
        );
        text.counter(
            "slurm_tokend_tokens",
            "Tokens that were issued.",
            [(vec![], metrics.tokens())],
        );
        text.counter(
            "slurm_tokend_lookups",
            "Questions to the account service, by result.",
            Lookup::ALL.map(|lookup| (vec![("result", lookup.as_str())], metrics.lookups(lookup))),
        );
        text.histogram(
            "slurm_tokend_lookup_duration_seconds",
            "How long the account service took, waiting for a thread included.",
            [(vec![], metrics.lookup_times())],
        );
        text.counter(
            "slurm_tokend_audit_records_lost",
            "Audit records that could not be handed over.",
            [(vec![], metrics.records_lost())],
        );
        text.counter(
            "slurm_tokend_audit_waits",
            "Tokens that waited for a log that was full.",
            [(vec![], metrics.records_waited())],
        );
    }

    fn write_ledger(&self, text: &mut Text, now: u64) {
        let totals = self.ledger.totals(now);
        text.gauge(
            "slurm_tokend_live_tokens",
            "Tokens issued since the start that have not expired, at most.",
            [(vec![], totals.live_tokens + totals.forgotten.live_tokens)],
        );
        text.gauge(
            "slurm_tokend_users",
            "Users that the ledger knows.",
            [(vec![], totals.users)],
        );
        text.counter(
            "slurm_tokend_users_forgotten",
            "Users that the ledger had to forget for want of room.",
            [(vec![], totals.forgotten.users)],
        );
        text.gauge(
            "slurm_tokend_blocked_users",
            "Users that are blocked on this node.",
            [(vec![], self.blocks.in_force().all(now).count())],
        );
    }

    fn write_state(&self, text: &mut Text, engine: &Engine, now: u64) {
        let key = engine.keys.main().key();
        let kid = key.kid().as_str();
        let of_key = || vec![("kid", kid), ("alg", key.algorithm().as_str())];
        text.gauge(
            "slurm_tokend_version",
            "1, for the release that runs.",
            [(vec![("version", env!("CARGO_PKG_VERSION"))], 1)],
        );
        text.gauge(
            "slurm_tokend_start_timestamp_seconds",
            "When the daemon started.",
            [(vec![], self.ledger.since())],
        );
        text.gauge(
            "slurm_tokend_configuration_timestamp_seconds",
            "When the configuration in force was read.",
            [(vec![], engine.since)],
        );
        let age = engine.key_changed_at().map(|at| now.saturating_sub(at));
        text.gauge(
            "slurm_tokend_key_age_seconds",
            "Since the file of the key that signs was changed, where it can be seen.",
            age.map(|age| (of_key(), age)),
        );
        text.gauge(
            "slurm_tokend_key_last_expiry_timestamp_seconds",
            "When the last token expires that was issued since the start.",
            self.ledger
                .totals(now)
                .latest_expiry
                .map(|expiry| (of_key(), expiry)),
        );
        text.gauge(
            "slurm_tokend_connections",
            "Connections that are open.",
            [(vec![], self.quotas.connections())],
        );
        text.gauge(
            "slurm_tokend_connections_limit",
            "Connections that may be open at once.",
            [(vec![], engine.config.limits.room.connections)],
        );
        let of_http = |count: fn(&HttpDoor, &Engine) -> usize| {
            let door = self.http.as_ref();
            door.map(|door| (vec![], count(door, engine)))
        };
        text.gauge(
            "slurm_tokend_http_connections",
            "Connections that are open at the HTTP door, where there is one.",
            of_http(|door, _| door.quotas.connections()),
        );
        text.gauge(
            "slurm_tokend_http_connections_limit",
            "Connections that may be open there at once.",
            of_http(|_, engine| engine.config.http.room.connections),
        );
        text.gauge(
            "slurm_tokend_signatures_waiting",
            "RSA signatures that wait for their turn.",
            [(vec![], self.signers.waiting())],
        );
        text.gauge(
            "slurm_tokend_lookups_under_way",
            "Questions to the account service that wait for an answer.",
            [(vec![], self.directory.under_way())],
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted() -> Counted {
        let mut counted = Counted {
            nanoseconds: 1_500_000_000,
            ..Counted::default()
        };
        counted.buckets[0] = 2;
        counted.buckets[BOUNDS.len()] = 1;
        counted
    }

    fn text(format: Exposition) -> String {
        let mut text = Text::new(format);
        text.counter("x_tokens", "Tokens.", [(vec![("a", "b\"\\\n")], 7)]);
        text.gauge("x_age_seconds", "Age.", [(vec![], 5)]);
        text.histogram(
            "x_took_seconds",
            "Time.",
            [(vec![("op", "issue")], counted())],
        );
        text.finish()
    }

    #[test]
    fn open_metrics_has_families_without_total_and_units_and_an_end() {
        let text = text(Exposition::OpenMetrics);
        for line in [
            "# TYPE x_tokens counter\n# HELP x_tokens Tokens.\nx_tokens_total{a=\"b\\\"\\\\\\n\"} 7\n",
            "# TYPE x_age_seconds gauge\n# UNIT x_age_seconds seconds\n# HELP x_age_seconds Age.\nx_age_seconds 5\n",
            "x_took_seconds_bucket{op=\"issue\",le=\"0.00002\"} 2\n",
            "x_took_seconds_bucket{op=\"issue\",le=\"1.0\"} 2\n",
            "x_took_seconds_bucket{op=\"issue\",le=\"+Inf\"} 3\nx_took_seconds_count{op=\"issue\"} 3\nx_took_seconds_sum{op=\"issue\"} 1.5\n",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn the_text_format_of_prometheus_has_families_with_total_and_neither_units_nor_an_end() {
        let text = text(Exposition::Prometheus);
        assert!(text.contains("# TYPE x_tokens_total counter\n"), "{text}");
        assert!(
            !text.contains("# UNIT") && !text.contains("# EOF"),
            "{text}"
        );
    }
}
