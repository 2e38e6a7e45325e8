//! The settings that changed while `up` runs. Decides which of them take effect at once and which
//! at the next start, and the sentence that reports it.

/// The names of the settings that changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ChangedSettings {
    now: Vec<String>,
    later: Vec<String>,
}

impl ChangedSettings {
    /// Compares the settings of one command before and after, each a key and its value as text.
    pub fn between<'a>(
        before: impl Iterator<Item = (&'a str, Option<&'a str>)>,
        after: impl Iterator<Item = (&'a str, Option<&'a str>)>,
    ) -> Self {
        let before: Vec<(&str, Option<&str>)> = before.collect();
        let mut changed = Self::default();
        for (key, _) in after.filter(|setting| !before.contains(setting)) {
            match AT_ONCE.contains(&key) {
                true => changed.now.push(key.to_owned()),
                false => changed.later.push(key.to_owned()),
            }
        }
        changed
    }

    /// Adds the setting of a file of secrets whose content changed, but not its name.
    pub fn add_now(&mut self, setting: &str) {
        if !self.now.iter().any(|known| known == setting) {
            self.now.push(setting.to_owned());
        }
    }

    /// Returns one sentence for people.
    #[must_use]
    pub fn sentence(&self) -> String {
        let later = match self.later.as_slice() {
            [] => String::new(),
            later => format!("; {} will change at the next start", later.join(", ")),
        };
        match self.now.as_slice() {
            [] if later.is_empty() => "Settings were read again; nothing changed.".to_owned(),
            [] => format!("Settings were read again; nothing changed yet{later}."),
            now => format!(
                "Settings were read again; changed: {}{later}.",
                now.join(", ")
            ),
        }
    }
}

/// The settings that take effect at once: those of the listeners, and the filter of the log.
const AT_ONCE: &[&str] = &[
    "log",
    "socks",
    "socks-unix-mode",
    "dns",
    "socks-user",
    "socks-password-file",
    "socks-public",
    "socks-idle-timeout",
    "hold",
    "proxy-direct",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn compare(
        before: &[(&'static str, &'static str)],
        after: &[(&'static str, &'static str)],
    ) -> ChangedSettings {
        let settings = |(key, value): &(&'static str, &'static str)| (*key, Some(*value));
        ChangedSettings::between(before.iter().map(settings), after.iter().map(settings))
    }

    #[test]
    fn settings_that_take_effect_at_once_are_named_apart_from_later_ones() {
        let before = [("hold", "10"), ("hostname", "web"), ("log", "warn")];
        let none = compare(&before, &before);
        assert_eq!(
            none.sentence(),
            "Settings were read again; nothing changed."
        );
        let after = [("hold", "3"), ("hostname", "db"), ("log", "debug")];
        assert_eq!(
            compare(&before, &after).sentence(),
            "Settings were read again; changed: hold, log; hostname will change at the next start."
        );
        let later = [("hold", "10"), ("hostname", "db"), ("log", "warn")];
        assert_eq!(
            compare(&before, &later).sentence(),
            "Settings were read again; nothing changed yet; hostname will change at the next start."
        );
    }
}
