//! Plain curl, run by alice: what any program on the node can do.

use std::path::Path;

use serde_json::Value;

use crate::node::{ALICE, User, run_with, stdout};

/// What came back.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: String,
}

impl Reply {
    /// The only value of a header, whose name is in lower case here.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(n, _)| n == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert_eq!(values.next(), None, "{name} comes twice");
        value
    }

    /// The body, where it's JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }

    /// The status, and the code in the body.
    pub fn refusal(&self) -> (u16, String) {
        let code = &self.json()["code"];
        (self.status, code.as_str().unwrap_or_default().to_owned())
    }

    /// Does a token stand anywhere in it.
    pub fn has_token(&self) -> bool {
        let headers = self.headers.iter().map(|(_, value)| value);
        headers.chain([&self.body]).any(|text| text.contains("eyJ"))
    }
}

/// Asks a proxy, with these options of curl's and these headers: they come by
/// standard input, as a token in argv would be for everybody to read.
pub fn ask(url: &str, options: &[&str], headers: &[String]) -> Reply {
    curl(&ALICE, &[&[url], options].concat(), headers)
}

/// Asks a door itself, as this user.
pub fn ask_door(
    user: &User,
    door: &Path,
    path: &str,
    options: &[&str],
    headers: &[String],
) -> Reply {
    let url = format!("http://localhost{path}");
    let door = ["--unix-socket", door.to_str().unwrap(), &url];
    curl(user, &[&door, options].concat(), headers)
}

fn curl(user: &User, options: &[&str], headers: &[String]) -> Reply {
    let mut curl = user.runs("curl");
    curl.args(["--disable", "--silent", "--show-error", "--include"])
        .args(["--max-time", "60", "--path-as-is", "--globoff"])
        .args(["--header", "@-"])
        .args(options);
    let headers = headers.join("\n") + "\n";
    let printed = stdout(run_with(&mut curl, headers.as_bytes()).1);
    let (head, body) = printed.split_once("\r\n\r\n").unwrap();
    let (first, rest) = head.split_once("\r\n").unwrap();
    let headers = rest.split("\r\n").map(|line| {
        let (name, value) = line.split_once(':').unwrap();
        (name.to_ascii_lowercase(), value.trim().to_owned())
    });
    Reply {
        status: first.split(' ').nth(1).unwrap().parse().unwrap(),
        headers: headers.collect(),
        body: body.to_owned(),
    }
}
