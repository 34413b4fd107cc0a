use std::{collections::HashSet, fmt::Write as _};

use abi::{LossPoint, v4_mapped};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use prost::Message as _;

use super::*;
use crate::spool::Loss;

fn owner() -> Owner {
    Owner {
        attribution: Attribution::Known,
        agent: "scout \"α\"".into(),
        project: " demo ".into(),
        container_id: "c0ffee".into(),
    }
}

fn document(record: &abi::Record) -> EgressDocument {
    let id = EventId { node: "node-1", nonce: 0xabc, sequence: 12 };
    EgressDocument::new(record, Words::of(record).unwrap(), id, owner(), "api.test".into())
}

/// What another reads of the document's bytes, which are those that it would have written.
fn log_record(document: &EgressDocument, end_unix_ns: u64, observed_unix_ns: u64) -> LogRecord {
    let mut bytes = Vec::new();
    document.encode(end_unix_ns, observed_unix_ns, &mut bytes);
    let record = LogRecord::decode(bytes.as_slice()).unwrap();
    assert_eq!(record.encode_to_vec(), bytes);
    record
}

fn names(document: &EgressDocument) -> Vec<&'static str> {
    let mut names = Vec::new();
    document.attributes(|name, _| names.push(name));
    names
}

fn listing(record: &LogRecord) -> String {
    let body = record.body.as_ref().and_then(|body| body.value.as_ref());
    let mut text =
        format!("time {} observed {} body {body:?}\n", record.time_unix_nano, record.observed_time_unix_nano);
    for pair in &record.attributes {
        let value = pair.value.as_ref().and_then(|value| value.value.as_ref()).unwrap();
        writeln!(text, "{} = {value:?}", pair.key).unwrap();
    }
    text
}

#[test]
fn a_full_document() {
    let document = document(&sample::record());
    let record = log_record(&document, 1_700_000_000_000_000_000, 1_700_000_001_000_000_000);
    insta::assert_snapshot!(listing(&record));
}

#[test]
fn a_full_document_has_every_field_in_order() {
    let names = names(&document(&sample::record()));
    let of_a_flow = EgressDocument::field_names().filter(|name| *name != "loss_point");
    assert_eq!(names, of_a_flow.collect::<Vec<_>>());
    assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len(), "names are unique");
}

#[test]
fn the_table_of_fields() {
    let table: String = EgressDocument::FIELDS
        .iter()
        .map(|f| format!("{:<18} {:<8} {}\n", f.name, f.kind.as_str(), f.about))
        .collect();
    insta::assert_snapshot!(table);
}

#[test]
fn what_is_not_known_is_left_out() {
    let mut record = sample::record();
    record.flow.src = [0; 16];
    record.flow.src_port = 0;
    record.flow.dst = [0; 16];
    record.flow.actual_dst = [0; 16];
    let document = document(&record);
    assert_eq!(document.summary(), "ALLOWED tcp api.test at connect");
    let present: HashSet<&str> = names(&document).into_iter().collect();
    let absent: Vec<&str> = EgressDocument::field_names().filter(|name| !present.contains(name)).collect();
    let expected =
        ["src_ip", "src_port", "dst_ip", "dst_port", "actual_dst_ip", "actual_dst_port", "loss_point"];
    assert_eq!(absent, expected);
}

#[test]
fn a_loss_says_what_is_known_and_nothing_else() {
    let id = EventId { node: "node-1", nonce: 0xabc, sequence: 13 };
    let loss = |point| Loss {
        cgroup_id: 7,
        point,
        added: 40,
        total: 90,
        first_ns: 1_000_000_000,
        last_ns: 3_500_000_000,
    };
    let document = EgressDocument::of_loss(&loss(LossPoint::SpoolFull), id, owner());
    assert_eq!(document.summary(), "LOST 40 at spool_full");
    insta::assert_snapshot!(listing(&log_record(&document, 3_500_000_000, 4_000_000_000)));
    let reboot = EgressDocument::of_loss(&loss(LossPoint::Reboot), id, owner());
    assert_eq!(reboot.event_count, None);
    assert_eq!(reboot.summary(), "LOST an unknown number at reboot");
}

#[test]
fn addresses_read_as_people_write_them() {
    let mut record = sample::record();
    record.flow.verdict = Verdict::Denied as u8;
    record.flow.l4_proto = abi::UDP;
    record.flow.dst_port = 123;
    record.flow.actual_dst = record.flow.dst;
    record.flow.actual_dst_port = 123;
    assert_eq!(document(&record).summary(), "DENIED udp api.test 198.51.100.7:123");
    record.flow.dst = "2001:db8::7".parse::<std::net::Ipv6Addr>().unwrap().octets();
    assert_eq!(document(&record).summary(), "DENIED udp api.test [2001:db8::7]:123", "it was sent nowhere");
    record.flow.verdict = Verdict::Allowed as u8;
    record.flow.actual_dst = v4_mapped([203, 0, 113, 80]);
    record.flow.actual_dst_port = 15443;
    let host = ["a"; 127].join(".") + ".b";
    let document_of = EgressDocument { dst_host: Some(host.as_str().into()), ..document(&record) };
    let told = format!("ALLOWED udp {host} [2001:db8::7]:123, sent to 203.0.113.80:15443");
    assert_eq!(document_of.summary(), told, "the longest name has room");
    record.flow.dst = v4_mapped([0, 0, 0, 0]);
    assert_eq!(document(&record).dst_ip, Some("0.0.0.0".parse().unwrap()));
}

#[test]
fn protocols_without_a_word_are_numbers() {
    let mut record = sample::record();
    for (number, word) in [
        (1, "icmp"),
        (6, "tcp"),
        (17, "udp"),
        (58, "icmpv6"),
        (132, "sctp"),
        (136, "udplite"),
        (33, "33"),
        (0, "0"),
    ] {
        record.flow.l4_proto = number;
        assert_eq!(document(&record).l4_proto.unwrap(), word);
    }
}

#[test]
fn hostile_process_names_stay_text() {
    let mut record = sample::record();
    record.flow.comm = *b"\xff\xfe\"\n0123456789ab";
    assert_eq!(document(&record).comm.unwrap(), "\u{fffd}\u{fffd}\"\n0123456789ab");
    record.flow.comm = [0; 16];
    assert_eq!(document(&record).comm.unwrap(), "");
}

#[test]
fn counts_beyond_otlp_stay_at_its_end_and_time_does_not_run_backwards() {
    let mut record = sample::record();
    record.flow.bytes_in = u64::MAX;
    record.end_ns = 0;
    let document = document(&record);
    assert_eq!(document.duration_ms, 0);
    assert_eq!(document.bytes_in.scalar(), Some(Scalar::Number(i64::MAX)));
}

proptest::proptest! {
    /// Whatever a record holds, another reads of its bytes what was written, and would have written the same.
    #[test]
    fn any_document_is_read_by_others(
        noise in proptest::collection::vec(proptest::prelude::any::<u8>(), size_of::<abi::Record>()),
        zeros in proptest::collection::vec(0..size_of::<abi::Record>(), 0..64),
        times in proptest::prelude::any::<(u64, u64)>(),
        name in ".{0,300}",
    ) {
        let mut noise = noise;
        zeros.into_iter().for_each(|at| noise[at] = 0);
        // SAFETY: the size is right, and every bit pattern is a record.
        let mut record = unsafe { noise.as_ptr().cast::<abi::Record>().read_unaligned() };
        let words = Words::of(&sample::record()).unwrap();
        record.flow.reason = words.reason as u8;
        let id = EventId { node: &name, nonce: times.0, sequence: times.1 };
        let document = EgressDocument::new(&record, words, id, owner(), name.as_str().into());
        let read = log_record(&document, times.0.max(1), times.1.max(1));
        proptest::prop_assert_eq!((read.time_unix_nano, read.observed_time_unix_nano), (times.0.max(1), times.1.max(1)));
        let mut expected = Vec::new();
        document.attributes(|name, value| expected.push((name.to_owned(), match value {
            Scalar::Text(text) => format!("{:?}", Value::StringValue(text.to_owned())),
            Scalar::Address(address) => format!("{:?}", Value::StringValue(address.to_string())),
            Scalar::Number(number) => format!("{:?}", Value::IntValue(number)),
            Scalar::Truth(truth) => format!("{:?}", Value::BoolValue(truth)),
        })));
        let found: Vec<_> = read.attributes.iter().map(|pair| {
            (pair.key.clone(), format!("{:?}", pair.value.as_ref().and_then(|value| value.value.as_ref()).unwrap()))
        }).collect();
        proptest::prop_assert_eq!(found, expected);
    }
}

#[test]
fn a_byte_outside_its_set_is_named() {
    let mut record = sample::record();
    record.flow.hook = 200;
    let error = Words::of(&record).unwrap_err();
    assert_eq!(error.to_string(), "200 is not a known hook");
}

/// The words are a contract with every stored document: adding one is a change to this list, and
/// changing one breaks saved searches.
#[test]
fn every_word() {
    macro_rules! words {
        ($($set:ty),+) => { [$((stringify!($set), <$set>::ALL.iter().map(|m| m.as_str()).collect::<Vec<_>>().join(" "))),+] };
    }
    let words = words!(Verdict, Reason, Hook, CloseReason, Direction, LossPoint, Attribution);
    let expected = [
        ("Verdict", "ALLOWED DENIED BYPASSED"),
        (
            "Reason",
            "bypass dns loopback domain_rule address_rule no_rule not_enrolled socket_kind flow_table_full \
             redirected infrastructure gateway own_subnet inbound no_flow pre_enrolment destination_mismatch \
             various",
        ),
        ("Hook", "connect sendmsg sock_create egress sock_ops"),
        ("CloseReason", "none closed refused timeout reset aborted idle bypass_ended"),
        ("Direction", "outbound inbound"),
        ("LossPoint", "decode spool_full spool_damaged backend_rejected reboot"),
        ("Attribution", "known late gone unknown"),
    ];
    assert_eq!(words.each_ref().map(|(set, text)| (*set, text.as_str())), expected);
}
