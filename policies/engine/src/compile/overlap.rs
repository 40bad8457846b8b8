//! What a file of policies has in common with the same file before: policies ahead of a change and behind it are taken
//! over as they are, so that a change costs what it touches. Texts are cut nowhere else than [`super::text`] cuts them:
//! from the end of a policy on, equal texts are cut alike.

use super::{policies::Item, text::newlines};
use std::ops::Range;

/// How far the policies behind a change moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Shift {
    pub(crate) bytes: isize,
    pub(crate) lines: isize,
}

/// The policies of a text before and where it differs from the text now.
#[derive(Debug)]
pub(crate) struct Overlap<'a> {
    items: &'a [Item],
    /// Bytes that differ, in the text before and in the text now.
    before: Range<usize>,
    now: Range<usize>,
    behind: Shift,
}

impl<'a> Overlap<'a> {
    /// `items` are all policies of the text `before`, in order.
    pub(crate) fn of(items: &'a [Item], before: &str, now: &str) -> Overlap<'a> {
        let (old, new) = (before.as_bytes(), now.as_bytes());
        let head = same_start(old, new);
        let tail = same_end(old, new).min(old.len().min(new.len()).saturating_sub(head));
        let (before, now) = (head..old.len().saturating_sub(tail), head..new.len().saturating_sub(tail));
        let lines = |text: &[u8], range: &Range<usize>| text.get(range.clone()).map_or(0, newlines);
        let behind = Shift {
            bytes: new.len().wrapping_sub(old.len()).cast_signed(),
            lines: lines(new, &now).wrapping_sub(lines(old, &before)).cast_signed(),
        };
        Overlap { items, before, now, behind }
    }

    /// The policy from before that comes next after the byte `at` of the text now, which is its start or the end of a
    /// policy; none where the text has to be read.
    pub(crate) fn next(&self, at: usize) -> Option<(&'a Item, Shift)> {
        let ahead = || {
            let item = self.after(at)?;
            (item.range.end <= self.before.start).then_some((item, Shift::default()))
        };
        let behind = || {
            let was = at.checked_add_signed(self.behind.bytes.checked_neg()?)?;
            Some((self.after(was).filter(|_| at >= self.now.end)?, self.behind))
        };
        ahead().or_else(behind).filter(|(item, _)| item.is_quiet())
    }

    /// The policy after `at`, when that is the start of the text or the end of a policy.
    fn after(&self, at: usize) -> Option<&'a Item> {
        let next = self.items.partition_point(|item| item.range.end <= at);
        let is_between = match next.checked_sub(1) {
            None => at == 0,
            Some(last) => self.items.get(last)?.range.end == at,
        };
        self.items.get(next).filter(|_| is_between)
    }

    /// The policies from before that [`Overlap::next`] may not tell: where the texts differ, and the one behind.
    pub(crate) fn touched(&self) -> &'a [Item] {
        let first = self.items.partition_point(|item| item.range.end <= self.before.start);
        let behind = self.items.partition_point(|item| item.range.start < self.before.end);
        let end = behind.saturating_add(1).min(self.items.len());
        self.items.get(first..end).unwrap_or_default()
    }
}

const BLOCK: usize = 64;

/// Equal bytes at the start of both; block by block, because whole files pass here on each change.
fn same_start(one: &[u8], two: &[u8]) -> usize {
    let blocks = one.as_chunks::<BLOCK>().0.iter().zip(two.as_chunks::<BLOCK>().0);
    let known = blocks.take_while(|(one, two)| one == two).count().saturating_mul(BLOCK);
    let rest = one.iter().skip(known).zip(two.iter().skip(known));
    rest.take_while(|(one, two)| one == two).count().saturating_add(known)
}

/// Equal bytes at the end of both.
fn same_end(one: &[u8], two: &[u8]) -> usize {
    let blocks = one.as_rchunks::<BLOCK>().1.iter().rev().zip(two.as_rchunks::<BLOCK>().1.iter().rev());
    let known = blocks.take_while(|(one, two)| one == two).count().saturating_mul(BLOCK);
    let rest = one.iter().rev().skip(known).zip(two.iter().rev().skip(known));
    rest.take_while(|(one, two)| one == two).count().saturating_add(known)
}
