//! The frames of one world, kept for a pcap file. Bounded: a scenario may send what it likes.

use std::{
    io::{self, Write},
    time::Duration,
};

use pcap_file::{
    DataLink, Endianness, PcapError, TsResolution,
    pcap::{PcapHeader, PcapPacket, PcapWriter},
};

/// Bytes kept of one world, frames only.
const BOUND: usize = 8 << 20;

/// What was captured, in order of capture on each link.
#[derive(Debug, Default)]
pub struct Frames {
    kept: Vec<Frame>,
    bytes: usize,
    cut: u64,
}

#[derive(Debug)]
struct Frame {
    /// Since 1970.
    time: Duration,
    data: Box<[u8]>,
}

impl Frames {
    /// Keeps a whole frame, or counts it once the bound is reached; none is kept after the first that was not.
    pub(super) fn add(&mut self, time: Duration, data: &[u8]) {
        if self.cut > 0 || self.bytes.saturating_add(data.len()) > BOUND {
            self.cut += 1;
            return;
        }
        self.bytes += data.len();
        self.kept.push(Frame { time, data: data.into() });
    }

    /// Frames at the end that were not kept.
    pub fn cut(&self) -> u64 {
        self.cut
    }

    /// Writes them as a pcap file of Ethernet frames with nanoseconds, in order of time.
    ///
    /// # Errors
    /// Of `out`.
    pub fn write(&self, out: impl Write) -> io::Result<()> {
        let failed = |error| match error {
            PcapError::IoError(error) => error,
            other => io::Error::other(other),
        };
        let header = PcapHeader {
            // tcpdump's default, and more than a veth hands over.
            snaplen: 256 << 10,
            datalink: DataLink::ETHERNET,
            ts_resolution: TsResolution::NanoSecond,
            endianness: Endianness::native(),
            ..PcapHeader::default()
        };
        let mut writer = PcapWriter::with_header(out, header).map_err(failed)?;
        let mut frames: Vec<&Frame> = self.kept.iter().collect();
        frames.sort_by_key(|frame| frame.time);
        for frame in frames {
            let length = u32::try_from(frame.data.len()).map_err(io::Error::other)?;
            writer.write_packet(&PcapPacket::new(frame.time, length, &frame.data)).map_err(failed)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use pcap_file::pcap::PcapReader;

    use super::*;

    #[test]
    fn the_file_reads_back_in_order_of_time() {
        let mut frames = Frames::default();
        frames.add(Duration::new(1_800_000_000, 2), b"later, of another link");
        frames.add(Duration::new(1_800_000_000, 1), b"first");
        let mut file = Vec::new();
        frames.write(&mut file).unwrap();
        let mut reader = PcapReader::new(&file[..]).unwrap();
        assert_eq!(reader.header().datalink, DataLink::ETHERNET);
        let mut read = Vec::new();
        while let Some(packet) = reader.next_packet() {
            let packet = packet.unwrap();
            read.push((packet.timestamp, packet.data.into_owned()));
        }
        assert_eq!(read[0], (Duration::new(1_800_000_000, 1), b"first".to_vec()));
        assert_eq!((read.len(), read[1].0.subsec_nanos()), (2, 2));
    }

    #[test]
    fn what_is_beyond_the_bound_is_counted_and_not_kept() {
        let mut frames = Frames::default();
        for _ in 0..9 {
            frames.add(Duration::ZERO, &vec![0; 1 << 20]);
        }
        frames.add(Duration::ZERO, b"small enough, but after a gap");
        assert_eq!((frames.cut(), frames.kept.len()), (2, 8));
    }
}
