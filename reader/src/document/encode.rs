//! A document as an OTLP log record, written straight to bytes: the reader makes each once, and the structures that
//! `opentelemetry-proto` has for it cost several times what the rest of the reader does.
//!
//! The layout is that of `opentelemetry.proto.logs.v1.LogRecord`, fields in order of their numbers. `tests.rs` reads
//! it back with `opentelemetry-proto`.

use std::{
    io::Write as _,
    net::{IpAddr, Ipv4Addr},
};

use abi::{Hook, Verdict};

use super::{EgressDocument, Scalar};

/// `LogRecord`, `AnyValue` and `KeyValue`: number of the field, and how it is written.
mod tag {
    const VARINT: u8 = 0;
    const FIXED64: u8 = 1;
    const LEN: u8 = 2;
    const fn tag(number: u8, wire: u8) -> u8 {
        number << 3 | wire
    }

    pub const TIME: u8 = tag(1, FIXED64);
    pub const SEVERITY_NUMBER: u8 = tag(2, VARINT);
    pub const SEVERITY_TEXT: u8 = tag(3, LEN);
    pub const BODY: u8 = tag(5, LEN);
    pub const ATTRIBUTES: u8 = tag(6, LEN);
    pub const OBSERVED_TIME: u8 = tag(11, FIXED64);

    pub const TEXT: u8 = tag(1, LEN);
    pub const TRUTH: u8 = tag(2, VARINT);
    pub const NUMBER: u8 = tag(3, VARINT);

    pub const KEY: u8 = tag(1, LEN);
    pub const VALUE: u8 = tag(2, LEN);
}

/// `SEVERITY_NUMBER_INFO`, and its text.
const INFO: (u8, &str) = (9, "INFO");
/// `SEVERITY_NUMBER_ERROR`, and its text.
const ERROR: (u8, &str) = (17, "ERROR");

impl EgressDocument {
    /// Appends the OTLP log record: ended at `end_unix_ns`, seen at `observed_unix_ns`.
    pub fn encode(&self, end_unix_ns: u64, observed_unix_ns: u64, out: &mut Vec<u8>) {
        let (severity, severity_text) = if self.loss_point.is_some() { ERROR } else { INFO };
        out.push(tag::TIME);
        out.extend_from_slice(&end_unix_ns.to_le_bytes());
        out.extend_from_slice(&[tag::SEVERITY_NUMBER, severity]);
        text(tag::SEVERITY_TEXT, severity_text.as_bytes(), out);
        let mut line = Text::<LINE>::default();
        self.summarise(&mut line);
        let line = line.bytes();
        out.push(tag::BODY);
        varint(text_len(line.len()) as u64, out);
        text(tag::TEXT, line, out);
        self.attributes(|key, value| attribute(key, value, out));
        out.push(tag::OBSERVED_TIME);
        out.extend_from_slice(&observed_unix_ns.to_le_bytes());
    }

    /// One line for people: verdict, protocol, destination, and where it was sent instead; or how much was lost where.
    pub fn summary(&self) -> String {
        let mut line = Text::<LINE>::default();
        self.summarise(&mut line);
        String::from_utf8_lossy(line.bytes()).into_owned()
    }

    fn summarise(&self, line: &mut Text<LINE>) {
        if let Some(point) = self.loss_point {
            line.push(b"LOST ");
            match self.event_count {
                Some(count) => line.number(count),
                None => line.push(b"an unknown number"),
            }
            line.push(b" at ");
            return line.push(point.as_str().as_bytes());
        }
        line.push(self.verdict.map_or("", Verdict::as_str).as_bytes());
        line.push(b" ");
        line.push(self.l4_proto.as_deref().unwrap_or_default().as_bytes());
        if let Some(host) = self.dst_host.as_deref().filter(|host| !host.is_empty()) {
            line.push(b" ");
            line.push(host.as_bytes());
        }
        let Some(ip) = self.dst_ip else {
            line.push(b" at ");
            return line.push(self.hook.map_or("", Hook::as_str).as_bytes());
        };
        line.push(b" ");
        line.place(ip, self.dst_port);
        let went = (self.actual_dst_ip, self.actual_dst_port);
        if let (Some(went), port) = went
            && (went, port) != (ip, self.dst_port)
            && self.verdict != Some(Verdict::Denied)
        {
            line.push(b", sent to ");
            line.place(went, port);
        }
    }
}

/// A `KeyValue` of [`tag::ATTRIBUTES`].
fn attribute(key: &str, value: Scalar<'_>, out: &mut Vec<u8>) {
    match value {
        Scalar::Text(value) => attribute_text(key, value.as_bytes(), out),
        Scalar::Address(address) => {
            let mut value = Text::<ADDRESS>::default();
            value.address(address);
            attribute_text(key, value.bytes(), out);
        }
        Scalar::Number(number) => {
            let number = number.cast_unsigned();
            attribute_head(key, varint_len(number).saturating_add(1), out);
            out.push(tag::NUMBER);
            varint(number, out);
        }
        Scalar::Truth(truth) => {
            attribute_head(key, 2, out);
            out.extend_from_slice(&[tag::TRUTH, truth.into()]);
        }
    }
}

fn attribute_text(key: &str, value: &[u8], out: &mut Vec<u8>) {
    attribute_head(key, text_len(value.len()), out);
    text(tag::TEXT, value, out);
}

/// All of an attribute but the `len` bytes of its `AnyValue`.
fn attribute_head(key: &str, len: usize, out: &mut Vec<u8>) {
    out.push(tag::ATTRIBUTES);
    varint(text_len(key.len()).saturating_add(text_len(len)) as u64, out);
    text(tag::KEY, key.as_bytes(), out);
    out.push(tag::VALUE);
    varint(len as u64, out);
}

fn text(tag: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(tag);
    varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Bytes of a field of `len` bytes, its tag and length included.
const fn text_len(len: usize) -> usize {
    len.saturating_add(varint_len(len as u64)).saturating_add(1)
}

const fn varint_len(value: u64) -> usize {
    // Seven bits a byte, and one byte for 0.
    (64_u32.saturating_sub((value | 1).leading_zeros())).div_ceil(7) as usize
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A short text, without an allocation. What finds no room is cut: an address and a word have room.
struct Text<const MOST: usize> {
    bytes: [u8; MOST],
    used: usize,
}

/// Bytes of an address, at most.
const ADDRESS: usize = 46;
/// Bytes of a line for people, at most: a name of 255, two addresses with ports, and a few words.
const LINE: usize = 448;

impl<const MOST: usize> Default for Text<MOST> {
    fn default() -> Self {
        Self { bytes: [0; MOST], used: 0 }
    }
}

impl<const MOST: usize> Text<MOST> {
    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.used).unwrap_or_default()
    }

    fn push(&mut self, more: &[u8]) {
        let end = self.used.saturating_add(more.len());
        if let Some(room) = self.bytes.get_mut(self.used..end) {
            room.copy_from_slice(more);
            self.used = end;
        }
    }

    /// An address, and a port if there is one.
    fn place(&mut self, ip: IpAddr, port: Option<u16>) {
        match (ip, port) {
            (IpAddr::V6(_), Some(_)) => {
                self.push(b"[");
                self.address(ip);
                self.push(b"]");
            }
            _ => self.address(ip),
        }
        if let Some(port) = port {
            self.push(b":");
            self.number(port.into());
        }
    }

    fn number(&mut self, mut number: u64) {
        let mut digits = [b'0'; 20];
        let mut length = 0_usize;
        for digit in digits.iter_mut().rev() {
            *digit = b'0' | (number % 10) as u8;
            length = length.saturating_add(1);
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.push(digits.get(digits.len().saturating_sub(length)..).unwrap_or_default());
    }

    fn address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(v4) => self.dotted(v4),
            // std knows how zeros are shortened.
            IpAddr::V6(v6) => {
                let mut room = self.bytes.get_mut(self.used..).unwrap_or_default();
                let before = room.len();
                if write!(room, "{v6}").is_ok() {
                    let left = room.len();
                    self.used = self.used.saturating_add(before.saturating_sub(left));
                }
            }
        }
    }

    fn dotted(&mut self, address: Ipv4Addr) {
        let [a, b, c, d] = address.octets();
        self.number(a.into());
        for octet in [b, c, d] {
            self.push(b".");
            self.number(octet.into());
        }
    }
}
