//! Which bytes of one direction of a TCP connection were seen: sequence space, unwrapped.

use std::collections::BTreeMap;

/// Covered ranges of sequence numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// The 64-bit position of the last segment, whose low 32 bits are its sequence number. Starts
    /// one wrap up, so that what comes before the first segment has a position too.
    last: Option<i64>,
    /// Start of a range and its end, exclusive; disjoint, and not adjacent.
    ranges: BTreeMap<i64, i64>,
    /// Up to where the receiver acknowledged, exclusive.
    acknowledged: i64,
}

impl Coverage {
    /// Bytes `sequence .. sequence + len` were seen, once more or for the first time.
    pub fn add(&mut self, sequence: u32, len: u64) {
        let mut start = self.position(sequence);
        self.last = Some(start);
        let Ok(len) = i64::try_from(len) else { return };
        if len == 0 {
            return;
        }
        let mut end = start.saturating_add(len);
        // Everything that overlaps or touches becomes one range.
        while let Some((&from, &to)) = self.ranges.range(..=end).next_back() {
            if to < start {
                break;
            }
            self.ranges.remove(&from);
            start = start.min(from);
            end = end.max(to);
        }
        self.ranges.insert(start, end);
    }

    /// How many different bytes were seen.
    pub fn bytes(&self) -> u64 {
        self.ranges.iter().map(|(from, to)| to.abs_diff(*from)).sum()
    }

    /// The receiver has everything before `number`. Of no effect before the first segment.
    pub fn acknowledge(&mut self, number: u32) {
        if self.last.is_some() {
            self.acknowledged = self.acknowledged.max(self.position(number));
        }
    }

    /// How many different bytes were seen and acknowledged.
    pub fn acknowledged_bytes(&self) -> u64 {
        let upto = |(from, to): (&i64, &i64)| {
            (*to).min(self.acknowledged).saturating_sub(*from).max(0).unsigned_abs()
        };
        self.ranges.iter().map(upto).sum()
    }

    /// Segments are less than 2 GiB apart: TCP's own condition (RFC 7323, PAWS).
    fn position(&self, sequence: u32) -> i64 {
        match self.last {
            None => (1 << 32) + i64::from(sequence),
            Some(last) => last + i64::from(sequence.wrapping_sub(last as u32).cast_signed()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covered(segments: &[(u32, u64)]) -> u64 {
        let mut coverage = Coverage::default();
        for &(sequence, len) in segments {
            coverage.add(sequence, len);
        }
        coverage.bytes()
    }

    #[test]
    fn counts_each_byte_once() {
        assert_eq!(covered(&[(100, 50), (100, 50)]), 50);
        assert_eq!(covered(&[(100, 50), (120, 50)]), 70);
        assert_eq!(covered(&[(200, 10), (100, 50), (150, 50)]), 110);
        assert_eq!(covered(&[(100, 10), (300, 10), (50, 500)]), 500);
        assert_eq!(covered(&[(100, 0)]), 0);
    }

    #[test]
    fn counts_what_was_acknowledged() {
        let mut coverage = Coverage::default();
        coverage.acknowledge(5);
        coverage.add(u32::MAX - 9, 20);
        assert_eq!(coverage.acknowledged_bytes(), 0);
        coverage.acknowledge(4);
        assert_eq!(coverage.acknowledged_bytes(), 14);
        coverage.acknowledge(u32::MAX);
        assert_eq!(coverage.acknowledged_bytes(), 14);
        // The FIN takes a number, and is no byte.
        coverage.acknowledge(11);
        assert_eq!(coverage.acknowledged_bytes(), 20);
    }

    #[test]
    fn survives_the_wrap_of_sequence_numbers() {
        assert_eq!(covered(&[(u32::MAX - 9, 20), (10, 5)]), 25);
        assert_eq!(covered(&[(5, 5), (u32::MAX - 4, 10)]), 15);
    }
}
