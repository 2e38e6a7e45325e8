//! The lines in which two texts differ. Decides which of them were taken out and which were put in.

/// Returns the changed lines, each with `-` or `+` before it, and unchanged ones around them with a
/// space; parts are introduced by `@@ line N @@`. Nothing for equal texts.
pub(super) fn changes(old: &str, new: &str) -> Vec<String> {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let script = script(&old, &new);
    let is_near = |at: usize| {
        let from = at.saturating_sub(CONTEXT);
        let near = script.iter().skip(from).take(at - from + CONTEXT + 1);
        near.into_iter().any(|(sign, _, _)| *sign != ' ')
    };
    let mut shown = Vec::new();
    let mut next = None;
    for (at, (sign, line, text)) in script.iter().enumerate() {
        if !is_near(at) {
            continue;
        }
        if next != Some(at) {
            shown.push(format!("@@ line {line} @@"));
        }
        next = Some(at + 1);
        shown.push(format!("{sign}{text}"));
    }
    shown
}

/// The whole of both texts as one list: a sign, the line's number in the old text, and the line.
fn script<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<(char, usize, &'a str)> {
    let same = |pairs: &mut dyn Iterator<Item = (&&str, &&str)>| {
        pairs.take_while(|(old, new)| old == new).count()
    };
    let head = same(&mut old.iter().zip(new));
    let tail = same(&mut old[head..].iter().rev().zip(new[head..].iter().rev()));
    let (left, right) = (&old[head..old.len() - tail], &new[head..new.len() - tail]);
    let mut script = Vec::with_capacity(old.len() + right.len());
    script.extend(
        old[..head]
            .iter()
            .zip(1..)
            .map(|(text, at)| (' ', at, *text)),
    );
    middle(left, right, head, &mut script);
    let rest = old[old.len() - tail..].iter();
    let first = old.len() - tail + 1;
    script.extend(rest.zip(first..).map(|(text, at)| (' ', at, *text)));
    script
}

/// The part between the lines with which both texts begin and those with which both end.
fn middle<'a>(
    left: &[&'a str],
    right: &[&'a str],
    before: usize,
    script: &mut Vec<(char, usize, &'a str)>,
) {
    let (rows, width) = (left.len(), right.len() + 1);
    // Longest common part of what follows each pair of lines; too large a table is not worth it.
    let mut common = vec![0u32; 0];
    let is_small = (rows + 1).saturating_mul(width) <= CELLS_MAX;
    if is_small {
        common.resize((rows + 1) * width, 0);
        for (at, old) in left.iter().enumerate().rev() {
            for (to, new) in right.iter().enumerate().rev() {
                common[at * width + to] = match old == new {
                    true => common[(at + 1) * width + to + 1] + 1,
                    false => common[(at + 1) * width + to].max(common[at * width + to + 1]),
                };
            }
        }
    }
    let (mut at, mut to) = (0, 0);
    while at < left.len() || to < right.len() {
        let number = before + at + 1;
        let is_same = is_small && at < left.len() && to < right.len() && left[at] == right[to];
        let takes_out = at < left.len()
            && (to >= right.len()
                || !is_small
                || common[(at + 1) * width + to] >= common[at * width + to + 1]);
        if is_same {
            script.push((' ', number, left[at]));
            (at, to) = (at + 1, to + 1);
        } else if takes_out {
            script.push(('-', number, left[at]));
            at += 1;
        } else {
            script.push(('+', number, right[to]));
            to += 1;
        }
    }
}

/// Unchanged lines that are shown before and after changed ones.
const CONTEXT: usize = 2;

/// Pairs of lines that are compared, 16 MB: beyond that all lines count as changed.
const CELLS_MAX: usize = 4_000_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn equal_texts_have_no_changes() {
        assert!(changes("", "").is_empty());
        assert!(changes("a\nb\n", "a\nb").is_empty());
    }

    #[test]
    fn changes_stand_among_their_neighbours() {
        let old = "1\n2\n3\n4\n5\n6\n7\n8\n9";
        let new = "1\n2\n3\n4\nfive\n6\n7\n8\n9\n10";
        assert_eq!(
            changes(old, new),
            [
                "@@ line 3 @@",
                " 3",
                " 4",
                "-5",
                "+five",
                " 6",
                " 7",
                " 8",
                " 9",
                "+10"
            ]
        );
    }

    proptest! {
        /// Without the lines that were put in it is the old text, without those that were taken out
        /// the new one.
        #[test]
        fn the_script_holds_both_texts(
            old in proptest::collection::vec("[ab]", 0..12),
            new in proptest::collection::vec("[ab]", 0..12),
        ) {
            let old: Vec<&str> = old.iter().map(String::as_str).collect();
            let new: Vec<&str> = new.iter().map(String::as_str).collect();
            let script = script(&old, &new);
            let without = |left_out: char| -> Vec<&str> {
                let kept = script.iter().filter(|(sign, _, _)| *sign != left_out);
                kept.map(|(_, _, text)| *text).collect()
            };
            prop_assert_eq!(without('+'), old);
            prop_assert_eq!(without('-'), new);
        }
    }
}
