//! Points in time as TOML writes them. Decides which of them is one moment everywhere.

use overlan_protocol::UnixTime;
use toml::value::{Datetime, Offset};

/// Returns the moment; `None` if the text leaves open where on Earth it is meant. Times before 1970
/// are long over.
pub(super) fn moment(text: &Datetime) -> Option<UnixTime> {
    let (date, time, offset) = (text.date?, text.time?, text.offset?);
    let minutes = match offset {
        Offset::Z => 0,
        Offset::Custom { minutes } => i64::from(minutes),
    };
    let days = days(
        i64::from(date.year),
        i64::from(date.month),
        i64::from(date.day),
    );
    let clock = i64::from(time.hour) * 3_600
        + i64::from(time.minute) * 60
        + i64::from(time.second.unwrap_or(0));
    let seconds = days * 86_400 + clock - minutes * 60;
    Some(UnixTime::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

/// Days from 1970-01-01 in the Gregorian calendar: years begin in March, so that the day that comes
/// and goes is their last one.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    let before = 365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    before + (153 * month + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use overlan_protocol::Utc;

    use super::*;

    #[test]
    fn moments_are_what_times_print() {
        for text in [
            "1970-01-01T00:00:00Z",
            "2000-02-29T23:59:59Z",
            "2026-11-30T20:15:00Z",
            "2100-03-01T00:00:00Z",
            "9999-12-31T23:59:59Z",
        ] {
            let moment = moment(&text.parse().unwrap()).unwrap();
            assert_eq!(Utc(moment).to_string(), text);
        }
        let there: Datetime = "2026-12-31T18:00:00+02:00".parse().unwrap();
        assert_eq!(
            Utc(moment(&there).unwrap()).to_string(),
            "2026-12-31T16:00:00Z"
        );
        let past: Datetime = "1960-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(moment(&past), Some(UnixTime::EPOCH));
        for text in ["2026-12-31", "18:00:00", "2026-12-31T18:00:00"] {
            assert_eq!(moment(&text.parse().unwrap()), None, "{text}");
        }
    }
}
