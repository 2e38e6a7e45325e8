//! Reads a script: steps with a number and their bytes. Any bytes are one.

/// The bytes that are still to be read; when they have run out, all that is asked for is zero.
pub(super) struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Returns the next step's number, or `None` at the end.
    pub(super) fn step(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub(super) fn byte(&mut self) -> u8 {
        self.step().unwrap_or_default()
    }

    pub(super) fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// Returns as many bytes as the next word says, or what is left.
    pub(super) fn bytes(&mut self) -> &'a [u8] {
        let count = usize::from(self.word()).min(self.0.len());
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }

    /// Changes a byte of `message`, cuts it, or leaves it as it is.
    pub(super) fn damage(&mut self, message: &mut Vec<u8>) -> bool {
        let (at, change, cut) = (usize::from(self.word()), self.byte(), self.byte());
        if let Some(byte) = message.get_mut(at) {
            *byte ^= change;
        }
        let kept = message.len().saturating_sub(usize::from(cut));
        let damaged = cut > 0 || (change > 0 && at < message.len());
        message.truncate(kept);
        damaged
    }
}
