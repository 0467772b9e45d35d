use super::args::Verb;

/// What `--help` prints.
pub(super) const fn of(verb: Verb) -> &'static str {
    match verb {
        Verb::Token => TOKEN,
        Verb::Run => RUN,
        Verb::Whoami => WHOAMI,
    }
}

const TOKEN: &str = "\
Usage: slurm-token [lifespan=LIFESPAN] [username=USER] [OPTION]...
       slurm-token COMMAND [OPTION]...

Prints a short-lived Slurm token for you as SLURM_JWT=TOKEN.

Commands, each with a --help of its own:
  run      run a command with a token in its environment
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
  slurm-token --format header | curl -H @- http://localhost:6820/slurm/v0.0.38/jobs

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
