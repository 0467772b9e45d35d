//! `[http]`: the second door, which speaks HTTP.

use std::path::PathBuf;

use super::Room;
use super::reading::{Reading, Section, name};
use super::tables::{LONGEST_SOCKET_PATH, path, read_connections, read_rate, values};
use crate::policy::Rate;

/// Where the HTTP door is unless told otherwise.
const DEFAULT_SOCKET: &str = "/run/slurm-tokend/http.sock";

/// The HTTP door, and how much it may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// The file has the table: that opens the door where systemd passes no
    /// socket at all.
    pub configured: bool,
    /// Where it is then.
    pub socket: PathBuf,
    /// Connections, apart from those of the main socket.
    pub room: Room,
    /// Verifications for one uid: it may be a proxy's.
    pub verifications: Rate,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            configured: false,
            socket: DEFAULT_SOCKET.into(),
            room: Room {
                connections: 512,
                connections_per_user: 256,
            },
            verifications: Rate {
                per_minute: 600_000,
                burst: 20_000,
            },
        }
    }
}

/// Reads the table; the accounts that are proxies are the policy's.
pub(super) fn read(reading: &mut Reading<'_>, top: &mut Section<'_>) -> (Http, Vec<String>) {
    let usual = Http::default();
    let found = top.section(reading, "http");
    let configured = found.value().is_some();
    let mut section = found.or(Section::absent("http"));
    let http = Http {
        configured,
        socket: section
            .take(reading, "socket", path::<LONGEST_SOCKET_PATH>)
            .or(usual.socket),
        room: read_connections(reading, &mut section, usual.room),
        verifications: read_rate(
            reading,
            &mut section,
            ["verifications_per_minute", "verification_burst"],
            usual.verifications,
        ),
    };
    let proxies = values(section.take_list(reading, "proxies", name));
    section.finish(reading);
    (http, proxies)
}
