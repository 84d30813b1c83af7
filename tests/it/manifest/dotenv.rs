//! A `.env` means what python-dotenv makes of it, but for references to what the file does not set.

use crate::support;
use rapidclaw::base::secret::ExposeSecret as _;
use rapidclaw::manifest::dotenv;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};

/// Reads texts as JSON and answers with what python-dotenv finds in files that hold them.
const PEER: &str = r"
import json, os, sys, tempfile
import dotenv
def read(text):
    with tempfile.NamedTemporaryFile() as file:
        file.write(text.encode())
        file.flush()
        return {k: v for k, v in dotenv.dotenv_values(file.name).items() if v is not None}
print(json.dumps([read(text) for text in json.load(sys.stdin)]))
";

/// What may stand behind a `=`.
const VALUES: [&str; 52] = [
    "",
    "x",
    "#x",
    "#",
    " # c",
    " #",
    "a#b",
    "a #b",
    "a\t#b",
    "a\u{a0}#b",
    "a  # b # c",
    "'#x'",
    "\"#x\"",
    "\"x\" # c",
    "\"x\"# c",
    "'x'#c",
    "' x '",
    "  x y  ",
    "x\u{a0}",
    "x\u{1f} #y",
    "\u{1c}x",
    "a'b'",
    "''",
    "\"\"",
    "'a\\nb'",
    "\"a\\nb\"",
    "a\\nb",
    "\"a\\tb\\x\"",
    "'it\\'s'",
    "\"it\\'s\"",
    "\"say \\\"x\\\"\"",
    "\"\\a\\b\\f\\v\\r\"",
    "\"\\u00e9 \\101\"",
    "\"a\\\nb\"",
    "'\\\\'",
    "\"\\\\n\"",
    "\"\\\\\\\\\"",
    "\\",
    "a\\ b",
    "'a\n b'",
    "\"a\n#b\n\"",
    "\"AB\r\nCD\r\n\"",
    "b=c",
    "=x",
    "$B",
    "pa$$word",
    "${Z:-d}",
    "${Z:-}",
    "'${Z:-a:b}'",
    "a${Z:-c}d${Z:-e}",
    "${Z",
    "é;`x` export C=y",
];

#[test]
fn a_dotenv_file_reads_as_python_dotenv_reads_it() {
    let mut texts: Vec<String> = Vec::new();
    for value in VALUES {
        for (before, after) in
            [("A=", ""), ("A=", "\n"), ("A=", "\r\nB=2\r\n"), ("A=", "\rB=2"), ("\n export  A\t= ", "\nB=2")]
        {
            texts.push(format!("{before}{value}{after}"));
        }
    }
    for whole in [
        "",
        "# c\nA=x",
        "A=x\n\n\n#c\n   \nB=y",
        "\u{feff}A=x",
        "A",
        "export A",
        "A\nB=1",
        "exportA=x",
        "export=1",
        "'A'=x",
        "A.B=x",
        "A-B=x",
        "1A=x",
        "A:=x",
        "%A=x",
        "é=x",
        "A=1\nA=${A}2",
        "B=1\nA='${B}'\nC=\"${B}\"\nD=${B}",
        "A=x\u{b}B=y",
        "A=x\u{2028}y",
        "A=x\u{85}y",
        "A = x",
        " A=x",
        "A=a\nA=b",
    ] {
        texts.push(whole.to_owned());
    }
    let peer = peer(&texts);
    for (text, theirs) in texts.iter().zip(peer) {
        let ours = dotenv::parse(text).map(|values| {
            values.into_iter().map(|(name, value)| (name, value.expose_secret().to_owned())).collect::<BTreeMap<_, _>>()
        });
        assert_eq!(ours, Ok(theirs), "{text:?}");
    }
}

#[test]
fn what_python_dotenv_passes_over_or_empties_is_an_error() {
    let texts = ["A='a'b", "A='x' 'y'", "A=\"x", "=x", "A=${Z}", "A='${Z}'", "A=${}"].map(ToOwned::to_owned);
    for (text, theirs) in texts.iter().zip(peer(&texts)) {
        assert!(theirs.values().all(String::is_empty), "{text:?}: {theirs:?}");
        assert!(dotenv::parse(text).is_err(), "{text:?}");
    }
}

fn peer(texts: &[String]) -> Vec<BTreeMap<String, String>> {
    let mut command = Command::new(support::python());
    let mut child =
        command.args(["-c", PEER]).env_remove("Z").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(Value::from(texts.to_vec()).to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}
