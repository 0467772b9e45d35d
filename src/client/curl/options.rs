use super::place::Road;

/// The options of curl 7.88 that take no value, each behind its letter, if it has one.
const FLAGS: &str = "\
    anyauth a:append basic cert-status compressed compressed-ssh create-dirs crlf digest q:disable \
    disable-eprt disable-epsv disallow-username-in-url doh-cert-status doh-insecure f:fail \
    fail-early fail-with-body false-start form-escape ftp-create-dirs ftp-pasv ftp-pret \
    ftp-skip-pasv-ip ftp-ssl-ccc ftp-ssl-control G:get g:globoff haproxy-protocol I:head http0.9 \
    0:http1.0 http1.1 http2 http2-prior-knowledge http3 http3-only ignore-content-length i:include \
    k:insecure 4:ipv4 6:ipv6 j:junk-session-cookies l:list-only L:location location-trusted \
    mail-rcpt-allowfails M:manual metalink negotiate n:netrc netrc-optional ::next no-alpn \
    N:no-buffer no-clobber no-keepalive no-npn no-progress-meter no-sessionid ntlm ntlm-wb \
    Z:parallel parallel-immediate path-as-is post301 post302 post303 #:progress-bar proxy-anyauth \
    proxy-basic proxy-digest proxy-insecure proxy-negotiate proxy-ntlm proxy-ssl-allow-beast \
    proxy-ssl-auto-client-cert proxy-tlsv1 p:proxytunnel raw J:remote-header-name O:remote-name \
    remote-name-all R:remote-time remove-on-error retry-all-errors retry-connrefused sasl-ir \
    S:show-error s:silent socks5-basic socks5-gssapi socks5-gssapi-nec ssl ssl-allow-beast \
    ssl-auto-client-cert ssl-no-revoke ssl-reqd ssl-revoke-best-effort 2:sslv2 3:sslv3 \
    styled-output suppress-connect-headers tcp-fastopen tcp-nodelay tftp-no-options 1:tlsv1 \
    tlsv1.0 tlsv1.1 tlsv1.2 tlsv1.3 tr-encoding trace-time B:use-ascii v:verbose V:version xattr";

/// Those that take one.
const VALUED: &str = "\
    abstract-unix-socket alt-svc aws-sigv4 cacert capath E:cert cert-type ciphers K:config \
    connect-timeout connect-to C:continue-at b:cookie c:cookie-jar create-file-mode crlfile curves \
    d:data data-ascii data-binary data-raw data-urlencode delegation dns-interface dns-ipv4-addr \
    dns-ipv6-addr dns-servers doh-url D:dump-header egd-file engine etag-compare etag-save \
    expect100-timeout F:form form-string ftp-account ftp-alternative-to-user ftp-method P:ftp-port \
    ftp-ssl-ccc-mode happy-eyeballs-timeout-ms H:header hostpubmd5 hostpubsha256 hsts interface \
    json keepalive-time key key-type krb libcurl limit-rate local-port login-options mail-auth \
    mail-from mail-rcpt max-filesize max-redirs m:max-time netrc-file noproxy oauth2-bearer \
    o:output output-dir parallel-max pass pinnedpubkey preproxy proto proto-default proto-redir \
    x:proxy proxy-cacert proxy-capath proxy-cert proxy-cert-type proxy-ciphers proxy-crlfile \
    proxy-header proxy-key proxy-key-type proxy-pass proxy-pinnedpubkey proxy-service-name \
    proxy-tls13-ciphers proxy-tlsauthtype proxy-tlspassword proxy-tlsuser U:proxy-user proxy1.0 \
    pubkey Q:quote random-file r:range rate e:referer X:request request-target resolve retry \
    retry-delay retry-max-time sasl-authzid service-name socks4 socks4a socks5 \
    socks5-gssapi-service socks5-hostname Y:speed-limit y:speed-time stderr t:telnet-option \
    tftp-blksize z:time-cond tls-max tls13-ciphers tlsauthtype tlspassword tlsuser trace \
    trace-ascii unix-socket T:upload-file url url-query u:user A:user-agent w:write-out";

/// One of curl's options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CurlOption {
    /// Its long name, without hyphens.
    pub(super) name: &'static str,
    letter: Option<char>,
    pub(super) takes_value: bool,
}

fn all() -> impl Iterator<Item = CurlOption> {
    let read = |takes_value| {
        move |word: &'static str| {
            // `::next` has a colon for its letter.
            let (letter, name) = match word.split_once(':') {
                Some(("", name)) => (Some(':'), name.trim_start_matches(':')),
                Some((letter, name)) => (letter.chars().next(), name),
                None => (None, word),
            };
            CurlOption {
                name,
                letter,
                takes_value,
            }
        }
    };
    let flags = FLAGS.split_whitespace().map(read(false));
    flags.chain(VALUED.split_whitespace().map(read(true)))
}

impl CurlOption {
    /// The option of this name. curl would take the first letters of one, too.
    pub(super) fn named(name: &str) -> Option<Self> {
        let known = |name: &str| all().find(|option| option.name == name);
        known(name).or_else(|| {
            let denied = name.strip_prefix("no-")?;
            let flag = known(denied).filter(|option| !option.takes_value)?;
            // What is denied does less: nothing there is to be judged.
            (!flag.name.starts_with("no-")).then_some(Self {
                name: "no-",
                letter: None,
                takes_value: false,
            })
        })
    }

    /// The option of this letter.
    pub(super) fn lettered(letter: char) -> Option<Self> {
        all().find(|option| option.letter == Some(letter))
    }
}

impl CurlOption {
    /// Does it name a file for what curl does.
    pub(super) fn is_trace(self) -> bool {
        matches!(self.name, "trace" | "trace-ascii")
    }
}

/// What curl would do with the token, and what to do instead.
pub(super) type Objection = (&'static str, &'static str);

impl CurlOption {
    /// Why curl must not have this option, on this road, with this value.
    pub(super) fn objection(self, road: &Road, value: &str) -> Option<Objection> {
        let objection = match self.name {
            "config" => (
                "could say anything that is refused here",
                "give its options on the command line",
            ),
            "libcurl" => (
                "writes the token to a file",
                "see curl's command line with -v",
            ),
            "stderr" => (
                "would write what -v tells past the eyes that take the token out of it",
                "redirect standard error: 2>FILE",
            ),
            "location" | "location-trusted" => (
                "sends the token wherever a redirect points",
                "leave it out, and name the place where the redirect points",
            ),
            "next" | "url" => (
                "names one more place, which must not get the token",
                "call slurm-token curl for each",
            ),
            "unix-socket" | "abstract-unix-socket" => {
                ("is not needed", "name the socket with --url unix:PATH")
            }
            "insecure" if !road.is_forced() => (
                "sends the token to whoever answers",
                "name the server's certificate with --cacert FILE, or insist with --force-insecure",
            ),
            "header" if is_ours(value) => (
                "names a header that slurm-token sends itself",
                "leave it out; --for names another user",
            ),
            name if leads_elsewhere(name) && !road.is_encrypted_or_forced() => (
                "leads a request without encryption somewhere else",
                "leave it out, or name the server with https://",
            ),
            _ => return None,
        };
        Some(objection)
    }
}

fn is_ours(header: &str) -> bool {
    let ours = "x-slurm-user-";
    let begin = header.get(..ours.len());
    begin.is_some_and(|begin| begin.eq_ignore_ascii_case(ours))
}

/// With TLS the server has to prove its name, wherever the request is led.
fn leads_elsewhere(name: &str) -> bool {
    let proxy = ["proxy", "preproxy", "socks"];
    let names = ["resolve", "connect-to", "doh", "dns-", "alt-svc"];
    proxy
        .iter()
        .chain(&names)
        .any(|begin| name.starts_with(begin))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// The options that the installed curl tells of: name, letter, whether it
    /// takes a value.
    fn of_curl() -> Vec<(String, Option<char>, bool)> {
        let help = Command::new("curl").args(["-q", "--help", "all"]).output();
        let help = String::from_utf8(help.unwrap().stdout).unwrap();
        let option = |line: &str| {
            let (before, rest) = line.split_once("--")?;
            let (name, rest) = rest.split_once(' ')?;
            let letter = before.trim().strip_prefix('-')?.chars().next();
            let takes_value = rest.starts_with(['<', '[']);
            Some((name.to_owned(), letter, takes_value))
        };
        let with_hyphen = |line: &str| option(&line.replacen("     --", " -\0, --", 1));
        let named = help.lines().filter_map(with_hyphen);
        named
            .map(|(name, letter, value)| (name, letter.filter(|l| *l != '\0'), value))
            .collect()
    }

    #[test]
    fn every_option_is_taken_as_the_real_curl_takes_it() {
        let mut known = 0;
        for (name, letter, takes_value) in of_curl() {
            // Both are answered before curl is.
            if name == "help" {
                continue;
            }
            // One that is not known is refused: nothing is taken in a wrong way.
            let Some(option) = CurlOption::named(&name) else {
                continue;
            };
            known += 1;
            assert_eq!(option.takes_value, takes_value, "{name}");
            if let Some(letter) = letter {
                assert_eq!(CurlOption::lettered(letter), Some(option), "{name}");
            }
        }
        assert!(known > 200, "only {known} are known");
    }

    #[test]
    fn a_letter_is_that_of_one_option() {
        let mut letters: Vec<_> = all().filter_map(|option| option.letter).collect();
        let count = letters.len();
        letters.sort_unstable();
        letters.dedup();
        assert_eq!(letters.len(), count);
    }

    #[test]
    fn only_whole_names_are_known() {
        for name in [
            "loc",
            "location-",
            "Location",
            "",
            "trace=x",
            "no-config",
            "no-no-buffer",
        ] {
            assert_eq!(CurlOption::named(name), None, "{name}");
        }
        assert!(CurlOption::named("no-location").is_some());
        assert!(CurlOption::named("no-buffer").is_some());
    }
}
