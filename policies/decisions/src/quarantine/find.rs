//! What of the bytes of a write-ahead file is no record: where it begins and ends, and how many records it held.
//!
//! How many a file has is known from outside. A bad frame whose length leads to a good one held one record. Where the
//! length is damaged too, the rest of the count tells; where that leaves more than one answer, everything between the
//! first and the last such place is one stretch, so that no record behind it gets another index.

use super::Unread;
use crate::{
    frame::{Frames, HEADER},
    leaf::View,
};

/// The offset at which records go on behind a bad frame at `offset`; the end of the bytes where they do not.
pub(crate) fn next_frame(bytes: &[u8], offset: usize) -> usize {
    let is_record = |at: usize| {
        let mut frames = Frames::from(bytes, at);
        frames.next().is_some_and(|frame| frame.is_ok_and(|leaf| View::of(leaf).is_ok()))
    };
    let by_length = by_length(bytes, offset);
    let is_next = |at: &usize| *at == bytes.len() || is_record(*at);
    let found = by_length.filter(is_next).or_else(|| (offset + 1..bytes.len()).find(|at| is_record(*at)));
    found.unwrap_or(bytes.len())
}

/// Where the frame at an offset ends, as it says itself.
fn by_length(bytes: &[u8], offset: usize) -> Option<usize> {
    let length = bytes.get(offset..)?.first_chunk::<4>()?;
    let end = offset + HEADER + usize::try_from(u32::from_le_bytes(*length)).ok()?;
    (end <= bytes.len()).then_some(end)
}

/// The stretches of a file of `count` records, the first of which has the index `first`. None where the count cannot be.
pub(super) fn unread(bytes: &[u8], first: u64, count: u64) -> Vec<Unread> {
    let (mut frames, mut next) = (Frames::of_file(bytes), first);
    // Each with whether it certainly was one record.
    let mut found: Vec<(Unread, bool)> = Vec::new();
    while next < first + count {
        let offset = frames.offset();
        let why = match frames.next() {
            Some(Ok(_)) => {
                next += 1;
                continue;
            }
            Some(Err(bad)) => bad.to_string(),
            // What is missing was in a hole before.
            None if found.iter().any(|(_, is_one)| !is_one) => break,
            None => "the file ends before its records".to_owned(),
        };
        let end = next_frame(bytes, offset);
        let is_one = by_length(bytes, offset) == Some(end) && end < bytes.len();
        let (offset, bytes_in_it) = (offset as u64, (end - offset) as u64);
        found.push((Unread { first: next, count: 1, offset, bytes: bytes_in_it, why }, is_one));
        next += 1;
        if end >= bytes.len() {
            break;
        }
        frames = Frames::from(bytes, end);
    }
    counted(found, (first + count).saturating_sub(next))
}

/// Says which of the stretches held `more` records beyond one for each.
fn counted(mut found: Vec<(Unread, bool)>, more: u64) -> Vec<Unread> {
    if more > 0 {
        let unsure = |(_, is_one): &(Unread, bool)| !*is_one;
        let ends = found.iter().position(unsure).zip(found.iter().rposition(unsure));
        let Some((from, to)) = ends else { return Vec::new() };
        let joined: Vec<_> = found.drain(from..=to).collect();
        let Some(((begin, _), (last, _))) = joined.first().zip(joined.last()) else { return Vec::new() };
        let whole = Unread {
            count: last.first + 1 - begin.first + more,
            bytes: last.offset + last.bytes - begin.offset,
            ..begin.clone()
        };
        found.iter_mut().skip(from).for_each(|(behind, _)| behind.first += more);
        found.insert(from, (whole, true));
    }
    found.into_iter().map(|(unread, _)| unread).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        frame::{self, MAGIC},
        testing::leaf,
    };

    /// A file of that many records, and where each frame begins.
    fn file(records: usize) -> (Vec<u8>, Vec<usize>) {
        let (mut out, mut at) = (MAGIC.to_vec(), Vec::new());
        for n in 0..records {
            at.push(out.len());
            assert!(frame::append(&mut out, |out| out.extend(leaf(n as u64))));
        }
        (out, at)
    }

    fn told(found: &[Unread]) -> Vec<(u64, u64)> {
        found.iter().map(|unread| (unread.first, unread.count)).collect()
    }

    #[test]
    fn a_record_whose_length_is_whole_is_one_and_so_is_the_only_other_one() {
        let (whole, at) = file(9);
        assert_eq!(unread(&whole, 100, 9), []);
        let mut bytes = whole.clone();
        bytes[at[3] + HEADER + 5] ^= 1;
        bytes[at[6] + 1] ^= 0x40;
        let found = unread(&bytes, 100, 9);
        assert_eq!(told(&found), [(103, 1), (106, 1)]);
        assert_eq!((found[0].offset as usize, found[0].bytes as usize), (at[3], at[4] - at[3]));
        assert_eq!((found[1].offset as usize, found[1].bytes as usize), (at[6], at[7] - at[6]));
    }

    #[test]
    fn a_hole_holds_what_the_count_says_and_what_is_between_two_holes_goes_with_them() {
        let (whole, at) = file(12);
        let mut bytes = whole.clone();
        bytes[at[2]..at[5]].fill(0);
        assert_eq!(told(&unread(&bytes, 0, 12)), [(2, 3)]);
        bytes[at[7]..at[9]].fill(0);
        bytes[at[10] + HEADER + 1] ^= 1;
        let found = unread(&bytes, 0, 12);
        assert_eq!(told(&found), [(2, 7), (10, 1)]);
        assert_eq!(found[0].bytes as usize, at[9] - at[2]);
        // The end is missing.
        assert_eq!(told(&unread(&whole[..at[8] + 3], 0, 12)), [(8, 4)]);
        assert_eq!(told(&unread(&whole[..at[8]], 0, 12)), [(8, 4)]);
    }

    proptest! {
        #[test]
        fn whatever_is_damaged_every_record_that_is_given_keeps_its_index(
            count in 1..20_usize,
            damage in prop::collection::vec((any::<prop::sample::Index>(), 1..200_usize, any::<u8>()), 0..4),
        ) {
            let (mut bytes, _) = file(count);
            for (at, len, with) in damage {
                let at = MAGIC.len() + at.index(bytes.len() - MAGIC.len());
                let end = (at + len).min(bytes.len());
                bytes[at..end].fill(with);
            }
            let found = unread(&bytes, 0, count as u64);
            let (mut frames, mut index) = (Frames::of_file(&bytes), 0_u64);
            while index < count as u64 {
                if let Some(stretch) = found.iter().find(|unread| unread.offset == frames.offset() as u64) {
                    prop_assert_eq!(stretch.first, index);
                    index += stretch.count;
                    frames = Frames::from(&bytes, (stretch.offset + stretch.bytes) as usize);
                    continue;
                }
                let given = frames.next().and_then(Result::ok).map(<[u8]>::to_vec);
                prop_assert_eq!(given, Some(leaf(index)));
                index += 1;
            }
            prop_assert_eq!(index, count as u64);
        }
    }
}
