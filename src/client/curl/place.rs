use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

/// The most bytes of a URL; curl takes up to 8 MB.
const MOST: usize = 16 * 1024;

/// What the request's way to the server is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Through a Unix socket.
    Socket(PathBuf),
    /// Over TCP within this machine.
    Loopback,
    /// Over the network in clear text.
    ClearText,
    /// By TLS to a server that proves its name.
    Tls,
}

/// A way, and whether its user insists on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Road {
    pub(super) way: Way,
    /// `--force-insecure` was given.
    pub(super) forced: bool,
}

impl Road {
    pub(super) fn is_forced(&self) -> bool {
        self.forced
    }

    pub(super) fn is_encrypted_or_forced(&self) -> bool {
        self.forced || self.way == Way::Tls
    }
}

/// Where a request goes: the URL as curl gets it, and the way there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) url: String,
    pub(super) way: Way,
}

impl Place {
    /// The place that a path, below `base`, or a whole URL names.
    ///
    /// A URL is read so strictly that curl can't read it in another way: no
    /// user name, no backslash, nothing but visible ASCII.
    pub(super) fn of(wanted: &str, base: Option<&str>) -> Result<Self, String> {
        if !wanted.starts_with('/') {
            return match way(wanted) {
                Ok(way) => Ok(Self {
                    url: wanted.to_owned(),
                    way,
                }),
                Err(Unread::NoUrl) => Err(format!(
                    "{wanted} is neither a path, from / on, nor a URL with http:// or https://"
                )),
                Err(Unread::Odd(what)) => Err(format!("{wanted} {what}")),
            };
        }
        check_bytes(wanted).map_err(|what| format!("{wanted} {what}"))?;
        let base = base.ok_or_else(|| {
            "a path needs the place of slurmrestd: set SLURMRESTD_URL, or give --url, such as \
             http://localhost:6820 or unix:/run/slurmrestd/slurmrestd.socket"
                .to_owned()
        })?;
        if let Some(socket) = base.strip_prefix("unix:") {
            let socket = socket.strip_prefix("//").unwrap_or(socket);
            if !Path::new(socket).is_absolute() {
                return Err(format!(
                    "{base} names no socket: unix: takes an absolute path"
                ));
            }
            return Ok(Self {
                url: format!("http://localhost{wanted}"),
                way: Way::Socket(socket.into()),
            });
        }
        match way(base) {
            Ok(_) if base.contains(['?', '#']) => {
                Err(format!("{base} has a query, which no path can follow"))
            }
            Ok(way) => Ok(Self {
                url: format!("{}{wanted}", base.trim_end_matches('/')),
                way,
            }),
            Err(Unread::NoUrl) => Err(format!(
                "{base} is no place of slurmrestd: it begins with http://, https:// or unix:"
            )),
            Err(Unread::Odd(what)) => Err(format!("{base} {what}")),
        }
    }
}

/// Why a text is no URL of ours.
enum Unread {
    /// It has no scheme that is one.
    NoUrl,
    /// It has something that it must not have.
    Odd(&'static str),
}

/// The way to the server that a URL names.
fn way(url: &str) -> Result<Way, Unread> {
    let (scheme, rest) = url.split_once("://").ok_or(Unread::NoUrl)?;
    check_bytes(url).map_err(Unread::Odd)?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let is_loopback = loopback(authority).map_err(Unread::Odd)?;
    match (scheme.to_ascii_lowercase().as_str(), is_loopback) {
        ("https", _) => Ok(Way::Tls),
        ("http", true) => Ok(Way::Loopback),
        ("http", false) => Ok(Way::ClearText),
        _ => Err(Unread::NoUrl),
    }
}

fn check_bytes(url: &str) -> Result<(), &'static str> {
    if url.len() > MOST {
        Err("is too long")
    } else if !url.bytes().all(|b| b.is_ascii_graphic() && b != b'\\') {
        Err("holds a character that a URL has to encode, such as %20 for a space")
    } else {
        Ok(())
    }
}

/// Does a URL's authority (RFC 3986 section 3.2) lead to this machine only.
/// curl itself sees to it that `localhost` does.
fn loopback(authority: &str) -> Result<bool, &'static str> {
    if authority.contains('@') {
        return Err("names a user, which slurm-token does by itself");
    }
    let (host, port) = match authority
        .rfind(':')
        .filter(|at| !authority[*at..].contains(']'))
    {
        Some(at) => (&authority[..at], &authority[at + 1..]),
        None => (authority, "0"),
    };
    if port.parse::<u16>().is_err() || !port.bytes().all(|b| b.is_ascii_digit()) {
        return Err("has a port that is none");
    }
    if let Some(address) = host.strip_prefix('[') {
        let address = address.strip_suffix(']').unwrap_or_default();
        let address: Ipv6Addr = address.parse().map_err(|_| "has an address that is none")?;
        return Ok(address.is_loopback());
    }
    let of_a_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    if host.is_empty() || !host.bytes().all(of_a_name) {
        return Err("has a host that is none");
    }
    let address = host.parse::<Ipv4Addr>();
    Ok(host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|a| a.is_loopback()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(wanted: &str, base: &str) -> (String, Way) {
        let place = Place::of(wanted, Some(base)).unwrap();
        (place.url, place.way)
    }

    #[test]
    fn a_path_is_completed_by_the_place_of_slurmrestd() {
        for (base, url, way) in [
            (
                "http://localhost:6820",
                "http://localhost:6820/a?b",
                Way::Loopback,
            ),
            ("https://slurm/api/", "https://slurm/api/a?b", Way::Tls),
            ("http://login1", "http://login1/a?b", Way::ClearText),
            (
                "unix:/run/s",
                "http://localhost/a?b",
                Way::Socket("/run/s".into()),
            ),
            (
                "unix:///run/s",
                "http://localhost/a?b",
                Way::Socket("/run/s".into()),
            ),
        ] {
            assert_eq!(of("/a?b", base), (url.to_owned(), way));
        }
    }

    #[test]
    fn a_url_stands_for_itself() {
        let (url, way) = of("HTTPS://other:1/x", "http://localhost");
        assert_eq!((url.as_str(), way), ("HTTPS://other:1/x", Way::Tls));
    }

    #[test]
    fn only_what_never_leaves_the_machine_is_loopback() {
        for (host, expected) in [
            ("localhost", true),
            ("LOCALHOST:80", true),
            ("127.0.0.1:6820", true),
            ("127.9.9.9", true),
            ("[::1]:80", true),
            ("localhost.evil", false),
            ("127.0.0.1.evil", false),
            ("127.1", false),
            ("0.0.0.0", false),
            ("2130706433", false),
            ("[::ffff:127.0.0.1]", false),
            ("[fe80::1]", false),
        ] {
            let way = of(&format!("http://{host}/"), "").1;
            assert_eq!(way == Way::Loopback, expected, "{host}");
        }
    }

    #[test]
    fn what_curl_could_read_in_another_way_is_refused() {
        for url in [
            "http://localhost@evil/",
            "http://localhost:1@evil/",
            "http://localhost\\@evil/",
            "http://local host/",
            "http://localhost\n/",
            "http://löcalhost/",
            "http://localhost:80:80/",
            "http://localhost:/",
            "http://localhost:+80/",
            "http://localhost:99999/",
            "http://{localhost,evil}/",
            "http://[::1/",
            "http://[::1]evil/",
            "http:///x",
            "http://?x",
            "ftp://localhost/",
            "file:///etc/passwd",
            "localhost/x",
            "http:localhost",
            "",
        ] {
            assert!(Place::of(url, Some("http://localhost")).is_err(), "{url}");
        }
        for base in [
            "",
            "localhost",
            "unix:",
            "unix:run",
            "http://a?b",
            "http://a@b",
        ] {
            assert!(Place::of("/x", Some(base)).is_err(), "{base}");
        }
        assert!(Place::of("/a b", Some("http://localhost")).is_err());
        assert!(Place::of("/x", None).is_err());
    }
}
