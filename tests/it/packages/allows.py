"""Which of the accesses on standard input an AppArmor profile does not allow.

    allows.py PROFILE

Each line is what is done (r, w) and a path. AppArmor's own parser joins the
profile with what it includes, and its own library reads and matches the rules;
the variables of Debian's tunables are put in here. Rules for an owner count for
nothing: they hold for some.
"""

import re
import subprocess
import sys

from apparmor.rule.file import FileRule

TUNABLES = "/etc/apparmor.d/tunables"
VARIABLE = re.compile(r"@\{(\w+)\}")


def variables():
    values = {}
    text = subprocess.run(
        ["cat"] + [f"{TUNABLES}/{file}" for file in ["proc", "kernelvars", "run", "etc", "multiarch", "home"]],
        check=True, capture_output=True, text=True,
    ).stdout
    for name, value in re.findall(r"^@\{(\w+)\}\s*\+?=\s*(.*)$", text, re.M):
        values.setdefault(name, []).extend(word.rstrip("/") for word in value.split())
    return values


def expanded(line, known):
    """The line with each value of its variables."""
    found = VARIABLE.search(line)
    if not found:
        return [line]
    values = known.get(found[1], ["?"])
    return [
        whole
        for value in values
        for whole in expanded(line[: found.start()] + value + line[found.end() :], known)
    ]


def rules(profile):
    known = variables()
    joined = subprocess.run(
        ["apparmor_parser", "-p", profile], check=True, capture_output=True, text=True
    ).stdout
    for text in joined.splitlines():
        for line in expanded(text.strip(), known):
            if FileRule.match(line):
                rule = FileRule.parse(line)
                if not rule.owner and not rule.deny and not rule.all_paths:
                    yield rule


def main():
    allowed = list(rules(sys.argv[1]))
    assert allowed, "no rules"
    for access in sys.stdin.read().splitlines():
        act, path = access.split(" ", 1)
        if not any(act in (rule.perms or ()) and rule.path.match(path) for rule in allowed):
            print(access)


main()
