//! The proxy's access log.

/// Numbers, and addresses without their ports. What Envoy does not know is `-`, or empty.
pub(super) fn statements() -> Vec<String> {
    // Envoy hands bytes of requests on as they are, and cuts within a letter; what is no UTF-8 no receiver of OTLP takes.
    let of_requests = |key| {
        format!(
            r#"replace_pattern(attributes["{key}"], "{NO_TEXT}", "{}") where attributes["{key}"] != nil"#,
            '\u{fffd}'
        )
    };
    let mut statements: Vec<String> = OF_REQUESTS.iter().map(of_requests).collect();
    for key in ["src", "actual_dst"] {
        // A link-local address has its link behind it.
        let pattern = format!(r#"^\\[?(?P<{key}_ip>[^\\]%]+?)(?:%[^\\]]*)?\\]?:(?P<{key}_port>\\d+)$"#);
        statements.push(format!(
            r#"merge_maps(attributes, ExtractPatterns(attributes["{key}"], "{pattern}"), "upsert") where attributes["{key}"] != nil and attributes["{key}"] != "-" and attributes["{key}"] != """#
        ));
        statements.push(format!(r#"delete_key(attributes, "{key}")"#));
    }
    // What was answered before there was a route: it is no request as it should be.
    let none = r#"attributes["verdict"] == "-" or attributes["verdict"] == """#;
    statements.push(format!(r#"set(attributes["reason"], "malformed") where {none}"#));
    statements.push(format!(r#"set(attributes["verdict"], "DENIED") where {none}"#));
    statements.extend(nowhere());
    statements.push(r#"delete_key(attributes, "sent")"#.to_owned());
    for key in TEXT_OR_NOTHING {
        statements.push(format!(
            r#"delete_key(attributes, "{key}") where attributes["{key}"] == "-" or attributes["{key}"] == """#
        ));
    }
    for key in [
        "src_port",
        "listener_port",
        "dst_port",
        "actual_dst_port",
        "bytes_in",
        "bytes_out",
        "duration_ms",
        "response_code",
        "grpc_status",
    ] {
        statements.push(format!(
            r#"set(attributes["{key}"], Int(attributes["{key}"])) where attributes["{key}"] != nil"#
        ));
    }
    statements.extend(line());
    statements
}

/// One line for people: verdict, request or destination, answer, and why it was denied.
fn line() -> Vec<String> {
    let (request, connection) = (r#"attributes["method"] != nil"#, r#"attributes["method"] == nil"#);
    let parts = [
        (" ", "method", request),
        (" ", "request_host", request),
        ("", "path", request),
        (" ", "l7_proto", connection),
        (" ", "dst_host", connection),
        (":", "dst_port", r#"attributes["method"] == nil and attributes["dst_host"] != nil"#),
        (" ", "sni", r#"attributes["method"] == nil and attributes["dst_host"] == nil"#),
        (" ", "response_code", "true"),
        (", ", "reason", r#"attributes["verdict"] == "DENIED""#),
    ];
    let more = parts.map(|(between, key, when)| {
        format!(
            r#"set(body, Concat([body, attributes["{key}"]], "{between}")) where {when} and attributes["{key}"] != nil"#
        )
    });
    [r#"set(body, attributes["verdict"])"#.to_owned()].into_iter().chain(more).collect()
}

/// What a rule permits and the proxy did not let out: by Envoy's flags, as it writes them, and the answer that it made itself. What is
/// ended on the way, for want of memory, did go out, and no answer is a reason then.
fn nowhere() -> Vec<String> {
    let details = |pattern: &str| format!(r#"IsMatch(attributes["response_code_details"], "{pattern}")"#);
    let flags = |pattern: &str| format!(r#"IsMatch(attributes["response_flags"], "(^|,)({pattern})(,|$)")"#);
    let asked = r#"attributes["response_code_details"] != nil"#;
    let reasons = [
        // Every address of the name is one that nobody is led to.
        ("forbidden_address", details("^dns_resolution_failure.address_denied.$")),
        // None at all; of a connection, it is not told whether there were such.
        ("no_address", format!("{asked} and {}", flags("DF"))),
        ("no_address", format!("not ({asked}) and {}", flags("UH"))),
        // It is no request after all, or asks for what the proxy speaks with nobody; or for what it is just about to serve.
        ("malformed", details(r"^(upgrade_failed|http1\\.codec_error)$")),
        ("no_address", flags("NC")),
        // The container has more under way than one may, or the proxy no memory.
        ("limit", format!("{} or {}", flags("UO"), details(OVERFLOWS))),
    ];
    let of = |(reason, when): (&str, String)| {
        // Without memory, no rule was looked for.
        let when = format!(
            r#"attributes["sent"] == "0" and (attributes["reason"] == "rule" or attributes["reason"] == "malformed") and ({when})"#
        );
        // The reason last: it is what the others go by.
        [("verdict", "DENIED"), ("reason", reason)]
            .map(|(key, value)| format!(r#"set(attributes["{key}"], "{value}") where {when}"#))
    };
    reasons.into_iter().flat_map(of).collect()
}

/// What Envoy's own answers are called: names, look-ups, memory.
const OVERFLOWS: &str = "^(dns_cache_overflow|dynamic_forward_proxy_pending_request_overflow|overload)$";

/// What a request, or a server's answer, has a part in. Labels are as they are.
const OF_REQUESTS: [&str; 8] = [
    "method",
    "path",
    "request_host",
    "upgrade",
    "content_type",
    "sni",
    "response_code_details",
    "termination",
];

/// A byte that is no part of a letter, which the pattern's engine takes for U+FFFD. With two it is no literal, which would
/// be looked for by its bytes.
const NO_TEXT: &str = r"[\\x{FFFC}-\\x{FFFD}]";

/// Attributes of Envoy's that are absent where it writes nothing.
const TEXT_OR_NOTHING: [&str; 16] = [
    "dst_host",
    "dst_port",
    "sni",
    "response_flags",
    "close_reason",
    "termination",
    "method",
    "path",
    "request_host",
    "response_code_details",
    "grpc_status",
    "response_code",
    "protocol",
    "upgrade",
    "content_type",
    "reason",
];
