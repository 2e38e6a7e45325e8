//! Reads the one form of a date that HTTP servers send (RFC 9110, section 5.6.7):
//! `Sun, 06 Nov 1994 08:49:37 GMT`. Holds nothing.

/// Seconds since the Unix epoch; `None` for another form, and before 1970.
pub(super) fn parse(text: &str) -> Option<u64> {
    let (_, date) = text.split_once(", ")?;
    let mut parts = date.split(' ');
    let mut next = || parts.next();
    let day: u64 = next()?.parse().ok()?;
    let month = next()?;
    let month = MONTHS.iter().position(|name| *name == month)? as u64 + 1;
    let year: u64 = next()?.parse().ok()?;
    let mut clock = next()?.split(':').map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let is_whole = next()? == "GMT" && next().is_none() && clock.next().is_none();
    let in_range = (1..=31).contains(&day) && hour < 24 && minute < 60 && second <= 60;
    if !is_whole || !in_range || !(1970..10_000).contains(&year) {
        return None;
    }
    // A year that begins in March ends with the leap day.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leap_days = year / 4 - year / 100 + year / 400;
    let days = 365 * year + leap_days + (153 * month + 2) / 5 + day - 1;
    let days = days.checked_sub(DAYS_TO_1970)?;
    Some(days * 86_400 + hour * 3_600 + minute * 60 + second)
}

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// Days from 1 March of the year 0 to the Unix epoch.
const DAYS_TO_1970: u64 = 719_468;

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn dates_are_read_and_other_forms_are_not() {
        for (text, seconds) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)),
            ("Tue, 29 Feb 2000 23:59:59 GMT", Some(951_868_799)),
            ("Mon, 30 Nov 2026 08:00:00 GMT", Some(1_796_025_600)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", None),
            ("Sun Nov  6 08:49:37 1994", None),
            ("Sun, 06 Nov 1994 08:49:37 CET", None),
            ("Sun, 06 Nov 1994 25:49:37 GMT", None),
            ("Sun, 06 Nov 99999999999 08:49:37 GMT", None),
            ("", None),
        ] {
            assert_eq!(parse(text), seconds, "{text:?}");
        }
    }
}
