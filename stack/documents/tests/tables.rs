//! The tables hold together, and what is made of them is as it was read last.

mod golden;

use std::collections::BTreeMap;

use documents::{ALL, Field, Kind, Strictness, template};

/// Dashboards knows these kinds as one.
fn is_number(kind: Kind) -> bool {
    matches!(kind, Kind::Long | Kind::Double)
}

fn fields() -> impl Iterator<Item = (&'static str, &'static Field)> {
    ALL.into_iter().flat_map(|stream| stream.fields.iter().map(move |field| (stream.name, field)))
}

#[test]
fn a_name_means_the_same_kind_in_every_stream() {
    let mut kinds: BTreeMap<&str, (&str, Kind)> = BTreeMap::new();
    for (stream, field) in fields() {
        let (first, kind) = *kinds.entry(field.name).or_insert((stream, field.kind));
        assert!(
            kind == field.kind || (is_number(kind) && is_number(field.kind)),
            "{}: {kind:?} in {first}, {:?} in {stream}",
            field.name,
            field.kind
        );
    }
}

#[test]
fn a_name_is_one_field_and_no_level_of_another() {
    for stream in ALL {
        for (at, field) in stream.fields.iter().enumerate() {
            for other in &stream.fields[at + 1..] {
                let level = |inner: &str, outer: &str| {
                    inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('.'))
                };
                assert!(field.name != other.name, "{}: {} twice", stream.name, field.name);
                assert!(!level(field.name, other.name) && !level(other.name, field.name), "{}", field.name);
            }
        }
    }
}

#[test]
fn every_keyword_can_be_indexed_whatever_it_holds() {
    for (stream, field) in fields() {
        if field.kind == Kind::Keyword {
            // Lucene takes terms of 32766 bytes; a UTF-16 unit has up to three.
            assert!((1..=32766 / 3).contains(&field.longest), "{stream}: {}", field.name);
        } else {
            assert_eq!(field.longest, 0, "{stream}: {}", field.name);
        }
    }
}

#[test]
fn one_filter_narrows_every_stream() {
    for stream in ALL {
        for name in ["agent", "project", "container_id", "event_id"] {
            assert_eq!(
                stream.field(name).map(|field| field.kind),
                Some(Kind::Keyword),
                "{}: {name}",
                stream.name
            );
        }
        for column in stream.columns {
            assert!(stream.field(column).is_some(), "{}: {column}", stream.name);
        }
    }
}

/// Every field that the design names for the reader's documents.
#[test]
fn what_was_agreed_is_there() {
    let agreed = "agent project container_id verdict reason l4_proto l7_proto src_ip src_port dst_ip dst_port dst_host \
        actual_dst_ip actual_dst_port direction bytes_in bytes_out packets_in packets_out duration_ms close_reason \
        event_count event_id attribution dst_host_ambiguous cgroup_id pid comm hook record_type";
    for name in agreed.split_whitespace() {
        assert!(documents::EGRESS.field(name).is_some(), "{name}");
    }
    for name in ["method", "path", "request_host", "response_code", "grpc_status"] {
        assert!(documents::ENVOY.field(name).is_some(), "{name}");
    }
    for name in ["qname", "qtype", "rcode"] {
        assert!(documents::COREDNS.field(name).is_some(), "{name}");
    }
}

/// Prompts, what a tool was given and what it answered must not land; their names must not be in the allow-list.
#[test]
fn no_content_of_a_prompt_is_in_the_table() {
    assert_eq!(documents::CLAUDE.strictness, Strictness::Unsearched);
    for name in
        ["prompt", "body", "tool_parameters", "tool_input", "bash_command", "full_command", "description"]
    {
        assert!(documents::CLAUDE.field(name).is_none(), "{name}");
    }
}

#[test]
fn templates() {
    for stream in ALL {
        insta::assert_json_snapshot!(stream.name, template(&stream));
    }
}

#[test]
fn the_page_is_true() {
    golden::compare("documents.md", &documents::page());
}
