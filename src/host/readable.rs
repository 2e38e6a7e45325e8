//! Writes quantities and foreign text for a person at a terminal. Decides units and what is left
//! out; prints nothing.

/// `seconds` in the largest unit that says something.
#[must_use]
pub fn age(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        172_800.. => format!("{} days", seconds / 86_400),
    }
}

/// Replaces the control characters of foreign text: a terminal would obey them.
#[must_use]
pub fn printable(text: &str) -> String {
    text.replace(char::is_control, " ")
}
