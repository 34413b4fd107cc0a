//! Bytes from the ring become a record.

use abi::Record;

use crate::document::{UnknownWord, Words};

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A record has one size.
    #[error("{0} bytes are not a record of {size}", size = size_of::<Record>())]
    Size(usize),
    /// A byte that names no member of its set.
    #[error(transparent)]
    Word(#[from] UnknownWord),
}

/// Decodes one item of the ring.
///
/// # Errors
/// Another size than a record's, or a byte that is no member of its set.
pub fn decode(bytes: &[u8]) -> Result<Record, DecodeError> {
    let record = Record::from_bytes(bytes.try_into().map_err(|_| DecodeError::Size(bytes.len()))?);
    Words::of(&record)?;
    Ok(record)
}

#[cfg(test)]
pub(crate) fn encode(record: &Record) -> [u8; size_of::<Record>()] {
    *record.as_bytes()
}

#[cfg(test)]
mod tests {
    use abi::{CloseReason, Direction, Hook, Reason, Verdict};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_decode_or_say_why(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            match decode(&bytes) {
                Ok(record) => prop_assert_eq!(&encode(&record)[..], &bytes[..]),
                Err(DecodeError::Size(size)) => prop_assert_eq!(size, bytes.len()),
                Err(DecodeError::Word(_)) => prop_assert_eq!(bytes.len(), size_of::<Record>()),
            }
        }

        #[test]
        fn a_record_survives_the_ring(
            noise in proptest::collection::vec(any::<u8>(), size_of::<Record>()),
            verdict in proptest::sample::select(Verdict::ALL),
            reason in proptest::sample::select(Reason::ALL),
            hook in proptest::sample::select(Hook::ALL),
            close_reason in proptest::sample::select(CloseReason::ALL),
            direction in proptest::sample::select(Direction::ALL),
            shift in 0_usize..8,
        ) {
            // SAFETY: as in `decode`: the size is right and every bit pattern is valid.
            let mut record = unsafe { noise.as_ptr().cast::<Record>().read_unaligned() };
            record.flow.verdict = verdict as u8;
            record.flow.reason = reason as u8;
            record.flow.hook = hook as u8;
            record.flow.close_reason = close_reason as u8;
            record.flow.direction = direction as u8;
            // At any alignment: the ring promises eight bytes, a spool file promises nothing.
            let mut shifted = vec![0; shift];
            shifted.extend_from_slice(&encode(&record));
            prop_assert_eq!(decode(&shifted[shift..]), Ok(record));
        }
    }

    #[test]
    fn an_unknown_verdict_is_named() {
        let mut record = crate::document::sample::record();
        record.flow.verdict = 9;
        assert_eq!(decode(&encode(&record)).unwrap_err().to_string(), "9 is not a known verdict");
    }
}
