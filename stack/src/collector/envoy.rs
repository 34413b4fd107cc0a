//! The proxy's access log.

/// Numbers, and addresses without their ports. What Envoy does not know is `-`, or empty.
pub(super) fn statements() -> Vec<String> {
    // Envoy hands bytes of requests on as they are, and cuts within a letter; what is no UTF-8 no receiver of OTLP takes.
    let mut statements =
        vec![format!(r#"replace_all_patterns(attributes, "value", "{NO_TEXT}", "{}")"#, '\u{fffd}')];
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
    statements
}

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
