//! What bash, zsh and fish offer for the programs where Tab is pressed: the
//! shells themselves say it, bash and zsh in a terminal.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::node::stdout;

const PROGRAMS: [&str; 3] = ["slurm-token", "slurm-tokenctl", "slurm-tokend"];
const SHELLS: [&str; 3] = ["bash", "zsh", "fish"];

fn in_checkout(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_slurm-token")).with_file_name(name)
}

/// What each line is completed to: the words offered for its last one.
fn offers(shell: &str, lines: &[String]) -> Vec<BTreeSet<String>> {
    offers_beside("/dev/null", shell, lines)
}

/// The same where bash has read more completions, of other programs.
fn offers_beside(bash: &str, shell: &str, lines: &[String]) -> Vec<BTreeSet<String>> {
    let completions = in_checkout("packaging/completions");
    let home = tempfile::tempdir().unwrap();
    let run = |command: &mut Command| {
        command
            .env("HOME", home.path())
            .env_remove("XDG_DATA_HOME")
            .env_remove("XDG_CONFIG_HOME");
        stdout(command.output().unwrap())
    };
    let words = |line: &str| {
        line.split(' ')
            .filter(|w| !w.is_empty())
            .map(Into::into)
            .collect()
    };
    if shell == "fish" {
        let script = "for file in $argv[1]/fish/*; source $file; end
            for line in $argv[2..]; echo (complete -C $line | cut -f1); end";
        let mut fish = Command::new("fish");
        fish.args(["-c", script]).arg(completions).args(lines);
        return run(&mut fish).lines().map(words).collect();
    }
    let mut typed = Command::new("zsh");
    typed
        .arg("-f")
        .arg(in_checkout("tests/it/completions/typed.zsh"))
        .arg(shell)
        .arg(completions)
        .arg(in_checkout("tests/it/completions/capture.zsh"))
        .arg(bash)
        .args(lines);
    let said = run(&mut typed);
    let answers = said.lines().zip(lines).map(|(answer, line)| {
        if shell == "zsh" {
            return words(answer);
        }
        // The line itself, up to the word that was completed. Of --option=value
        // bash completes what follows the sign.
        let kept = line.rfind([' ', '=']).unwrap() + 1;
        let mut offered: BTreeSet<String> = words(&answer[kept..]);
        // Where it has nothing to offer, it leaves the word as it is.
        offered.remove(&line[kept..]);
        offered
    });
    answers.collect()
}

/// The line of help about each command of a program: those that it lists, and
/// theirs; by the words that name it.
fn helps(program_name: &str) -> BTreeMap<Vec<String>, String> {
    let mut helps = BTreeMap::new();
    let mut open = vec![vec![]];
    while let Some(path) = open.pop() {
        let help = Command::new(program(program_name))
            .args(&path)
            .arg("-h")
            .output();
        let help = stdout(help.unwrap());
        for command in commands(&help) {
            // What clap's own command takes is the others' names.
            if command != "help" {
                open.push([&path[..], &[command]].concat());
            }
        }
        helps.insert(path, help);
    }
    helps
}

fn commands(help: &str) -> BTreeSet<String> {
    let Some((_, list)) = help.split_once("\nCommands") else {
        return BTreeSet::new();
    };
    list.lines()
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter(|line| !line.starts_with("     "))
        .map(|line| line.split_whitespace().next().unwrap().to_owned())
        .collect()
}

/// The options that a command's help has a line for, and those of the program's
/// that it mentions.
fn long_options(help: &str, program: &str) -> BTreeSet<String> {
    let (help, _) = help.split_once("\nExamples").unwrap_or((help, ""));
    let words = |text: &str| -> BTreeSet<String> {
        text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
            .filter(|word| word.starts_with("--") && word.len() > 2)
            .map(ToOwned::to_owned)
            .collect()
    };
    let lines = |help: &str| -> BTreeSet<String> {
        help.lines()
            .filter(|line| line.starts_with("  ") && line.trim_start().starts_with('-'))
            .flat_map(|line| words(line.trim_start().split("  ").next().unwrap()))
            .collect()
    };
    let mentioned = &words(help) & &lines(program);
    &(&lines(help) | &mentioned) | &["--help".to_owned()].into()
}

#[test]
fn the_files_are_those_that_make_completions_writes() {
    let directory = tempfile::tempdir().unwrap();
    let mut generate = Command::new("/usr/bin/python3");
    generate
        .arg(in_checkout("packaging/completions/generate"))
        .arg(program("slurm-token").parent().unwrap())
        .arg(directory.path());
    stdout(generate.output().unwrap());
    for name in PROGRAMS {
        for (shell, file) in [
            ("bash", name.to_owned()),
            ("zsh", format!("_{name}")),
            ("fish", format!("{name}.fish")),
        ] {
            let file = Path::new(shell).join(file);
            let written = fs::read_to_string(directory.path().join(&file)).unwrap();
            let kept = in_checkout("packaging/completions").join(&file);
            assert!(
                fs::read_to_string(&kept).is_ok_and(|kept| kept == written),
                "{}: the help says something else by now: make completions",
                kept.display()
            );
        }
    }
}

#[test]
fn each_command_and_option_of_the_help_is_offered_and_no_other() {
    for name in PROGRAMS {
        let helps = helps(name);
        let line = |path: &Vec<String>, rest: &str| {
            let words = [&[name.to_owned()], &path[..], &[rest.to_owned()]].concat();
            words.join(" ")
        };
        let groups: Vec<_> = helps
            .iter()
            .filter(|(_, help)| !commands(help).is_empty())
            .collect();
        let lines: Vec<String> = helps
            .keys()
            .map(|path| line(path, "--"))
            .chain(groups.iter().map(|(path, _)| line(path, "")))
            .collect();
        for shell in SHELLS {
            let mut offered = offers(shell, &lines).into_iter();
            assert_eq!(offered.len(), lines.len(), "{shell}");
            for (path, help) in &helps {
                let mut offered = offered.next().unwrap();
                offered.retain(|word| word.starts_with("--"));
                let wanted = long_options(help, &helps[&vec![]]);
                if path[..] == ["curl"] {
                    // Where curl's own completions can be had, those too.
                    offered.retain(|word| wanted.contains(word));
                }
                assert_eq!(offered, wanted, "{shell}: {}", line(path, "--"));
            }
            for (path, help) in &groups {
                let mut wanted = commands(help);
                if line(path, "") == "slurm-token " {
                    // As scontrol takes them.
                    wanted.extend(["lifespan=".into(), "username=".into()]);
                }
                assert_eq!(
                    offered.next().unwrap(),
                    wanted,
                    "{shell}: {}",
                    line(path, "")
                );
            }
        }
    }
}

#[test]
fn values_are_offered_where_the_shell_can_know_them() {
    fs::create_dir_all("/run/slurm-tokend-compalps").unwrap();
    let cases = [
        ("slurm-token --for bo", &["bob"][..]),
        ("slurm-token --for=bo", &["bob"]),
        ("slurm-token username=bo", &["bob"]),
        ("slurm-token run --for bo", &["bob"]),
        ("slurm-tokenctl --slurm-user bo", &["bob"]),
        ("slurm-token --lifespan m", &["max"]),
        ("slurm-token lifespan=m", &["max"]),
        (
            "slurm-token --format ",
            &["curl", "env", "export", "header", "json", "raw"],
        ),
        ("slurm-token -M compa", &["compalps"]),
        ("slurm-token whoami --cluster=compa", &["compalps"]),
        ("slurm-tokenctl key generate --alg ", &["HS256", "RS256"]),
        ("slurm-tokenctl token sign --sun bo", &["bob"]),
        ("slurm-tokenctl token verify --alg RS256 /etc/nsswitc", &[]),
        (
            "slurm-tokenctl jwks lint /etc/nsswitc",
            &["/etc/nsswitch.conf"],
        ),
        (
            "slurm-tokend --config /etc/nsswitc",
            &["/etc/nsswitch.conf"],
        ),
        (
            "slurm-tokend --config=/etc/nsswitc",
            &["/etc/nsswitch.conf"],
        ),
        (
            "slurm-token keep --format ",
            &["curl", "env", "export", "header", "json", "raw"],
        ),
        (
            "slurm-token keep --file /etc/nsswitc",
            &["/etc/nsswitch.conf"],
        ),
        ("slurm-token keep --exec setpri", &["setpriv"]),
        ("slurm-token run setpri", &["setpriv"]),
        ("slurm-token run --lifespan 5m -- setpri", &["setpriv"]),
        ("slurm-token run --wait=1m setpri", &["setpriv"]),
        ("slurm-token curl --lifespan m", &["max"]),
        ("slurm-token curl --cluster compa", &["compalps"]),
        // The value of an option is no command.
        ("slurm-token --for run who", &["whoami"]),
        // No operand, hence no file such as /etc.
        ("slurm-token whoami /et", &[]),
        ("slurm-tokend /et", &[]),
    ];
    let lines: Vec<String> = cases.iter().map(|(line, _)| (*line).to_owned()).collect();
    for shell in SHELLS {
        let offered = offers(shell, &lines);
        assert_eq!(offered.len(), lines.len(), "{shell}: {offered:?}");
        for ((line, wanted), offered) in cases.iter().zip(offered) {
            // Some offer --option=value, some the last part of a path.
            let plain = |word: &str| {
                let value = word.rsplit('=').next().unwrap();
                value.rsplit('/').next().unwrap().to_owned()
            };
            let offered: BTreeSet<String> = offered.iter().map(|word| plain(word)).collect();
            let wanted: BTreeSet<String> = wanted.iter().map(|word| plain(word)).collect();
            assert_eq!(offered, wanted, "{shell}: {line}");
        }
    }
}

/// Debian's completions of other programs, which bash doesn't have by itself.
const BASH_COMPLETION: &str = "/usr/share/bash-completion/bash_completion";

#[test]
fn a_command_that_is_run_has_its_own_completions() {
    for shell in SHELLS {
        for line in [
            "slurm-token run ls --colo",
            "slurm-token run -- ls --colo",
            "slurm-token run --wait -- ls --colo",
        ] {
            let offered = offers_beside(BASH_COMPLETION, shell, &[line.to_owned()]).remove(0);
            let offered = offered.iter().any(|word| word.starts_with("--color"));
            assert!(offered, "{shell}: {line}");
        }
    }
}

#[test]
fn what_is_curls_is_completed_as_for_curl() {
    for shell in SHELLS {
        for line in [
            "slurm-token curl --user-a",
            "slurm-token curl -sS --lifespan 5m --url http://localhost --user-a",
            "slurm-token --lifespan 5m curl -X POST --user-a",
        ] {
            let offered = offers_beside(BASH_COMPLETION, shell, &[line.to_owned()]).remove(0);
            assert!(
                offered.contains("--user-agent"),
                "{shell}: {line}: {offered:?}"
            );
        }
        // A letter that both have is curl's.
        let line = "slurm-token curl -M compa".to_owned();
        let offered = offers_beside(BASH_COMPLETION, shell, &[line]).remove(0);
        assert!(!offered.contains("compalps"), "{shell}: {offered:?}");
    }
}
