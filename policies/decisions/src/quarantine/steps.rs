//! One pass over a write-ahead file: its records, and in their places the stretches that were set aside.
//!
//! Recovery and those who read a directory walk files with it, so that all of them give a record the same index.

use std::sync::Arc;

use super::Stretch;
use crate::frame::{BadFrame, Frames};

/// What comes next in a write-ahead file.
#[derive(Debug)]
pub(crate) enum Step<'a> {
    Record(&'a [u8]),
    Aside(Arc<Stretch>),
    /// No record, and not set aside. It repeats for ever, unless a stretch is passed over.
    Bad(BadFrame),
}

/// Walks a file from behind its magic on.
#[derive(Debug)]
pub(crate) struct Steps<'a> {
    bytes: &'a [u8],
    frames: Frames<'a>,
    index: u64,
    aside: Vec<Arc<Stretch>>,
}

impl<'a> Steps<'a> {
    /// `first` is the index of its first record, `aside` what was set aside of it.
    pub(crate) fn of_file(bytes: &'a [u8], first: u64, aside: Vec<Arc<Stretch>>) -> Self {
        Self { bytes, frames: Frames::of_file(bytes), index: first, aside }
    }

    /// Index of what comes next.
    pub(crate) fn index(&self) -> u64 {
        self.index
    }

    /// Offset of what comes next.
    pub(crate) fn offset(&self) -> usize {
        self.frames.offset()
    }

    /// Whether a whole frame begins after that.
    pub(crate) fn any_later(&self) -> bool {
        self.frames.any_later()
    }

    /// Goes on behind a stretch that begins here.
    pub(crate) fn pass(&mut self, stretch: &Stretch) {
        self.index = stretch.end();
        self.frames = Frames::from(self.bytes, stretch.next_offset());
    }
}

impl<'a> Iterator for Steps<'a> {
    type Item = Step<'a>;

    fn next(&mut self) -> Option<Step<'a>> {
        // Also where it can be read again: a tree may have what stands in its place.
        let (offset, index) = (self.offset() as u64, self.index);
        if let Some(stretch) = self.aside.iter().find(|known| known.is_at(offset, index)).cloned() {
            self.pass(&stretch);
            return Some(Step::Aside(stretch));
        }
        match self.frames.next()? {
            Ok(leaf) => {
                self.index += 1;
                Some(Step::Record(leaf))
            }
            Err(bad) => Some(Step::Bad(bad)),
        }
    }
}
