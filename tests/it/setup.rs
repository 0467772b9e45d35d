//! `slurm-tokenctl setup` takes a node from nothing to a daemon that serves.
//! Each test has a private host of its own, whose `/etc/slurm` is empty.

use std::process::{Command, Output, Stdio};

use crate::node;

const PRIVATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/host/private");

/// A script on a host where the programs are installed and nothing else.
fn on_a_new_host(script: &str) -> Output {
    node::install();
    Command::new(PRIVATE)
        .args(["bash", "-euc", script])
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// What such a script says, which must go well.
fn told(script: &str) -> String {
    node::stdout(on_a_new_host(script))
}

/// What it says on standard error when its last command fails with `status`.
fn fails(status: i32, script: &str) -> String {
    let output = on_a_new_host(script);
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(status), "{words}");
    words
}

#[test]
fn a_node_with_nothing_is_set_up_and_its_daemon_takes_it() {
    told(
        "slurm-tokenctl setup --yes
         slurm-tokend --check
         kid=$(slurm-tokenctl key kid /etc/slurm/token-keys/login1.pem)
         jq -e --arg kid $kid '.keys[0].kid == $kid' /etc/slurm/jwks.d/$kid.json
         [ $(stat -c %U:%a /etc/slurm/token-keys/login1.pem) = root:400 ]
         [ $(stat -c %U:%a /etc/slurm/token-keys) = root:700 ]
         [ $(stat -c %U:%a /etc/slurm/jwks.d/$kid.json) = root:644 ]
         cmp /etc/slurm/slurm-tokend.toml etc/slurm-tokend.toml",
    );
}

#[test]
fn what_is_there_stays_as_it_is() {
    let again = told(
        "sed -i /^slurm-admins:/d /etc/group
         slurm-tokenctl setup --yes --admin-group >/dev/null
         getent group slurm-admins >/dev/null
         echo '# mine' >>/etc/slurm/slurm-tokend.toml
         files() { find /etc/slurm /etc/group -type f -exec sha256sum {} +; }
         before=$(files)
         slurm-tokenctl setup --yes --admin-group
         [ \"$before\" = \"$(files)\" ]",
    );
    assert!(!again.contains("to do"), "{again}");
}

#[test]
fn it_says_what_it_would_do_and_does_nothing() {
    let plan = told(
        "sed -i /^slurm-admins:/d /etc/group
         slurm-tokenctl setup --dry-run --admin-group
         [ -z \"$(ls -A /etc/slurm)\" ]
         ! getent group slurm-admins",
    );
    for what in [
        "to do  /etc/slurm/slurm-tokend.toml",
        "to do  /etc/slurm/token-keys/login1.pem",
        "to do  /etc/slurm/jwks.d/<kid>.json",
        "to do  group slurm-admins",
    ] {
        assert!(plan.contains(what), "{plan}");
    }
}

#[test]
fn nothing_is_done_where_nobody_can_agree() {
    let words = fails(2, "slurm-tokenctl setup; s=$?; ls -A /etc/slurm; exit $s");
    assert!(words.contains("give --yes, or --dry-run"), "{words}");
}

#[test]
fn somebody_at_a_terminal_is_asked() {
    let script = |answer: &str| {
        format!(
            "echo {answer} | script -qec 'slurm-tokenctl setup' /dev/null || echo failed; ls /etc/slurm"
        )
    };
    let yes = told(&script("y"));
    assert!(yes.contains("[y/N]") && yes.contains("token-keys"), "{yes}");
    let no = told(&script("n"));
    assert!(
        no.contains("nothing was done") && no.contains("failed") && !no.contains("token-keys\n"),
        "{no}"
    );
}

#[test]
fn an_invalid_configuration_stops_it_before_anything_is_made() {
    let words = fails(
        1,
        "echo 'sign = 1' >/etc/slurm/slurm-tokend.toml
         slurm-tokenctl setup --yes || { [ ! -e /etc/slurm/token-keys ] && exit 1; exit 3; }",
    );
    assert!(words.contains("slurm-tokend.toml:1"), "{words}");
}

#[test]
fn a_key_that_others_can_read_is_not_taken() {
    let words = fails(
        1,
        "slurm-tokenctl setup --yes >/dev/null
         chmod 0644 /etc/slurm/token-keys/login1.pem
         slurm-tokenctl setup --yes || exit 1",
    );
    assert!(words.contains("chmod"), "{words}");
}

#[test]
fn a_private_key_is_not_put_on_a_file_system_that_nodes_share() {
    let words = fails(
        1,
        "mknod /dev/fuse c 10 229
         truncate -s 16M /tmp/disk && mke2fs -q -t ext4 /tmp/disk
         mkdir /etc/slurm/token-keys && fuse2fs /tmp/disk /etc/slurm/token-keys
         slurm-tokenctl setup --yes || { [ ! -e /etc/slurm/slurm-tokend.toml ] && exit 1; exit 3; }",
    );
    assert!(
        words.contains("a private key must not be on FUSE") && words.contains("local disk"),
        "{words}"
    );
}

#[test]
fn every_key_that_signs_is_made_and_published_and_none_on_a_shared_file_system() {
    let other = "slurm-tokenctl setup --yes >/dev/null
         printf '[[signing.other]]\\nkey = \"%s\"\\nalgorithm = \"RS256\"\\nkid = \"workflow\"\\n' \
             $place/workflow.pem >>/etc/slurm/slurm-tokend.toml\n";
    told(&format!(
        "place=/etc/slurm/token-keys; {other}
         slurm-tokenctl setup --yes
         slurm-tokend --check
         jq -e '.keys[0].kid == \"workflow\"' /etc/slurm/jwks.d/workflow.json"
    ));
    let words = fails(
        1,
        &format!(
            "mknod /dev/fuse c 10 229
             truncate -s 16M /tmp/disk && mke2fs -q -t ext4 /tmp/disk
             mkdir /etc/slurm/shared && fuse2fs /tmp/disk /etc/slurm/shared
             place=/etc/slurm/shared; {other}
             slurm-tokenctl setup --yes || exit 1"
        ),
    );
    assert!(words.contains("must not be on FUSE"), "{words}");
}

#[test]
fn a_node_without_slurms_account_needs_its_uid() {
    let without = "sed -i /^slurm:/d /etc/passwd";
    let words = fails(
        1,
        &format!("{without}; slurm-tokenctl setup --yes || exit 1"),
    );
    assert!(words.contains("--slurm-uid"), "{words}");
    told(&format!(
        "{without}; slurm-tokenctl setup --yes --slurm-uid 64030
         grep -qx 'slurm_uid = 64030' /etc/slurm/slurm-tokend.toml
         slurm-tokend --check"
    ));
}

#[test]
fn one_more_cluster_has_its_own_configuration_socket_and_state() {
    told(
        "slurm-tokenctl setup --yes --cluster east
         grep -qx 'socket = \"/run/slurm-tokend-east/slurm-tokend.sock\"' /etc/slurm/slurm-tokend@east.toml
         grep -qx '#socket = \"/run/slurm-tokend-east/http.sock\"' /etc/slurm/slurm-tokend@east.toml
         grep -qx 'state_dir = \"/var/lib/slurm-tokend-east\"' /etc/slurm/slurm-tokend@east.toml
         slurm-tokend --config /etc/slurm/slurm-tokend@east.toml --check",
    );
}

#[test]
fn a_shared_secret_is_never_made_by_it() {
    let words = fails(
        1,
        "printf '[signing]\\nkey = \"/etc/slurm/jwt_hs256.key\"\\nalgorithm = \"HS256\"\\nkid = \"c\"\\n' \\
             >/etc/slurm/slurm-tokend.toml
         slurm-tokenctl setup --yes || exit 1",
    );
    assert!(words.contains("copy slurmctld's jwt_key"), "{words}");
}

#[test]
fn it_may_be_killed_anywhere_and_be_run_again() {
    told(
        r#"calls=openat,write,fchmod,fchown,link,linkat,renameat,unlinkat,mkdir,mkdirat
        strace -qq -o /tmp/trace -e signal=none -e trace=$calls slurm-tokenctl setup --yes >/dev/null
        changes=$(awk -F'(' '{ n[$1]++ }
            ($1 != "openat" || /O_CREAT|O_TMPFILE/) && !/^write\([12],/ { print $1 ":" n[$1] }' /tmp/trace)
        [ $(wc -w <<<"$changes") -ge 10 ]
        sound() { # What is there is whole, and nobody else's.
            for key in $(find /etc/slurm/token-keys -type f 2>/dev/null); do
                openssl pkey -noout -check -in $key >/dev/null
                [ $(stat -c %U:%a $key) = root:400 ]
            done
            for set in $(find /etc/slurm/jwks.d -type f 2>/dev/null); do
                slurm-tokenctl jwks lint $set >/dev/null
            done
            [ ! -e /etc/slurm/slurm-tokend.toml ] ||
                cmp /etc/slurm/slurm-tokend.toml etc/slurm-tokend.toml
        }
        for change in $changes; do
            call=${change%:*} number=${change#*:} status=0
            rm -rf /etc/slurm/*
            strace -qq -o /dev/null -e trace=$call \
                -e inject=$call:error=EINTR:signal=KILL:when=$number \
                slurm-tokenctl setup --yes >/dev/null 2>&1 || status=$?
            [ $status = 137 ]
            sound
            slurm-tokenctl setup --yes >/dev/null
            sound
            slurm-tokend --check
            kid=$(slurm-tokenctl key kid /etc/slurm/token-keys/login1.pem)
            wanted="jwks.d/$kid.json slurm-tokend.toml token-keys/login1.pem"
            [ "$(find /etc/slurm -type f -printf '%P\n' | sort | xargs)" = "$wanted" ]
        done"#,
    );
}
