//! Frames: how payloads stand in a write-ahead file (decisions.md LS4, chapter 9).
//!
//! A file is the magic `PCWAL001` and frames of length (u32), crc32c of the payload (u32), both little endian, and
//! the payload. Called by the writer, by recovery and by queries. A frame is never empty, so that a run of zeros
//! (a hole left by a crash) is not a frame, and never longer than a tile entry allows.

/// First bytes of a write-ahead file; the digits are the format version.
pub(crate) const MAGIC: [u8; 8] = *b"PCWAL001";

/// The part of the magic that all versions share.
const FAMILY: &[u8] = b"PCWAL";

/// Bytes before each payload.
pub(crate) const HEADER: usize = 8;

/// Longest payload.
pub(crate) const MAX_PAYLOAD: usize = 65_535;

/// Why the bytes at an offset are not a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    /// The file ends inside the frame.
    #[error("frame is cut off")]
    Cut,
    /// The length is zero or above 65,535.
    #[error("frame has an impossible length")]
    Length,
    /// The checksum does not match.
    #[error("frame checksum is wrong")]
    Checksum,
}

/// What the first bytes of a file say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Magic {
    Known,
    /// The file ends inside the magic, as after a crash while it was made.
    Cut,
    /// Zeros stand in its place: the first sector never reached the disk, as after a loss of power.
    Blank,
    /// Another format version of ours.
    Version,
    Foreign,
}

/// Looks at the first bytes of a file.
pub(crate) fn magic(bytes: &[u8]) -> Magic {
    if bytes.starts_with(&MAGIC) {
        Magic::Known
    } else if MAGIC.starts_with(bytes) {
        Magic::Cut
    } else if bytes.starts_with(FAMILY) {
        Magic::Version
    } else if bytes.iter().take(MAGIC.len()).all(|byte| *byte == 0) {
        Magic::Blank
    } else {
        Magic::Foreign
    }
}

/// Appends one frame; `fill` appends the payload. A payload that is empty or too long is taken back: `false`.
pub(crate) fn append(out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) -> bool {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER]);
    fill(out);
    let Some((header, payload)) = out.get_mut(start..).and_then(<[u8]>::split_first_chunk_mut::<HEADER>)
    else {
        return false;
    };
    match u32::try_from(payload.len()) {
        Ok(length) if payload.len() <= MAX_PAYLOAD && length > 0 => {
            let (length_at, checksum_at) = header.split_at_mut(4);
            length_at.copy_from_slice(&length.to_le_bytes());
            checksum_at.copy_from_slice(&crc32c::crc32c(payload).to_le_bytes());
            true
        }
        _ => {
            out.truncate(start);
            false
        }
    }
}

/// Walks the frames of a file from an offset on.
#[derive(Debug, Clone)]
pub(crate) struct Frames<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Frames<'a> {
    /// Starts after the magic.
    pub(crate) fn of_file(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: MAGIC.len() }
    }

    /// Starts at once: `bytes` hold frames only.
    pub(crate) fn of_batch(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: 0 }
    }

    /// Starts at an offset of a file, where a frame is expected.
    pub(crate) fn from(bytes: &'a [u8], offset: usize) -> Self {
        Self { bytes, offset }
    }

    /// Offset of the next frame; after an error, of the bad one.
    pub(crate) fn offset(&self) -> usize {
        self.offset
    }

    /// Whether any whole frame begins after the current offset: then what is bad here is not a torn tail.
    pub(crate) fn any_later(&self) -> bool {
        (self.offset + 1..self.bytes.len()).any(|at| matches!(frame_at(self.bytes, at), Ok(Some(_))))
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<&'a [u8], BadFrame>;

    /// The next payload; an error repeats for ever, as the walk cannot go past it.
    fn next(&mut self) -> Option<Self::Item> {
        match frame_at(self.bytes, self.offset) {
            Ok(None) => None,
            Ok(Some(payload)) => {
                self.offset += HEADER + payload.len();
                Some(Ok(payload))
            }
            Err(bad) => Some(Err(bad)),
        }
    }
}

fn frame_at(bytes: &[u8], offset: usize) -> Result<Option<&[u8]>, BadFrame> {
    let rest = bytes.get(offset..).unwrap_or_default();
    if rest.is_empty() {
        return Ok(None);
    }
    let (length, rest) = rest.split_first_chunk::<4>().ok_or(BadFrame::Cut)?;
    let (checksum, rest) = rest.split_first_chunk::<4>().ok_or(BadFrame::Cut)?;
    let length = usize::try_from(u32::from_le_bytes(*length)).or(Err(BadFrame::Length))?;
    if length == 0 || length > MAX_PAYLOAD {
        return Err(BadFrame::Length);
    }
    let payload = rest.get(..length).ok_or(BadFrame::Cut)?;
    if crc32c::crc32c(payload) != u32::from_le_bytes(*checksum) {
        return Err(BadFrame::Checksum);
    }
    Ok(Some(payload))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(payloads: &[Vec<u8>]) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        for payload in payloads {
            assert!(append(&mut out, |out| out.extend_from_slice(payload)));
        }
        out
    }

    #[test]
    fn empty_and_too_long_payloads_leave_no_trace() {
        let mut out = b"kept".to_vec();
        assert!(!append(&mut out, |_| ()));
        assert!(!append(&mut out, |out| out.resize(out.len() + MAX_PAYLOAD + 1, 7)));
        assert_eq!(out, b"kept");
        assert!(append(&mut out, |out| out.resize(out.len() + MAX_PAYLOAD, 7)));
    }

    #[test]
    fn a_hole_of_zeros_is_no_frame() {
        let mut bytes = MAGIC.to_vec();
        bytes.extend([0; 64]);
        assert_eq!(Frames::of_file(&bytes).next(), Some(Err(BadFrame::Length)));
    }

    #[test]
    fn magic_tells_a_cut_from_a_foreign_file_and_from_another_version() {
        assert_eq!(magic(b"PCWAL001rest"), Magic::Known);
        assert_eq!(magic(b""), Magic::Cut);
        assert_eq!(magic(b"PCWAL0"), Magic::Cut);
        assert_eq!(magic(b"PCWAL002"), Magic::Version);
        assert_eq!(magic(b"SQLite format 3"), Magic::Foreign);
        assert_eq!((magic(&[0; 5]), magic(&[0; 600])), (Magic::Blank, Magic::Blank));
        assert_eq!(magic(b"\0\0\0\0\0\0\x001"), Magic::Foreign);
    }

    #[test]
    fn a_flipped_bit_in_the_middle_is_told_from_a_torn_tail() {
        let bytes = file(&[vec![1; 40], vec![2; 40], vec![3; 40]]);
        let mut flipped = bytes.clone();
        flipped[MAGIC.len() + HEADER + 3] ^= 0x10;
        let mut frames = Frames::of_file(&flipped);
        assert_eq!(frames.next(), Some(Err(BadFrame::Checksum)));
        assert!(frames.any_later());

        let mut torn = Frames::of_file(&bytes[..bytes.len() - 5]);
        assert!(torn.by_ref().take(2).all(|frame| frame.is_ok()));
        assert_eq!(torn.next(), Some(Err(BadFrame::Cut)));
        assert!(!torn.any_later());
    }

    proptest! {
        #[test]
        fn frames_round_trip_and_every_cut_keeps_the_whole_ones(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..50), 0..8),
            cut in any::<prop::sample::Index>(),
        ) {
            let bytes = file(&payloads);
            let read: Vec<_> = Frames::of_file(&bytes).map(|frame| frame.unwrap().to_vec()).collect();
            prop_assert_eq!(&read, &payloads);

            let end = MAGIC.len() + cut.index(bytes.len() - MAGIC.len() + 1);
            let mut frames = Frames::of_file(&bytes[..end]);
            let whole = frames.by_ref().take_while(Result::is_ok).count();
            prop_assert!(whole <= payloads.len());
            prop_assert_eq!(frames.offset(), MAGIC.len() + payloads[..whole].iter().map(|p| p.len() + HEADER).sum::<usize>());
        }

        #[test]
        fn random_bytes_never_panic(bytes: Vec<u8>) {
            let mut frames = Frames::of_batch(&bytes);
            while let Some(Ok(_)) = frames.next() {}
            frames.any_later();
        }
    }
}
