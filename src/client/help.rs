use super::args::Verb;

/// What `--help` prints.
pub(super) const fn of(verb: Verb) -> &'static str {
    match verb {
        Verb::Token => TOKEN,
        Verb::Run => RUN,
        Verb::Keep => KEEP,
        Verb::Curl => CURL,
        Verb::Inspect => INSPECT,
        Verb::Verify => VERIFY,
        Verb::Refresh => REFRESH,
        Verb::Whoami => WHOAMI,
    }
}

const TOKEN: &str = "\
Usage: slurm-token [lifespan=LIFESPAN] [username=USER] [OPTION]...
       slurm-token COMMAND [OPTION]...

Prints a short-lived Slurm token for you as SLURM_JWT=TOKEN.

Commands, each with a --help of its own:
  run      run a command with a token in its environment
  keep     keep a file that always holds a valid token
  curl     call slurmrestd with a token that only curl and the server see
  inspect  say what is in a token, and what Slurm would say to it
  verify   ask the daemon whether a token is genuine and valid
  refresh  get a new token for one that has not expired
  whoami   say what the policy of this machine gives you

Options:
  --lifespan LIFESPAN  how long the token lives: seconds, or a time such as 90s,
                       30m, 12h, 1h30m, 7d, HH:MM:SS, D-HH:MM; max is as long as
                       you may. Not given: what the policy gives by default
  --for USER           a token for this user, where the policy lets you ask
  --format FORMAT      env     SLURM_JWT=TOKEN (default)
                       export  export SLURM_JWT=TOKEN, for eval
                       raw     the token alone
                       json    an object: token, user, expires_at, kid, jti
                       header  the HTTP headers, for curl -H @-
                       curl    the same, for curl -K -
  --json               the same as --format json
  --socket PATH        the daemon's socket
  -M, --cluster NAME   the socket of the daemon for this cluster
  --wait[=TIME]        while the daemon is away, busy, or says that you ask too
                       often, ask again for this long (1m)
  -h, --help           print this
  -V, --version        print the version

lifespan= and username= mean --lifespan and --for, as with scontrol token.
SLURM_TOKEND_SOCKET names the socket where no option does.

Examples:
  export $(slurm-token)
  eval \"$(slurm-token --lifespan 12h --format export)\"
  slurm-token run squeue --me
  slurm-token curl --url http://localhost:6820 /slurm/v0.0.38/jobs

Exit status: 0 done, 1 failed, 2 usage, 3 daemon not reached, 4 refused.
";

const RUN: &str = "\
Usage: slurm-token run [OPTION]... [--] COMMAND [ARGUMENT]...

Runs a command with a token in its environment, and in no other.

The options of slurm-token --help that say which token and from whom: --lifespan,
--for, --socket, --cluster, --wait. All that follows COMMAND is the command's own.

Exit status: the command's; 126 it can't be run, 127 there is none of this name;
without a token as slurm-token --help says.

Examples:
  slurm-token run squeue --me
  slurm-token run --lifespan 5m -- ./submit.py --dry-run
  slurm-token run sh -c 'squeue --me && sinfo'
";

const KEEP: &str = "\
Usage: slurm-token keep --file FILE [OPTION]...

Keeps a file that always holds a valid token: written at once, and replaced by a
new one at four fifths of its life, until SIGTERM, SIGINT or SIGHUP.

  --file FILE      the file; only you can read it. Its directory must be one that
                   nobody else can write to; if it isn't there, it's made
  --format FORMAT  how the token is written: raw (default), env, export, json,
                   header, curl; --json is short for --format json
  --exec COMMAND   run this by sh -c after each renewal, with SLURM_TOKEN_FILE and
                   SLURM_TOKEN_EXPIRES_AT in its environment
  --once           write the file once, and end

The options of slurm-token --help that say which token and from whom: --lifespan,
--for, --socket, --cluster, --wait. While the daemon is away, what is in the file
stays, and the daemon is asked again and again; --wait matters with --once.

Exit status: 0 ended by a signal, or done with --once; 1 the file can't be written
or another process keeps it, or with --once the command failed; 2 usage; 3 daemon
not reached, with --once; 4 refused: at the start, or when nothing valid is left.

Examples:
  slurm-token keep --file $XDG_RUNTIME_DIR/slurm-token &
  slurm-token keep --once --lifespan 8h --file ~/.slurm-token
  systemctl --user enable --now slurm-token-keep
";

const CURL: &str = "\
Usage: slurm-token curl [OPTION]... [CURL OPTION]... PATH|URL

Calls slurmrestd by curl. The token is in no command line and no file, -v and
--trace tell of everything but the token, and curl's own configuration is not
read. The answer and the exit status are curl's.

  --url PLACE       where slurmrestd is, for a PATH: http://localhost:6820,
                    https://host or unix:/run/slurmrestd/slurmrestd.socket.
                    Not given: what SLURMRESTD_URL says
  --force-insecure  send the token over the network in clear text, or with curl's
                    -k to a server that nobody checks. Without, http:// leads to
                    this machine only

The options of slurm-token --help that say which token and from whom: --lifespan,
--for, --socket, --cluster, --wait. curl's options are curl's, but those that
would lead the token somewhere else or write it down are refused: -L, -K, --next,
--libcurl, --stderr, and without https:// proxies, --resolve and the like.

Exit status: curl's; 127 there is no curl; without a token as slurm-token --help
says; 2 where curl is not to be called like this.

Examples:
  export SLURMRESTD_URL=unix:/run/slurmrestd/slurmrestd.socket
  slurm-token curl /slurm/v0.0.38/jobs
  slurm-token curl -sS -X DELETE /slurm/v0.0.38/job/42
  slurm-token curl -v --url https://slurm.example.org /slurm/v0.0.38/ping
";

const INSPECT: &str = "\
Usage: slurm-token inspect [TOKEN|-] [OPTION]...

Says what is in a token and what each release of Slurm would say to it. No key is
needed and nobody is asked; the signature is not checked. The token is that of
SLURM_JWT, or with - that of standard input, also as another --format writes it.

  --expect-user USER  fail if Slurm would take its bearer for somebody else
  --json              for programs; the same as --format json

Exit status: 0 all releases of Slurm accept it, if they know its key; 1 they don't,
or it is somebody else's; 2 usage.

Examples:
  slurm-token inspect
  slurm-token --format raw | slurm-token inspect -
  slurm-token inspect --json --expect-user $USER - < ~/.slurm-token | jq .claims
";

const VERIFY: &str = "\
Usage: slurm-token verify [-] [OPTION]...

Asks the daemon whether a token is valid: signed by a key that it knows, in time,
and for somebody who could have one. The token is that of SLURM_JWT, or with -
that of standard input, also as another --format writes it.

  --expect-user USER  fail if the token is somebody else's
  --json              for programs; the same as --format json

The options of slurm-token --help that say whom to ask: --socket, --cluster,
--wait.

Exit status: 0 valid; 1 valid, but somebody else's, or failed; 2 usage; 3 daemon
not reached; 4 not valid.

Examples:
  slurm-token verify
  slurm-token verify --expect-user $USER - < ~/.slurm-token
";

const REFRESH: &str = "\
Usage: slurm-token refresh [-] [OPTION]...

Gets a new token for one that has not expired: for as long as the old one had, and
within what the policy gives one session. The old one stays valid until its end.
It is that of SLURM_JWT, or with - that of standard input, also as another
--format writes it.

The options of slurm-token --help that say how the token is written and whom to
ask: --format, --json, --socket, --cluster, --wait.

Exit status: 0 done, 1 failed, 2 usage, 3 daemon not reached, 4 refused.

Examples:
  export $(slurm-token refresh)
  slurm-token refresh --format raw - < ~/.slurm-token > ~/.slurm-token.new
";

const WHOAMI: &str = "\
Usage: slurm-token whoami [--json] [--socket PATH | --cluster NAME] [--wait[=TIME]]

Says what the policy of this machine gives you: whether there are tokens, for
how long, for whom else, and which rule and which key that comes from; with
--json, which is short for --format json, for programs.

Examples:
  slurm-token whoami
  slurm-token whoami --json | jq .max_lifespan

Exit status: 0 done, 1 failed, 2 usage, 3 daemon not reached, 4 refused.
";
