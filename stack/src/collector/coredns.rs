//! The resolver's log.

use serde_json::{Value, json};

use crate::coredns::LINE;

/// The resolver's log: the file that is written to, and those before it, which are followed through their renaming. A line
/// that is not as it should be goes on whole, and is told as such.
pub(super) fn receiver(folder: &str) -> Value {
    let fields = "(?P<asker>\\S+) =(?P<agent>\\S*) =(?P<project>\\S*) =(?P<container_id>\\S*) \
        \\[?(?P<src_ip>[^\\s\\]%]+)(?:%[^\\s\\]]*)?\\]? (?P<src_port>\\d+) (?P<l4_proto>\\S+) (?P<dns_id>\\d+) (?P<qtype>\\S+) (?P<qclass>\\S+) \
        (?P<rcode>\\S+) (?P<flags>\\S+) (?P<size>\\S+) (?P<rsize>\\S+) (?P<duration>\\S+)s (?P<qname>.*)";
    let time = json!({"parse_from": "attributes.time", "layout_type": "gotime", "layout": "2006-01-02T15:04:05.99999"});
    json!({
        "include": [format!("{folder}/current"), format!("{folder}/@*")],
        "start_at": "beginning",
        "storage": "file_storage",
        // A hundred go in one request, which has a bound; what is longer becomes several.
        "max_log_size": "64KiB",
        "operators": [
            {"type": "regex_parser", "regex": "^(?P<time>[0-9T:.-]+) (?P<line>.*)$", "timestamp": time, "on_error": "send_quiet"},
            {"type": "remove", "field": "attributes.time", "if": "'time' in attributes"},
            {"type": "move", "from": "attributes.line", "to": "body", "if": "'line' in attributes"},
            {"type": "regex_parser", "regex": format!("^(?:\\[INFO\\] )?{LINE} {fields}$"), "on_error": "send_quiet"},
        ],
        "retry_on_failure": {"enabled": true, "max_elapsed_time": "0s"},
    })
}

/// Labels as they are, numbers, and the verdict: of who asked, and who answered what.
pub(super) fn statements() -> Vec<String> {
    let flag = |flag: &str| format!(r#"IsMatch(attributes["flags"], "(^|,){flag}(,|$)")"#);
    let parsed = r#"attributes["asker"] != nil"#;
    let mut statements = Vec::new();
    for key in ["agent", "project", "container_id"] {
        statements.push(format!(
            r#"set(attributes["{key}"], Decode(attributes["{key}"], "base64")) where {parsed}"#
        ));
    }
    statements.extend([
        // The view behind says by the answer's flags what it is, and it alone says that there is recursion. CoreDNS waits for it longer
        // than it takes to answer, so where it did not, it is not there.
        format!(r#"set(attributes["verdict"], "DENIED") where {parsed}"#),
        format!(r#"set(attributes["verdict"], "ALLOWED") where attributes["asker"] == "container" and {} and not {}"#, flag("ra"), flag("aa")),
        format!(r#"set(attributes["verdict"], "BYPASSED") where attributes["verdict"] == "ALLOWED" and {}"#, flag("cd")),
        format!(r#"set(attributes["duration_ms"], Double(attributes["duration"]) * 1000.0) where {parsed}"#),
    ]);
    for key in ["src_port", "dns_id", "size", "rsize"] {
        statements.push(format!(
            r#"set(attributes["{key}"], Int(attributes["{key}"])) where attributes["{key}"] != nil"#
        ));
    }
    for key in ["asker", "duration", "log.file.name"] {
        statements.push(format!(r#"delete_key(attributes, "{key}")"#));
    }
    // Of what was not answered.
    for key in ["rcode", "flags"] {
        statements.push(format!(r#"delete_key(attributes, "{key}") where attributes["{key}"] == "-""#));
    }
    // What it is made of is in the attributes; a line that was not understood stays, cut.
    statements.extend([
        r#"set(attributes["parsed"], true) where attributes["verdict"] != nil"#.to_owned(),
        r#"set(attributes["parsed"], false) where attributes["verdict"] == nil"#.to_owned(),
        r#"set(body, Concat([attributes["verdict"], attributes["qtype"], attributes["qname"]], " ")) where attributes["verdict"] != nil"#.to_owned(),
        r#"set(body, Concat([body, attributes["rcode"]], " ")) where attributes["verdict"] != nil and attributes["rcode"] != nil"#.to_owned(),
        r#"set(body, Substring(body, 0, 1024)) where attributes["verdict"] == nil and Len(body) > 1024"#
            .to_owned(),
        "set(time, observed_time) where time_unix_nano == 0".to_owned(),
    ]);
    statements
}
