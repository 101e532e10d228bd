//! Numbered placeholders for statements of many values: the one spelling that both databases take.

use std::fmt::Write as _;

/// `$4, $5, $6` for three values after the first three.
pub(super) fn values(before: usize, count: usize) -> String {
    let mut text = String::with_capacity(6 * count);
    for number in before + 1..=before + count {
        let comma = if number == before + 1 { "" } else { ", " };
        // Writing to a String does not fail.
        _ = write!(text, "{comma}${number}");
    }
    text
}

/// `($1, $2), ($3, $4)` for two rows of two columns.
pub(super) fn rows(count: usize, columns: usize) -> String {
    let mut text = String::with_capacity(count * (6 * columns + 4));
    for row in 0..count {
        let comma = if row == 0 { "" } else { ", " };
        _ = write!(text, "{comma}({})", values(row * columns, columns));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_counted_from_one_row_after_row() {
        assert_eq!(values(3, 3), "$4, $5, $6");
        assert_eq!(rows(2, 2), "($1, $2), ($3, $4)");
    }
}
