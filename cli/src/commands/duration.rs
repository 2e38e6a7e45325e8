//! Lengths of time on the command line. Decides their one form: seconds, or a number with a unit.

use std::ops::RangeInclusive;

/// Reads a length of time such as `90`, `90s`, `15m`, `12h`, `7d`, in seconds, and refuses what is
/// outside `range`.
pub(crate) fn within<T: TryFrom<u64>>(
    range: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static {
    move |text| {
        let seconds = seconds(text)?;
        let refused = || match (*range.start(), *range.end()) {
            (least, u64::MAX) => format!("the least is {least} s"),
            (least, most) => format!("the least is {least} s, the most {most} s"),
        };
        match range.contains(&seconds) {
            true => T::try_from(seconds).map_err(|_| "this is too long".to_owned()),
            false => Err(refused()),
        }
    }
}

fn seconds(text: &str) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit: Option<u64> = match unit {
        "" | "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3_600),
        "d" => Some(86_400),
        _ => None,
    };
    let seconds = number.parse::<u64>().ok().zip(unit);
    seconds
        .and_then(|(number, unit)| number.checked_mul(unit))
        .ok_or_else(|| "give seconds, or a number with a unit: 10, 90s, 15m, 12h, 7d".to_owned())
}

/// All lengths, also none.
pub(crate) const ANY: RangeInclusive<u64> = 0..=u64::MAX;

/// All lengths but none.
pub(crate) const SOME: RangeInclusive<u64> = 1..=u64::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_time_is_seconds_or_has_a_unit() {
        let any = within::<u64>(ANY);
        for (text, seconds) in [
            ("10", 10),
            ("0", 0),
            ("90s", 90),
            ("15m", 900),
            ("12h", 43_200),
            ("7d", 604_800),
        ] {
            assert_eq!(any(text), Ok(seconds), "{text}");
        }
        for wrong in [
            "",
            "d",
            "-1d",
            "1.5h",
            "7 d",
            "1y",
            "99999999999999999999d",
            "7д",
            "s7",
        ] {
            assert!(any(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_too_short_or_too_long_is_refused() {
        assert_eq!(within::<u32>(1..=60)("1m"), Ok(60));
        for wrong in ["0", "61", "2h"] {
            let refused = within::<u32>(1..=60)(wrong).unwrap_err();
            assert_eq!(refused, "the least is 1 s, the most 60 s");
        }
        assert!(within::<u64>(SOME)("0s").is_err());
        // More than the type holds.
        assert!(within::<u16>(ANY)("7d").is_err());
    }
}
