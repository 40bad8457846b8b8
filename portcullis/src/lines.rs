//! How two texts differ, line by line, as people know it from version control. The API shows versions with it, the
//! command line directories. Not for machines: they compare texts by hash.

/// Lines around a change that are shown as well.
const AROUND: usize = 3;
/// Beyond this many pairs of lines the middle is shown as replaced: a table for it would cost more than it tells.
const MOST_PAIRS: usize = 4 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Same,
    Gone,
    New,
}

/// The difference of one file; a text that is not there is none. Empty when nothing differs.
pub(crate) fn difference(file: &str, before: Option<&str>, after: Option<&str>) -> String {
    if before == after {
        return String::new();
    }
    let head = match (before, after) {
        (None, _) => format!("added {file}\n"),
        (_, None) => format!("removed {file}\n"),
        _ => format!("changed {file}\n"),
    };
    let lines = compare(before.unwrap_or_default(), after.unwrap_or_default());
    head + &print(&lines)
}

fn compare<'a>(before: &'a str, after: &'a str) -> Vec<(Kind, &'a str)> {
    let (old, new): (Vec<_>, Vec<_>) = (before.lines().collect(), after.lines().collect());
    let start = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    let rest = |lines: &[&'a str]| lines.get(start..).unwrap_or_default().to_vec();
    let (mut old_middle, mut new_middle) = (rest(&old), rest(&new));
    let end =
        old_middle.iter().rev().zip(new_middle.iter().rev()).take_while(|(old, new)| old == new).count();
    let tail = old_middle.split_off(old_middle.len().saturating_sub(end));
    new_middle.truncate(new_middle.len().saturating_sub(end));
    let mut out: Vec<_> = old.iter().take(start).map(|line| (Kind::Same, *line)).collect();
    out.extend(middle(&old_middle, &new_middle));
    out.extend(tail.into_iter().map(|line| (Kind::Same, line)));
    out
}

/// The longest common subsequence keeps its lines; everything else is gone or new.
fn middle<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<(Kind, &'a str)> {
    let width = new.len().saturating_add(1);
    let gone = |lines: &[&'a str]| lines.iter().map(|line| (Kind::Gone, *line)).collect::<Vec<_>>();
    let fresh = |lines: &[&'a str]| lines.iter().map(|line| (Kind::New, *line)).collect::<Vec<_>>();
    if old.len().saturating_add(1).saturating_mul(width) > MOST_PAIRS {
        return [gone(old), fresh(new)].concat();
    }
    // length[i * width + j]: lines that old[i..] and new[j..] have in common.
    let mut length = vec![0u32; old.len().saturating_add(1).saturating_mul(width)];
    let at = |length: &[u32], i: usize, j: usize| length.get(i * width + j).copied().unwrap_or(0);
    for (i, left) in old.iter().enumerate().rev() {
        for (j, right) in new.iter().enumerate().rev() {
            let best = if left == right {
                at(&length, i + 1, j + 1) + 1
            } else {
                at(&length, i + 1, j).max(at(&length, i, j + 1))
            };
            if let Some(cell) = length.get_mut(i * width + j) {
                *cell = best;
            }
        }
    }
    let (mut i, mut j, mut out) = (0, 0, Vec::new());
    while let (Some(left), Some(right)) = (old.get(i), new.get(j)) {
        if left == right {
            out.push((Kind::Same, *left));
            (i, j) = (i + 1, j + 1);
        } else if at(&length, i + 1, j) >= at(&length, i, j + 1) {
            out.push((Kind::Gone, *left));
            i += 1;
        } else {
            out.push((Kind::New, *right));
            j += 1;
        }
    }
    out.extend(gone(old.get(i..).unwrap_or_default()));
    out.extend(fresh(new.get(j..).unwrap_or_default()));
    out
}

/// Changed lines with what stands around them.
fn print(lines: &[(Kind, &str)]) -> String {
    let changed: Vec<usize> =
        lines.iter().enumerate().filter(|(_, (kind, _))| *kind != Kind::Same).map(|(at, _)| at).collect();
    let near = |at: usize| {
        let after = changed.partition_point(|changed| changed.saturating_add(AROUND) < at);
        changed.get(after).is_some_and(|changed| changed.saturating_sub(AROUND) <= at)
    };
    let (mut out, mut skipped, mut number) = (String::new(), true, 0usize);
    for (at, (kind, line)) in lines.iter().enumerate() {
        number += usize::from(*kind != Kind::Gone);
        if !near(at) {
            skipped = true;
            continue;
        }
        if skipped {
            out.push_str(&format!("@@ line {}\n", number.max(1)));
            skipped = false;
        }
        let sign = match kind {
            Kind::Same => ' ',
            Kind::Gone => '-',
            Kind::New => '+',
        };
        out.push(sign);
        out.push_str(line);
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_line_stands_between_its_neighbours() {
        let before = "1\n2\n3\n4\n5\n6\n7\n8\n9\n";
        let after = "1\n2\n3\n4\nfive\n6\n7\n8\n9\n";
        assert_eq!(
            difference("a.cedar", Some(before), Some(after)),
            "changed a.cedar\n@@ line 2\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n"
        );
        assert_eq!(difference("a", Some("x\n"), Some("x\n")), "");
        assert_eq!(difference("a", None, Some("x\n")), "added a\n@@ line 1\n+x\n");
        assert_eq!(difference("a", Some("x\n"), None), "removed a\n@@ line 1\n-x\n");
    }

    #[test]
    fn what_is_kept_and_new_is_the_new_text_and_what_is_kept_and_gone_the_old_one() {
        let texts =
            ["", "a\n", "a\nb\nc\n", "b\nc\nd\n", "a\nx\nc\nd\n", "c\nb\na\n", "a\na\na\n", "a\nb\na\nb\n"];
        for before in texts {
            for after in texts {
                let lines = compare(before, after);
                let only = |not: Kind| {
                    lines
                        .iter()
                        .filter(|(kind, _)| *kind != not)
                        .map(|(_, line)| format!("{line}\n"))
                        .collect::<String>()
                };
                assert_eq!((only(Kind::New), only(Kind::Gone)), (before.to_owned(), after.to_owned()));
            }
        }
    }

    #[test]
    fn huge_texts_are_compared_without_a_huge_table() {
        let before = (0..20_000).map(|line| format!("{line}\n")).collect::<String>();
        let after = (0..20_000).map(|line| format!("x{line}\n")).collect::<String>();
        assert_eq!(compare(&before, &after).len(), 40_000);
    }
}
